//! GET on several topics: one stream or one WebSocket of all of them.

use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};

use super::accept::Stream;
use super::answer;
use super::body::Content;
use super::connection::Connection;
use super::handshake::{Handshake, PLAIN};
use super::query::{Format, TopicsQuery};
use super::service::{Answer, Service};
use super::subscribe::{retry, streaming, switching_protocols};
use crate::auth::{Identified, Right, Rights};
use crate::hub::{Joined, TopicName, VariantId};
use crate::id::Door;
use crate::protocol::{self, chunk, json, ndjson, sse};
use crate::reason::Refusal;
use crate::worker::{Bookmark, Opening, Pending, Pick, Subscription};
use crate::ws::{Agreement, Window};

/// A request for several topics whose client may follow them all.
struct Asked {
    parts: Parts,
    query: TopicsQuery,
    identified: Identified,
}

/// How publications get to the client.
#[derive(Debug, Clone, Copy)]
struct Way {
    door: Door,
    variant: VariantId,
    deflate: Option<Window>,
}

impl Service {
    /// Answers a request for several topics: a handshake, or one for a stream.
    pub(super) async fn several(
        &self,
        connection: &Rc<Connection>,
        parts: Parts,
        handshake: Option<Handshake>,
    ) -> Answer {
        let query = TopicsQuery::parse(parts.uri.query(), &self.limits)?;
        if handshake.is_some() && query.format == Format::Native {
            let message = "a WebSocket of several topics needs format=json: \
                           a bare payload does not tell its topic";
            return Err(Refusal::HandshakeInvalid.because(message).into());
        }
        let client = self.count_client(connection, &parts)?;
        self.take_handshake(client)?;
        let identified = self.access.identify(&parts, client).await?;
        for topic in &query.topics {
            let rule = self.worker.hub().rule(topic);
            self.access.require(Right::Subscribe, &identified.identity, topic, rule)?;
        }
        if self.worker.hub().memory().is_scarce() {
            return Err(Refusal::MemoryLimit.into());
        }
        let asked = Asked { parts, query, identified };
        match handshake {
            Some(handshake) => Ok(self.upgrade_several(connection, &asked, &handshake)),
            None => self.stream_several(connection, &asked),
        }
    }

    fn upgrade_several(
        &self,
        connection: &Rc<Connection>,
        asked: &Asked,
        handshake: &Handshake,
    ) -> Response<Content> {
        let agreement = self.agreement(&asked.parts.headers);
        let deflate = agreement.map(Agreement::window);
        let way = Way { door: Door::Plain, variant: protocol::JSON, deflate };
        let (pending, joined) = self.open_several(asked, way);
        let used_bearer = asked.identified.used_bearer.as_deref();
        let protocol = handshake.select_protocol(&[PLAIN], used_bearer);
        let mut response = switching_protocols(handshake, protocol, agreement);
        self.finish_several(response.headers_mut(), &joined);
        connection.hand_over(pending);
        response
    }

    fn stream_several(&self, connection: &Rc<Connection>, asked: &Asked) -> Answer {
        let (door, variant) = match (Stream::negotiate(&asked.parts.headers)?, asked.query.format) {
            (Stream::Sse, Format::Native) => (Door::Sse, protocol::SSE_SEVERAL),
            (Stream::Sse, Format::Json) => (Door::Sse, protocol::SSE_JSON_SEVERAL),
            (Stream::Ndjson, _) => (Door::Ndjson, protocol::NDJSON),
        };
        let (pending, joined) = self.open_several(asked, Way { door, variant, deflate: None });
        let mut response = if door == Door::Sse {
            let pending = pending.with(Bookmark::new(&joined));
            streaming(connection, pending, "text/event-stream")
        } else {
            streaming(connection, pending, "application/x-ndjson")
        };
        self.finish_several(response.headers_mut(), &joined);
        Ok(response)
    }

    fn open_several(&self, asked: &Asked, way: Way) -> (Pending, Vec<Joined>) {
        let Way { door, variant, deflate } = way;
        let topics = &asked.query.topics;
        // There is no one topic that what the client sends could be for.
        let rights = Rights::NONE;
        let grant = asked.identified.identity.grant().cloned();
        let opening = Opening { rights, grant, door, deflate, session: None };
        let starts = asked.query.starts(&asked.parts.headers);
        let subscriptions = topics.iter().cloned().zip(starts);
        let subscriptions = subscriptions.map(|(topic, start)| Subscription {
            topic,
            start,
            variant,
            pick: Pick::All,
        });
        self.worker
            .open_several(opening, subscriptions.collect(), |joined| greeting(door, topics, joined))
    }

    fn finish_several(&self, headers: &mut HeaderMap, joined: &[Joined]) {
        for joined in joined {
            self.worker.metrics().count_recovery(joined.recovered);
        }
        let asked = joined.iter().filter_map(|joined| joined.recovered);
        let recovered = asked.reduce(|all, recovered| all && recovered);
        answer::position_headers(headers, None, recovered);
    }
}

/// What a client is told first.
fn greeting(door: Door, topics: &[TopicName], joined: &[Joined]) -> Bytes {
    let places = topics.iter().zip(joined);
    let words: Vec<Bytes> = match door {
        Door::Sse => {
            let positions: Vec<_> = joined.iter().map(|joined| joined.position).collect();
            let lost = places.filter(|(_, joined)| joined.recovered == Some(false));
            let resets = lost.map(|(topic, joined)| sse::reset(topic, joined.position, &positions));
            std::iter::once(sse::opening(retry(), &positions)).chain(resets).collect()
        }
        Door::Ndjson => places
            .map(|(topic, joined)| ndjson::subscribed(topic, joined.position, joined.recovered))
            .collect(),
        _ => places
            .map(|(topic, joined)| json::subscribed(topic, joined.position, joined.recovered))
            .collect(),
    };
    let words = words.concat();
    match door {
        Door::Sse | Door::Ndjson => chunk::of(&words).into(),
        _ => words.into(),
    }
}
