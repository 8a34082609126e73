//! GET on a topic: a WebSocket, a stream of events, or one of lines.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::accept::Stream;
use super::answer;
use super::body::Content;
use super::connection::Connection;
use super::handshake::{self, Handshake};
use super::query::{Echo, Format};
use super::service::{Answer, Checked, Service};
use crate::auth::Right;
use crate::hub::{Joined, TopicName, VariantId};
use crate::id::Door;
use crate::protocol::{self, chunk};
use crate::reason::{Refusal, Refused};
use crate::worker::{Opening, Pending, Pick, Subscription};
use crate::ws::Agreement;

/// Range of the reconnection time that SSE clients are given, in milliseconds.
const SSE_RETRY: std::ops::RangeInclusive<u64> = 1000..=3000;

impl Service {
    /// Answers a handshake; the socket goes on when the answer is out.
    pub(super) fn upgrade(
        &self,
        connection: &Rc<Connection>,
        topic: &TopicName,
        checked: &Checked,
        handshake: &Handshake,
    ) -> Answer {
        let variant = match checked.query.format {
            Format::Native => protocol::NATIVE,
            Format::Json => protocol::JSON,
        };
        let agreement = self.agreement(&checked.parts.headers);
        let (opening, subscription) = self.opening(topic, checked, (variant, Door::Plain))?;
        let opening = Opening { deflate: agreement.map(Agreement::window), ..opening };
        let (pending, joined) = self.worker.open(opening, subscription, |joined| {
            (variant == protocol::JSON)
                .then(|| protocol::json::subscribed(topic, joined.position, joined.recovered))
        });
        let used_bearer = checked.identified.used_bearer.as_deref();
        let protocol = handshake.select_protocol(&[handshake::PLAIN], used_bearer);
        let mut response = switching_protocols(handshake, protocol, agreement);
        self.finish_joined(response.headers_mut(), &joined);
        connection.hand_over(pending);
        Ok(response)
    }

    /// What to answer about compression.
    pub(super) fn agreement(&self, headers: &HeaderMap) -> Option<Agreement> {
        if self.compression { handshake::agreement(headers) } else { None }
    }

    /// Answers with a stream that does not end.
    pub(super) fn stream(
        &self,
        connection: &Rc<Connection>,
        topic: &TopicName,
        checked: &Checked,
    ) -> Answer {
        let stream = Stream::negotiate(&checked.parts.headers)?;
        let (variant, door, content_type) = match (stream, checked.query.format) {
            (Stream::Sse, Format::Native) => (protocol::SSE, Door::Sse, "text/event-stream"),
            (Stream::Sse, Format::Json) => (protocol::SSE_JSON, Door::Sse, "text/event-stream"),
            (Stream::Ndjson, _) => (protocol::NDJSON, Door::Ndjson, "application/x-ndjson"),
        };
        let (opening, subscription) = self.opening(topic, checked, (variant, door))?;
        let greet = |joined: &Joined| Some(greeting(stream, topic, joined));
        let (pending, joined) = self.worker.open(opening, subscription, greet);
        let mut response = streaming(connection, pending, content_type);
        self.finish_joined(response.headers_mut(), &joined);
        Ok(response)
    }

    fn opening(
        &self,
        topic: &TopicName,
        checked: &Checked,
        (variant, door): (VariantId, Door),
    ) -> Result<(Opening, Subscription), Refused> {
        let rights = self.require(Right::Subscribe, topic, checked)?;
        let grant = checked.identified.identity.grant().cloned();
        if self.worker.hub().memory().is_scarce() {
            return Err(Refusal::MemoryLimit.into());
        }
        // A stream publishes nothing that it could leave out.
        let pick = match checked.query.echo {
            Echo::Off if door == Door::Plain => Pick::Others,
            Echo::On | Echo::Off => Pick::All,
        };
        let start = checked.query.start(&checked.parts.headers);
        let topic = topic.clone();
        let opening = Opening { rights, grant, door, deflate: None, session: None };
        Ok((opening, Subscription { topic, start, variant, pick }))
    }

    fn finish_joined(&self, headers: &mut HeaderMap, joined: &Joined) {
        answer::position_headers(headers, joined.position, joined.recovered);
        self.worker.metrics().count_recovery(joined.recovered);
    }
}

/// An answer that goes on for as long as its client stays, as `pending`. The end of the stream is
/// that of the connection, which no longer speaks HTTP.
pub(super) fn streaming(
    connection: &Connection,
    pending: Pending,
    content_type: &'static str,
) -> Response<Content> {
    connection.hand_over(pending.coded(connection.coding()));
    let mut response = Response::new(Content::Stream);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// What SSE clients are told to wait before they come back: not all at the same time.
pub(super) fn retry() -> Duration {
    Duration::from_millis(fastrand::u64(SSE_RETRY))
}

/// The answer to a handshake (RFC 6455 section 4.2.2).
pub(super) fn switching_protocols(
    handshake: &Handshake,
    protocol: Option<HeaderValue>,
    agreement: Option<Agreement>,
) -> Response<Content> {
    let mut response = Response::new(Content::short(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, handshake.accept_key());
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let extension = agreement.map(|agreement| HeaderValue::try_from(agreement.answer()));
    if let Some(Ok(extension)) = extension {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    response
}

/// What a stream says first.
fn greeting(stream: Stream, topic: &TopicName, joined: &Joined) -> Bytes {
    let words = match stream {
        Stream::Ndjson => protocol::ndjson::subscribed(topic, joined.position, joined.recovered),
        Stream::Sse => {
            let opening = protocol::sse::opening(retry(), &[joined.position]);
            let reset = (joined.recovered == Some(false))
                .then(|| protocol::sse::reset(topic, joined.position, &[joined.position]));
            Bytes::from([opening, reset.unwrap_or_default()].concat())
        }
    };
    chunk::of(&words).into()
}
