//! Which pages may use the server, and the headers that tell their browser so.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::route::Route;
use crate::auth::header::{Field, host};
use crate::reason::{Refusal, Refused};

/// What stands for every origin, in the configuration and in the answer.
const ANY: &str = "*";
/// Request headers that a page may set, beside those that every page may.
const REQUEST_HEADERS: &str =
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-API-Key";

/// `websocket.allowed_origins` of the configuration. The rule is one for all front doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPolicy(Rule);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    SameHost,
    Any,
    Listed(Vec<String>),
}

/// An entry that no browser would ever send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is no origin: write \"*\", \"null\" or scheme://host[:port] in lower case, without a path and without the scheme's default port"
)]
pub struct OriginError {
    /// The entry as it was written.
    pub entry: String,
}

impl OriginPolicy {
    /// Takes the list: empty is the same host only, `*` is any origin, else these exactly.
    ///
    /// # Errors
    /// [`OriginError`] for an entry that could never match.
    pub fn new(allowed: Vec<String>) -> Result<Self, OriginError> {
        if let Some(entry) = allowed.iter().find(|entry| !is_entry(entry)) {
            let entry = entry.clone();
            return Err(OriginError { entry });
        }
        Ok(Self(if allowed.is_empty() {
            Rule::SameHost
        } else if allowed.iter().any(|entry| entry == ANY) {
            Rule::Any
        } else {
            Rule::Listed(allowed)
        }))
    }

    /// Judges the `Origin`; gives the value of `Access-Control-Allow-Origin`, if one is due.
    ///
    /// Requests without an `Origin` are not of a page and are let through.
    ///
    /// # Errors
    /// 403 `origin_not_allowed`.
    pub fn check(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refused> {
        let origin = match Field::of(headers, ORIGIN) {
            Field::Absent => return Ok(None),
            Field::One(origin) => origin,
            Field::Faulty => return Err(Refusal::OriginNotAllowed.because("one Origin is sent")),
        };
        let allowed = match &self.0 {
            Rule::Any => return Ok(Some(HeaderValue::from_static(ANY))),
            Rule::SameHost => host(headers).is_some_and(|host| is_same(origin, host.as_str())),
            Rule::Listed(listed) => listed.iter().any(|entry| entry == origin),
        };
        if !allowed {
            return Err(Refusal::OriginNotAllowed.into());
        }
        Ok(HeaderValue::from_str(origin).ok())
    }
}

/// Sets the headers that let a page read the answer. `allow_origin` is what the check gave.
pub fn cors_headers(headers: &mut HeaderMap, allow_origin: Option<HeaderValue>) {
    let Some(allow_origin) = allow_origin else { return };
    if allow_origin != ANY {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow_origin);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Fanwire-Epoch, Fanwire-Offset, Fanwire-Recovered"),
    );
}

/// The answer to OPTIONS: what a page may send.
pub fn preflight(route: &Route) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let (methods, max_age) = match route {
        Route::Emulation => (route.methods(), "300"),
        _ => ("GET, POST, OPTIONS", "600"),
    };
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, methods),
        (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, max_age),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether `origin` is of the host that the request was sent to.
///
/// The scheme is not compared: behind a proxy that ends TLS it is not the one we speak.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let authority = without_default_port(scheme, authority);
    let host = [":80", ":443"].iter().find_map(|port| host.strip_suffix(port)).unwrap_or(host);
    authority.eq_ignore_ascii_case(host)
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

/// Whether an entry is written as browsers write an origin.
fn is_entry(entry: &str) -> bool {
    if matches!(entry, ANY | "null") {
        return true;
    }
    let Some((scheme, authority)) = entry.split_once("://") else { return false };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    !scheme.is_empty()
        && !authority.is_empty()
        && !authority.contains(['/', '?', '#', '@', '*'])
        && entry.bytes().all(is_plain)
        && without_default_port(scheme, authority) == authority
}

#[cfg(test)]
mod tests;
