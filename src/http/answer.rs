//! Bodies and heads of answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::hub::{Epoch, Position, Presence, Publication, TopicName};
use crate::protocol::object;
use crate::reason::{Refusal, Refused};

const EPOCH: HeaderName = HeaderName::from_static("fanwire-epoch");
const OFFSET: HeaderName = HeaderName::from_static("fanwire-offset");
const RECOVERED: HeaderName = HeaderName::from_static("fanwire-recovered");

/// Whether an accepted publication is new, or a repeat of its idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It was published now.
    New,
    /// It was published before; nothing happened now.
    Duplicate,
}

/// The whole answer to a refused request. `methods` are those of the path, for a 405.
pub fn refused(refused: &Refused, methods: &'static str) -> Response<Bytes> {
    let refusal = refused.refusal;
    let mut response = json(error_body(refusal, &refused.message));
    *response.status_mut() =
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    let mut set = |name, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    match refusal.status() {
        401 => set(WWW_AUTHENTICATE, "Bearer"),
        405 => set(ALLOW, methods),
        426 => {
            set(SEC_WEBSOCKET_VERSION, "13");
            set(UPGRADE, "websocket");
            set(CONNECTION, "Upgrade");
        }
        _ => {}
    }
    response
}

/// A 200 with a JSON body.
pub fn json(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

/// Sets the headers of a stream's or handshake's answer: where it begins.
///
/// `position` is `None` where the topic keeps no history, `recovered` where no position was asked.
pub fn position_headers(
    headers: &mut HeaderMap,
    position: Option<Position>,
    recovered: Option<bool>,
) {
    if let Some(Position { epoch, offset }) = position {
        headers.insert(EPOCH, epoch_value(epoch));
        headers.insert(OFFSET, offset.into());
    }
    if let Some(recovered) = recovered {
        let value = if recovered { "true" } else { "false" };
        headers.insert(RECOVERED, HeaderValue::from_static(value));
    }
}

/// `{"error":{"code","message"}}`.
pub fn error_body(refusal: Refusal, message: &str) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Fault<'a>,
    }
    #[derive(Serialize)]
    struct Fault<'a> {
        code: &'static str,
        message: &'a str,
    }
    let code = refusal.code();
    let error = Fault { code, message };
    body(&Body { error })
}

/// `{"topic","offset","epoch"}`, the latter two only with history; `"duplicate":true` for a repeat.
pub fn published_body(
    topic: &TopicName,
    position: Option<Position>,
    acceptance: Acceptance,
) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        topic: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duplicate: Option<bool>,
    }
    body(&Body {
        topic: topic.as_str(),
        offset: position.map(|position| position.offset),
        epoch: position.as_ref().map(|position| position.epoch.as_str()),
        duplicate: (acceptance == Acceptance::Duplicate).then_some(true),
    })
}

/// `{"topic","epoch","offset","recovered","publications":[...]}`.
///
/// `position` is the top; `None` is a topic that nobody knows: no epoch, offset 0. `recovered` is
/// `None` where no position was asked.
pub fn history_body(
    topic: &TopicName,
    position: Option<Position>,
    recovered: Option<bool>,
    publications: &[Arc<Publication>],
) -> Bytes {
    #[derive(Serialize)]
    struct Head<'a> {
        topic: &'a str,
        epoch: &'a str,
        offset: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
    }
    let mut body = encoded(&Head {
        topic: topic.as_str(),
        epoch: position.as_ref().map_or("", |top| top.epoch.as_str()),
        offset: position.map_or(0, |top| top.offset),
        recovered,
    });
    // The list goes where the head's brace closes.
    body.pop();
    body.extend_from_slice(b",\"publications\":[");
    for (index, publication) in publications.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        append(&mut body, publication, topic);
    }
    body.extend_from_slice(b"]}");
    Bytes::from(body)
}

/// `{"topic","clients","users","members":[{"client","user"}]}`.
pub fn presence_body(topic: &TopicName, presence: &Presence) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        topic: &'a str,
        clients: usize,
        users: usize,
        members: Vec<Member<'a>>,
    }
    #[derive(Serialize)]
    struct Member<'a> {
        client: &'a str,
        user: &'a str,
    }
    let members = presence.members.iter();
    let members = members.map(|peer| Member { client: &peer.client, user: &peer.user });
    body(&Body {
        topic: topic.as_str(),
        clients: presence.clients,
        users: presence.users,
        members: members.collect(),
    })
}

fn epoch_value(epoch: Epoch) -> HeaderValue {
    HeaderValue::from_str(epoch.as_str()).expect("an epoch is alphanumeric")
}

fn append(body: &mut Vec<u8>, publication: &Publication, topic: &TopicName) {
    object::publication(body, publication, topic).expect("writing to memory cannot fail");
}

fn body(value: &impl Serialize) -> Bytes {
    Bytes::from(encoded(value))
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a struct of strings and numbers is always JSON")
}

#[cfg(test)]
mod tests;
