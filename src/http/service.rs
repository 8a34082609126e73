//! Answers requests on `listen`: what is asked, by whom, and to which part it goes.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustls::ServerConfig;
use tokio::time::Instant;

use super::answer;
use super::body::{AnswerBody, Content};
use super::connection::{Busy, Connection};
use super::handshake::Handshake;
use super::origin::{self, OriginPolicy};
use super::query::Query;
use super::route::Route;
use crate::admission::Admission;
use crate::auth::header::Field;
use crate::auth::{Access, Client, Identified, Proxies, Right, Rights};
use crate::drain::Drain;
use crate::hub::TopicName;
use crate::limits::Limits;
use crate::reason::{Refusal, Refused};
use crate::worker::WorkerHandle;

/// The page at `/`.
const INDEX: &str = include_str!("../../examples/chat.html");

/// Members in an answer about presence, at most; how many there are is said in any case.
const PRESENCE_COUNT_MAX: usize = 1_000;

/// What answering takes, one per worker.
#[derive(Debug)]
pub struct Service {
    /// The worker on whose thread requests are answered.
    pub worker: WorkerHandle,
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Whose word about client addresses is taken.
    pub proxies: Arc<Proxies>,
    /// How many connections there may be, in all and per address.
    pub admission: Arc<Admission>,
    /// Which web pages may connect.
    pub origins: Arc<OriginPolicy>,
    /// The way out.
    pub drain: Arc<Drain>,
    /// Whether permessage-deflate is agreed on with those who offer it.
    pub compression: bool,
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
        let is_framed = is_framed_plainly(request.headers());
        let result = match origin_fault {
            _ if !is_framed => Err(Refusal::ContentEncodingUnsupported
                .because("Transfer-Encoding is `chunked` and nothing else")
                .into()),
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
                answer::refused(&refused, methods).map(Content::short)
            }
        };
        origin::cors_headers(response.headers_mut(), allow_origin);
        // An answer under way when the drain began leaves the connection open: its client is told
        // by the next one.
        let is_refused = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        let is_leaving = is_refused && self.drain.is_draining();
        if is_leaving || !is_framed || connection.refused.is_some() {
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
        if let Some((refusal, _)) = &connection.refused {
            return Err((*refusal).into());
        }
        if self.drain.is_draining() {
            return Err(Refusal::Draining.into());
        }
        let route = route?;
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let handshake = Handshake::check(&parts)?;
        if handshake.is_none() && parts.method == Method::OPTIONS {
            return Ok(origin::preflight(&route).map(Content::short));
        }
        if !route.takes(&parts.method) {
            return Err(Refusal::MethodNotAllowed.into());
        }
        if matches!(route, Route::Index) && !self.access.is_loopback_effective() {
            return Err(Refusal::NotFound.into());
        }
        match route {
            Route::Centrifugo | Route::UniSocket => {
                return self.connect(connection, &route, (parts, upgrade), handshake).await;
            }
            Route::Topics => return self.several(connection, (parts, upgrade), handshake).await,
            Route::CentrifugoStream
            | Route::CentrifugoEvents
            | Route::UniStream
            | Route::UniEvents
            | Route::Emulation
                if handshake.is_none() =>
            {
                return self.emulated(connection, &route, (parts, body)).await;
            }
            _ => {}
        }
        if let Route::Api(procedure) = route {
            self.count_client(connection, &parts)?;
            return self.call(procedure, &parts, body).await;
        }
        let is_post = parts.method == Method::POST;
        let query = Query::parse(parts.uri.query())?;
        let client = self.count_client(connection, &parts)?;
        if !is_post && matches!(route, Route::Topic(_)) {
            self.take_handshake(client)?;
        }
        let identified = self.access.identify(&parts, client).await?;
        let checked = Checked { parts, body, upgrade, query, identified };
        match (route, handshake) {
            (Route::Topic(topic), Some(handshake)) => {
                self.upgrade(connection, &topic, checked, &handshake)
            }
            (_, Some(_)) => {
                let message = "a WebSocket handshake goes to /topics/{topic}, \
                               /connection/websocket or /connection/uni_websocket";
                Err(Refusal::HandshakeInvalid.because(message).into())
            }
            (Route::Topic(topic), None) if is_post => {
                self.publish(connection, &topic, checked).await
            }
            (Route::Topic(topic), None) => self.stream(connection, &topic, &checked),
            (Route::History(topic), None) => self.history(&topic, &checked),
            (Route::Presence(topic), None) => self.presence(&topic, &checked),
            (Route::Index, None) => Ok(index()),
            // All others have been answered.
            (_, None) => Err(Refusal::NotFound.into()),
        }
    }

    fn history(&self, topic: &TopicName, checked: &Checked) -> Answer {
        self.require(Right::History, topic, checked)?;
        let hub = self.worker.hub();
        if !hub.has_history(topic) {
            return Err(Refusal::HistoryOff.into());
        }
        if hub.memory().is_exhausted() {
            return Err(Refusal::MemoryLimit.into());
        }
        let (since, limit) = (checked.query.since(), checked.query.limit);
        let page = hub.page(topic, since, limit);
        let body = if let Some(page) = &page {
            answer::history_body(topic, Some(page.top), page.recovered, &page.publications)
        } else {
            let recovered = since.map(|since| since.epoch.is_none() && since.offset == 0);
            answer::history_body(topic, None, recovered, &[])
        };
        Ok(answer::json(body).map(|body| Content::long(body, hub.memory())))
    }

    fn presence(&self, topic: &TopicName, checked: &Checked) -> Answer {
        self.require(Right::Presence, topic, checked)?;
        let hub = self.worker.hub();
        if hub.memory().is_exhausted() {
            return Err(Refusal::MemoryLimit.into());
        }
        let presence = hub.presence(topic, PRESENCE_COUNT_MAX).ok_or(Refusal::PresenceOff)?;
        let body = answer::presence_body(topic, &presence);
        Ok(answer::json(body).map(|body| Content::long(body, hub.memory())))
    }

    /// Asks whether the client may do that; gives all its rights on the topic.
    pub(super) fn require(
        &self,
        right: Right,
        topic: &TopicName,
        checked: &Checked,
    ) -> Result<Rights, Refused> {
        let rule = self.worker.hub().rule(topic);
        self.access.require(right, &checked.identified.identity, topic, rule)
    }

    /// Finds out who the request's client is. A trusted proxy's is counted for as long as its request
    /// takes, and on as a WebSocket; others were counted when they connected.
    pub(super) fn count_client(
        &self,
        connection: &Connection,
        parts: &Parts,
    ) -> Result<Client, Refused> {
        let client = self.proxies.client(connection.peer, &parts.headers);
        if self.proxies.has(connection.peer) {
            let place = self.admission.enter_address(client.address())?;
            *connection.address.borrow_mut() = place;
        }
        Ok(client)
    }

    /// Takes one from what the client's address may open in this second.
    pub(super) fn take_handshake(&self, client: Client) -> Result<(), Refused> {
        if self.admission.take_handshake(client.address(), Instant::now()) {
            return Ok(());
        }
        let message = "more handshakes and streams from this address than \
                       limits.handshake_rate_per_address_max; try again later";
        Err(Refusal::RateLimit.because(message))
    }
}

/// Whether everybody on the way sees the request end at the same byte: hyper takes any list of
/// transfer codings that ends in `chunked`, others may not (RFC 9112 section 6.1).
fn is_framed_plainly(headers: &HeaderMap) -> bool {
    match Field::of(headers, TRANSFER_ENCODING) {
        Field::Absent => true,
        Field::One(coding) => coding.eq_ignore_ascii_case("chunked"),
        Field::Faulty => false,
    }
}

/// The page to try topics with.
fn index() -> Response<Content> {
    let mut response = Response::new(Content::short(Bytes::from_static(INDEX.as_bytes())));
    let value = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}
