//! The WebSocket opening handshake (RFC 6455 section 4.2): what is one, and what is wrong with it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use sha1::{Digest, Sha1};

use crate::auth::header::{Field, host, list};
use crate::reason::{Refusal, Refused};
use crate::ws::Agreement;

/// What a key is joined with to prove that the answer is one (RFC 6455 section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_LEN: usize = 16;
/// The subprotocol of the plain door.
pub const PLAIN: &str = "fanwire.plain";

/// A handshake without fault.
#[derive(Debug, Clone)]
pub struct Handshake {
    accept_key: HeaderValue,
    protocols: Vec<String>,
}

impl Handshake {
    /// Says whether the request is a handshake; `None` is an ordinary request.
    ///
    /// Whoever sends anything that only a handshake has must send a whole one.
    ///
    /// # Errors
    /// 405, 400 `handshake_invalid` or 426, in this order.
    pub fn check(parts: &Parts) -> Result<Option<Self>, Refused> {
        let headers = &parts.headers;
        if !is_handshake(headers) {
            return Ok(None);
        }
        if parts.method != Method::GET {
            return Err(Refusal::MethodNotAllowed.because("a WebSocket handshake is a GET"));
        }
        let accept_key = check_structure(parts.version, headers)
            .map_err(|message| Refusal::HandshakeInvalid.because(message))?;
        if Field::of(headers, SEC_WEBSOCKET_VERSION) != Field::One("13") {
            return Err(Refusal::WebsocketVersionUnsupported.into());
        }
        let protocols = list(headers, SEC_WEBSOCKET_PROTOCOL);
        Ok(Some(Self { accept_key, protocols: protocols.map(str::to_owned).collect() }))
    }

    /// Value of `Sec-WebSocket-Accept`.
    pub fn accept_key(&self) -> HeaderValue {
        self.accept_key.clone()
    }

    /// The subprotocols offered, most wanted first.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(String::as_str)
    }

    /// The subprotocol to answer with: the first of `own` and then `used_bearer` that is offered.
    /// The latter is the one that carried the token, whole: browsers give up when nothing they
    /// offered is selected.
    pub fn select_protocol(&self, own: &[&str], used_bearer: Option<&str>) -> Option<HeaderValue> {
        let mut wanted = own.iter().copied().chain(used_bearer);
        let selected = wanted.find(|name| self.protocols().any(|offer| offer == *name))?;
        HeaderValue::from_str(selected).ok()
    }
}

/// What the two sides agree on about compression, if the client offers it.
pub(super) fn agreement(headers: &HeaderMap) -> Option<Agreement> {
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    Agreement::reach(offers.filter_map(|line| line.to_str().ok()))
}

fn is_handshake(headers: &HeaderMap) -> bool {
    let names_websocket = |member: &str| {
        // A version may follow, as in `websocket/13`.
        let name = member.split('/').next().unwrap_or(member);
        name.eq_ignore_ascii_case("websocket")
    };
    let is_websocket = |name: &HeaderName| name.as_str().starts_with("sec-websocket-");
    headers.keys().any(is_websocket) || list(headers, UPGRADE).any(names_websocket)
}

/// Checks all but the method and which WebSocket version it is; gives the accept key.
fn check_structure(version: Version, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    if version != Version::HTTP_11 {
        return Err("a WebSocket handshake is HTTP/1.1");
    }
    if host(headers).is_none() {
        return Err("one Host header is needed");
    }
    if !has_once(headers, UPGRADE, "websocket") {
        return Err("`Upgrade: websocket` is needed once; does a proxy drop it?");
    }
    if !has_once(headers, CONNECTION, "upgrade") {
        return Err("`Connection: Upgrade` is needed once; does a proxy drop it?");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if lengths.any(|len| len != "0") || headers.contains_key(TRANSFER_ENCODING) {
        return Err("a WebSocket handshake has no body");
    }
    match Field::of(headers, SEC_WEBSOCKET_VERSION) {
        Field::One(text) if is_version(text) => {}
        _ => return Err("one Sec-WebSocket-Version is needed"),
    }
    Field::of(headers, SEC_WEBSOCKET_KEY)
        .one()
        .and_then(accept_key)
        .ok_or("one Sec-WebSocket-Key of 16 bytes in base64 is needed")
}

fn has_once(headers: &HeaderMap, name: HeaderName, member: &str) -> bool {
    let found = list(headers, name).filter(|other| other.eq_ignore_ascii_case(member));
    found.count() == 1
}

/// A number from 0 to 255 without leading zeros (RFC 6455 section 4.3).
fn is_version(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|number| number.to_string() == text)
}

fn accept_key(key: &str) -> Option<HeaderValue> {
    let nonce = BASE64_STANDARD.decode(key).ok()?;
    if nonce.len() != KEY_LEN {
        return None;
    }
    let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX);
    let text = BASE64_STANDARD.encode(digest.finalize());
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests;
