//! Answers requests on `listen`: publish, subscribe, read history, or a clear refusal.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::accept::Stream;
use super::answer::{self, Acceptance};
use super::body::{AnswerBody, Content};
use super::connection::{Busy, Connection};
use super::handshake::Handshake;
use super::origin::{self, OriginPolicy};
use super::payload::Declared;
use super::query::{Echo, Format, Query};
use super::route::Route;
use crate::auth::header::Field;
use crate::auth::{Access, Identified, Right};
use crate::drain::Drain;
use crate::hub::{
    Admission, Draft, IDEMPOTENCY_KEY_LEN_MAX, Joined, Publish, PublishError, TopicName, VariantId,
};
use crate::id::Door;
use crate::limits::Limits;
use crate::protocol;
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;
use crate::worker::{Opening, Pick, WorkerHandle};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The page at `/`.
const INDEX: &str = include_str!("../../examples/chat.html");

/// Range of the reconnection time that SSE clients are given.
const SSE_RETRY: std::ops::RangeInclusive<u64> = 1000..=3000;

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
}

type Answer = Result<Response<Content>, Refused>;

/// A request whose head is checked.
struct Checked {
    parts: Parts,
    body: Incoming,
    upgrade: hyper::upgrade::OnUpgrade,
    query: Query,
    identified: Identified,
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
        let allowed = self.origins.check(request.headers());
        let methods = Route::parse(request.uri().path(), self.limits.topic_name_bytes_max)
            .map_or("", |route| route.methods());
        let is_leaving = self.drain.is_draining() || connection.refused.is_some();
        let allow_origin = allowed.as_ref().ok().cloned().flatten();
        let result = match allowed {
            Ok(_) => self.handle(&connection, request).await?,
            Err(refused) => Err(refused),
        };
        let mut response = result.unwrap_or_else(|refused| {
            self.worker.metrics().count_refused(refused.refusal);
            tracing::debug!(code = refused.refusal.code(), message = %refused.message, "refused");
            answer::refused(&refused, methods).map(Content::Whole)
        });
        origin::cors_headers(response.headers_mut(), allow_origin);
        if is_leaving && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|content| AnswerBody::new(content, busy)))
    }

    async fn handle(
        &self,
        connection: &Rc<Connection>,
        mut request: Request<Incoming>,
    ) -> io::Result<Answer> {
        if let Some(refusal) = connection.refused {
            return Ok(Err(refusal.into()));
        }
        if self.drain.is_draining() {
            return Ok(Err(Refusal::Draining.into()));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let route = match Route::parse(parts.uri.path(), self.limits.topic_name_bytes_max) {
            Ok(route) => route,
            Err(refused) => return Ok(Err(refused)),
        };
        let handshake = match Handshake::check(&parts) {
            Ok(handshake) => handshake,
            Err(refused) => return Ok(Err(refused)),
        };
        if handshake.is_none() && parts.method == Method::OPTIONS {
            return Ok(Ok(origin::preflight(None).map(Content::Whole)));
        }
        let checked = self.check(parts, body, upgrade);
        match (route, checked) {
            (_, Err(refused)) => Ok(Err(refused)),
            (Route::Topic(topic), Ok(checked)) => match handshake {
                Some(handshake) => Ok(self.upgrade(connection, &topic, checked, &handshake)),
                None if checked.parts.method == Method::POST => {
                    self.publish(connection, topic, checked).await
                }
                None if checked.parts.method == Method::GET => {
                    Ok(self.stream(connection, &topic, &checked))
                }
                None => Ok(Err(Refusal::MethodNotAllowed.into())),
            },
            (_, Ok(_)) if handshake.is_some() => {
                let message = "a WebSocket handshake goes to /topics/{topic}";
                Ok(Err(Refusal::HandshakeInvalid.because(message)))
            }
            (_, Ok(checked)) if checked.parts.method != Method::GET => {
                Ok(Err(Refusal::MethodNotAllowed.into()))
            }
            (Route::History(topic), Ok(checked)) => Ok(self.history(&topic, &checked)),
            (Route::Presence(topic), Ok(checked)) => Ok(checked
                .identified
                .identity
                .require(Right::Presence, &topic)
                .and(Err(Refusal::PresenceOff.into()))),
            (Route::Index, Ok(_)) => Ok(self.index()),
        }
    }

    fn check(
        &self,
        parts: Parts,
        body: Incoming,
        upgrade: hyper::upgrade::OnUpgrade,
    ) -> Result<Checked, Refused> {
        let query = Query::parse(parts.uri.query())?;
        let identified = self.access.identify(&parts)?;
        Ok(Checked { parts, body, upgrade, query, identified })
    }

    fn index(&self) -> Answer {
        if !self.access.is_loopback_effective() {
            return Err(Refusal::NotFound.into());
        }
        let mut response = Response::new(Content::Whole(Bytes::from_static(INDEX.as_bytes())));
        let value = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, value);
        Ok(response)
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

    async fn publish(
        &self,
        connection: &Connection,
        topic: TopicName,
        checked: Checked,
    ) -> io::Result<Answer> {
        let Checked { parts, body, identified, .. } = checked;
        if !self.take_rate(connection) {
            return Ok(Err(Refusal::RateLimit.into()));
        }
        let declared = match check_publish(&topic, &parts.headers, &identified) {
            Ok(declared) => declared,
            Err(refused) => return Ok(Err(refused)),
        };
        let data = match self.read_body(&parts.headers, body).await? {
            Ok(data) => data,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(declared.kind(&data).and_then(|kind| {
            let draft = Draft {
                payload: protocol::plain::payload(kind, &data),
                session: None,
                user: identified.identity.user(),
            };
            self.accept(&topic, &draft, &parts.headers)
        }))
    }

    /// Takes one publication from the connection's allowance. Returns whether there was one.
    fn take_rate(&self, connection: &Connection) -> bool {
        let mut bucket = connection.bucket.get();
        let is_left = bucket.take(self.limits.publish_rate_max, Instant::now());
        connection.bucket.set(bucket);
        is_left
    }

    async fn read_body(
        &self,
        headers: &HeaderMap,
        body: Incoming,
    ) -> io::Result<Result<Bytes, Refused>> {
        let limit = self.limits.message_bytes_max;
        let announced = headers.get(http::header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let too_large = || {
            let message = format!("a message has at most {limit} bytes (limits.message_bytes_max)");
            Refusal::MessageTooLarge.because(message)
        };
        if announced.is_some_and(|len| len > limit as u64) {
            return Ok(Err(too_large()));
        }
        let patience = self.limits.http_idle_timeout;
        match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
            Ok(Ok(collected)) => Ok(Ok(collected.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Ok(Err(too_large())),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn accept(&self, topic: &TopicName, draft: &Draft, headers: &HeaderMap) -> Answer {
        let len = draft.payload.data().len() as u64;
        let options = Publish {
            now: Stamp::now(),
            admission: Admission::IfRoom,
            idempotency_key: idempotency_key(headers)?,
        };
        let published = self.worker.hub().publish(topic, draft, options);
        let published = published.map_err(|error| match error {
            PublishError::Overrun => Refusal::PublisherOverrun,
            PublishError::Memory => Refusal::MemoryLimit,
        })?;
        let acceptance = if published.duplicate {
            Acceptance::Duplicate
        } else {
            self.worker.metrics().count_publication(Door::Http, len);
            Acceptance::New
        };
        let body = answer::published_body(topic, published.position, acceptance);
        Ok(answer::json(body).map(Content::Whole))
    }

    fn upgrade(
        &self,
        connection: &Rc<Connection>,
        topic: &TopicName,
        checked: Checked,
        handshake: &Handshake,
    ) -> Answer {
        let variant = match checked.query.format {
            Format::Native => protocol::NATIVE,
            Format::Json => protocol::JSON,
        };
        let opening = self.opening(topic.clone(), &checked, (variant, Door::Plain))?;
        let (pending, joined) = self.worker.open(opening, |joined| {
            (variant == protocol::JSON)
                .then(|| protocol::json::subscribed(topic, joined.position, joined.recovered))
        });
        let mut response = Response::new(Content::Whole(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, handshake.accept_key());
        let used_bearer = checked.identified.used_bearer.as_deref();
        if let Some(protocol) = handshake.select_protocol(used_bearer) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        self.finish_joined(headers, &joined);
        *connection.upgrade.borrow_mut() = Some((pending, checked.upgrade));
        Ok(response)
    }

    fn stream(&self, connection: &Rc<Connection>, topic: &TopicName, checked: &Checked) -> Answer {
        let stream = Stream::negotiate(&checked.parts.headers)?;
        let (variant, door, content_type) = match (stream, checked.query.format) {
            (Stream::Sse, Format::Native) => (protocol::SSE, Door::Sse, "text/event-stream"),
            (Stream::Sse, Format::Json) => (protocol::SSE_JSON, Door::Sse, "text/event-stream"),
            (Stream::Ndjson, _) => (protocol::NDJSON, Door::Ndjson, "application/x-ndjson"),
        };
        let opening = self.opening(topic.clone(), checked, (variant, door))?;
        let (pending, joined) =
            self.worker.open(opening, |joined| Some(greeting(stream, topic, joined)));
        let body = pending.into_body(connection.carrier());
        let mut response = Response::new(Content::Stream(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        self.finish_joined(headers, &joined);
        Ok(response)
    }

    fn opening(
        &self,
        topic: TopicName,
        checked: &Checked,
        (variant, door): (VariantId, Door),
    ) -> Result<Opening, Refused> {
        let identity = checked.identified.identity;
        identity.require(Right::Subscribe, &topic)?;
        if self.worker.hub().memory().is_exhausted() {
            return Err(Refusal::MemoryLimit.into());
        }
        let pick = match checked.query.echo {
            Echo::On => Pick::All,
            Echo::Off => Pick::Others,
        };
        let start = checked.query.start(&checked.parts.headers);
        Ok(Opening { topic, start, variant, pick, identity, door })
    }

    fn finish_joined(&self, headers: &mut HeaderMap, joined: &Joined) {
        answer::position_headers(headers, joined.position, joined.recovered);
        match joined.recovered {
            Some(true) => self.worker.metrics().recovered.add(1),
            Some(false) => self.worker.metrics().not_recovered.add(1),
            None => {}
        }
    }
}

/// Everything that can refuse a publication before its body is read.
fn check_publish(
    topic: &TopicName,
    headers: &HeaderMap,
    identified: &Identified,
) -> Result<Declared, Refused> {
    identified.identity.require(Right::Publish, topic)?;
    idempotency_key(headers)?;
    Declared::read(headers)
}

/// What a stream says first.
fn greeting(stream: Stream, topic: &TopicName, joined: &Joined) -> Bytes {
    match stream {
        Stream::Ndjson => protocol::ndjson::subscribed(topic, joined.position, joined.recovered),
        Stream::Sse => {
            let retry = Duration::from_millis(fastrand::u64(SSE_RETRY));
            let opening = protocol::sse::opening(retry, joined.position);
            if joined.recovered != Some(false) {
                return opening;
            }
            let reset = protocol::sse::reset(topic, joined.position);
            Bytes::from([opening, reset].concat())
        }
    }
}

/// The idempotency key, if one is given.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    match Field::of(headers, IDEMPOTENCY_KEY) {
        Field::Absent => Ok(None),
        Field::One(key) if !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_LEN_MAX => Ok(Some(key)),
        Field::One(_) | Field::Faulty => {
            let message = format!("Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LEN_MAX} characters");
            Err(Refusal::QueryInvalid.because(message))
        }
    }
}
