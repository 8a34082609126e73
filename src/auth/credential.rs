//! Finding the one credential that a request is judged by.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;

use super::header::{Field, list};
use crate::reason::{Refusal, Refused};

/// What a client shows to say who it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// `X-API-Key` or `Authorization: apikey K`.
    ApiKey(&'a str),
    /// A JWT, wherever it was found.
    Token,
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
        let token = list(headers, SEC_WEBSOCKET_PROTOCOL).any(|name| name.starts_with("bearer."))
            || has_query_token(parts.uri.query())
            || has_cookie_token(headers);
        Ok(token.then_some(Self::Token))
    }

    fn authorization(text: &'a str) -> Result<Self, Refused> {
        let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Self::Token)
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

fn has_query_token(query: Option<&str>) -> bool {
    query
        .unwrap_or_default()
        .split('&')
        .any(|parameter| parameter == "token" || parameter.starts_with("token="))
}

fn has_cookie_token(headers: &HeaderMap) -> bool {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .any(|pair| pair.trim_ascii().starts_with(b"fanwire_token="))
}
