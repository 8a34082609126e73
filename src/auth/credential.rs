//! Finding the one credential that a request is judged by.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;

use super::header::{Field, list};
use crate::hub::decode_strict;
use crate::reason::{Refusal, Refused};

/// Begins the subprotocol that carries a token.
pub(super) const BEARER_PROTOCOL: &str = "bearer.";

/// Name of the cookie that carries a token.
const COOKIE_NAME: &[u8] = b"fanwire_token";

/// What a client shows to say who it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// `X-API-Key` or `Authorization: apikey K`.
    ApiKey(&'a str),
    /// A JWT from a header, a query or a cookie.
    Token(Cow<'a, str>),
    /// A JWT from a subprotocol, which has to be answered.
    BearerProtocol(&'a str),
}

impl<'a> Credential<'a> {
    /// The first credential in the documented order; later ones are not looked at.
    pub(super) fn find(parts: &'a Parts) -> Result<Option<Self>, Refused> {
        let headers = &parts.headers;
        match Field::of(headers, AUTHORIZATION) {
            Field::One(text) => return Self::authorization(text).map(Some),
            Field::Faulty => return Err(faulty("Authorization")),
            Field::Absent => {}
        }
        match Field::of(headers, "x-api-key") {
            Field::One(key) => return Ok(Some(Self::ApiKey(key))),
            Field::Faulty => return Err(faulty("X-API-Key")),
            Field::Absent => {}
        }
        let mut protocols = list(headers, SEC_WEBSOCKET_PROTOCOL);
        if let Some(token) = protocols.find_map(|name| name.strip_prefix(BEARER_PROTOCOL)) {
            return Ok(Some(Self::BearerProtocol(token)));
        }
        if let Some(value) = query_value(parts.uri.query(), "token") {
            let token = decode_strict(value).ok_or_else(|| faulty("`token`"))?;
            return Ok(Some(Self::Token(Cow::Owned(token))));
        }
        let Some(value) = cookie_token(headers) else { return Ok(None) };
        let token = str::from_utf8(value).map_err(|_| faulty("the cookie fanwire_token"))?;
        Ok(Some(Self::Token(Cow::Borrowed(token))))
    }

    /// The API key of a request that must have one: unlike elsewhere, it may also come as
    /// `?api_key=`, and other credentials are not looked at.
    pub(super) fn find_api_key(parts: &'a Parts) -> Result<Option<Cow<'a, str>>, Refused> {
        let headers = &parts.headers;
        let has_key = headers.contains_key(AUTHORIZATION) || headers.contains_key("x-api-key");
        if has_key {
            return Ok(match Self::find(parts)? {
                Some(Self::ApiKey(key)) => Some(Cow::Borrowed(key)),
                Some(Self::Token(_) | Self::BearerProtocol(_)) | None => None,
            });
        }
        let Some(value) = query_value(parts.uri.query(), "api_key") else { return Ok(None) };
        decode_strict(value).map(|key| Some(Cow::Owned(key))).ok_or_else(|| faulty("`api_key`"))
    }

    fn authorization(text: &'a str) -> Result<Self, Refused> {
        let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Self::Token(Cow::Borrowed(value.trim())))
        } else if scheme.eq_ignore_ascii_case("apikey") {
            Ok(Self::ApiKey(value.trim()))
        } else {
            let message = "Authorization is `Bearer TOKEN` or `apikey KEY`";
            Err(Refusal::TokenInvalid.because(message))
        }
    }
}

fn faulty(name: &'static str) -> Refused {
    Refusal::TokenInvalid.because(format!("{name} is sent once, as plain ASCII"))
}

fn query_value<'a>(query: Option<&'a str>, wanted: &str) -> Option<&'a str> {
    let mut parameters = query.unwrap_or_default().split('&');
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name == wanted).then_some(value)
    })
}

fn cookie_token(headers: &HeaderMap) -> Option<&[u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(COOKIE_NAME)?.strip_prefix(b"=")?;
        let value = value.trim_ascii();
        let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        Some(inner.unwrap_or(value))
    })
}
