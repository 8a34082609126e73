//! Answers requests on `listen`: what is asked, by whom, and to which part it goes.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustls::ServerConfig;

use super::answer;
use super::body::{AnswerBody, Content};
use super::connection::{Busy, Connection};
use super::handshake::Handshake;
use super::origin::{self, OriginPolicy};
use super::query::Query;
use super::route::Route;
use crate::auth::{Access, Identified, Right};
use crate::drain::Drain;
use crate::hub::TopicName;
use crate::limits::Limits;
use crate::reason::{Refusal, Refused};
use crate::worker::WorkerHandle;

/// The page at `/`.
const INDEX: &str = include_str!("../../examples/chat.html");

/// What answering takes, one per worker.
#[derive(Debug)]
pub struct Service {
    /// The worker on whose thread requests are answered.
    pub worker: WorkerHandle,
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Which web pages may connect.
    pub origins: Arc<OriginPolicy>,
    /// The way out.
    pub drain: Arc<Drain>,
    /// What TLS handshakes are made with, if the port speaks TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// An answer, or why there is none.
pub(super) type Answer = Result<Response<Content>, Fault>;

/// Why a request is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It gets an error answer.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Its body did not arrive: the connection closes without an answer.
    #[error("the request's body did not arrive")]
    Body(#[source] io::Error),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

/// A request whose head is checked.
pub(super) struct Checked {
    pub(super) parts: Parts,
    pub(super) body: Incoming,
    pub(super) upgrade: OnUpgrade,
    pub(super) query: Query,
    pub(super) identified: Identified,
}

impl Service {
    /// Answers one request.
    ///
    /// # Errors
    /// When the request's body does not arrive: the connection closes without an answer.
    pub async fn answer(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> io::Result<Response<AnswerBody>> {
        let busy = Busy::enter(&connection);
        let route = Route::parse(request.uri().path(), self.limits.topic_name_bytes_max);
        let methods = route.as_ref().map_or("", Route::methods);
        let (allow_origin, origin_fault) = match self.origins.check(request.headers()) {
            Ok(allow_origin) => (allow_origin, None),
            Err(refused) => (None, Some(refused)),
        };
        let result = match origin_fault {
            Some(refused) => Err(refused.into()),
            None => self.handle(&connection, route, request).await,
        };
        let mut response = match result {
            Ok(response) => response,
            Err(Fault::Body(error)) => return Err(error),
            Err(Fault::Refused(refused)) => {
                self.worker.metrics().count_refused(refused.refusal);
                let (code, message) = (refused.refusal.code(), &refused.message);
                tracing::debug!(code, %message, "refused");
                answer::refused(&refused, methods).map(Content::Whole)
            }
        };
        origin::cors_headers(response.headers_mut(), allow_origin);
        // An answer under way when the drain began leaves the connection open: its client is told
        // by the next one.
        let is_refused = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        if is_refused && self.drain.is_draining() || connection.refused.is_some() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|content| AnswerBody::new(content, busy)))
    }

    async fn handle(
        &self,
        connection: &Rc<Connection>,
        route: Result<Route, Refused>,
        mut request: Request<Incoming>,
    ) -> Answer {
        if let Some(refusal) = connection.refused {
            return Err(refusal.into());
        }
        if self.drain.is_draining() {
            return Err(Refusal::Draining.into());
        }
        let route = route?;
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let handshake = Handshake::check(&parts)?;
        if handshake.is_none() && parts.method == Method::OPTIONS {
            return Ok(origin::preflight(None).map(Content::Whole));
        }
        let is_post = parts.method == Method::POST && matches!(route, Route::Topic(_));
        if !is_post && parts.method != Method::GET {
            return Err(Refusal::MethodNotAllowed.into());
        }
        if matches!(route, Route::Index) && !self.access.is_loopback_effective() {
            return Err(Refusal::NotFound.into());
        }
        let query = Query::parse(parts.uri.query())?;
        let identified = self.access.identify(&parts)?;
        let checked = Checked { parts, body, upgrade, query, identified };
        match (route, handshake) {
            (Route::Topic(topic), Some(handshake)) => {
                self.upgrade(connection, &topic, checked, &handshake)
            }
            (_, Some(_)) => {
                let message = "a WebSocket handshake goes to /topics/{topic}";
                Err(Refusal::HandshakeInvalid.because(message).into())
            }
            (Route::Topic(topic), None) if is_post => {
                self.publish(connection, &topic, checked).await
            }
            (Route::Topic(topic), None) => self.stream(connection, &topic, &checked),
            (Route::History(topic), None) => self.history(&topic, &checked),
            (Route::Presence(topic), None) => match presence(&topic, &checked)? {},
            (Route::Index, None) => Ok(index()),
        }
    }

    fn history(&self, topic: &TopicName, checked: &Checked) -> Answer {
        checked.identified.identity.require(Right::History, topic)?;
        let hub = self.worker.hub();
        if !hub.has_history(topic) {
            return Err(Refusal::HistoryOff.into());
        }
        let (since, limit) = (checked.query.since(), checked.query.limit);
        let page = hub.page(topic, since, limit);
        let body = if let Some(page) = &page {
            answer::history_body(topic, Some(page.top), page.recovered, &page.publications)
        } else {
            let recovered = since.map(|since| since.epoch.is_none() && since.offset == 0);
            answer::history_body(topic, None, recovered, &[])
        };
        Ok(answer::json(body).map(Content::Whole))
    }
}

/// No topic of this build has presence.
fn presence(topic: &TopicName, checked: &Checked) -> Result<Infallible, Fault> {
    checked.identified.identity.require(Right::Presence, topic)?;
    Err(Refusal::PresenceOff.into())
}

/// The page to try topics with.
fn index() -> Response<Content> {
    let mut response = Response::new(Content::Whole(Bytes::from_static(INDEX.as_bytes())));
    let value = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}
