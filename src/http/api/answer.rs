//! What a call of the server API is answered with: a result, or an error with its number.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::hub::PublishError;
use crate::protocol::centrifugo::ErrorCode;
use crate::reason::Refusal;

const ERROR_MODE: HeaderName = HeaderName::from_static("x-centrifugo-error-mode");

/// Why a call did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallError {
    /// Its number, which is stable.
    pub(super) code: ErrorCode,
    /// What is behind it, for people.
    detail: Cow<'static, str>,
    /// The status of a refusal for the same reason, where there is one.
    refusal: Option<Refusal>,
}

/// The JSON of a result.
pub(super) type Outcome = Result<Vec<u8>, CallError>;

impl CallError {
    /// An error of which more is known than its number.
    pub(super) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), refusal: None }
    }

    /// Something in the request that cannot be.
    pub(super) fn bad(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }

    fn message(&self) -> String {
        match &*self.detail {
            "" => self.code.message().to_owned(),
            detail => format!("{}: {detail}", self.code.message()),
        }
    }

    /// `{"code","message"}`.
    fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body {
            code: u32,
            message: String,
        }
        json(&Body { code: self.code.code(), message: self.message() })
    }

    /// The HTTP status that says the same.
    fn status(&self) -> u16 {
        if let Some(refusal) = self.refusal {
            return refusal.status();
        }
        match self.code {
            ErrorCode::Internal => 500,
            ErrorCode::UnknownTopic => 404,
            ErrorCode::PermissionDenied => 403,
            ErrorCode::TooManyRequests => 429,
            ErrorCode::UnrecoverablePosition => 416,
            ErrorCode::BadRequest
            | ErrorCode::NotAvailable
            | ErrorCode::AlreadySubscribed
            | ErrorCode::LimitExceeded
            | ErrorCode::TokenExpired
            | ErrorCode::Expired => 400,
        }
    }
}

impl From<ErrorCode> for CallError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, "")
    }
}

impl From<PublishError> for CallError {
    fn from(error: PublishError) -> Self {
        let refusal = Refusal::from(error);
        let detail = Cow::Borrowed(refusal.message());
        Self { code: ErrorCode::Internal, detail, refusal: Some(refusal) }
    }
}

/// How errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorMode {
    /// In the body of a 200.
    Body,
    /// By the status, too; the body is the bare error.
    Transport,
}

impl ErrorMode {
    /// What the request asks for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(ERROR_MODE) {
            Some(value) if value == "transport" => Self::Transport,
            _ => Self::Body,
        }
    }
}

/// The whole answer to a call.
pub(super) fn whole(outcome: &Outcome, mode: ErrorMode) -> Response<Bytes> {
    let Err(error) = outcome else { return super::super::answer::json(one(outcome).into()) };
    if mode == ErrorMode::Body {
        return super::super::answer::json(one(outcome).into());
    }
    let mut response = super::super::answer::json(error.body().into());
    let status = StatusCode::from_u16(error.status());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = error.refusal.and_then(Refusal::retry_after) {
        let value = HeaderValue::from(seconds);
        response.headers_mut().insert(http::header::RETRY_AFTER, value);
    }
    response
}

/// `{"result":..}` or `{"error":{"code","message"}}`.
pub(super) fn one(outcome: &Outcome) -> Vec<u8> {
    named("result", outcome)
}

/// As [`one`], with another name for the result.
pub(super) fn named(name: &str, outcome: &Outcome) -> Vec<u8> {
    let (name, value) = match outcome {
        Ok(result) => (name, result),
        Err(error) => ("error", &error.body()),
    };
    [b"{\"", name.as_bytes(), b"\":", value, b"}"].concat()
}

/// A JSON array in the making, of items that are JSON already.
#[derive(Debug)]
pub(super) struct List(Vec<u8>);

impl List {
    /// `{"name":[`.
    pub(super) fn new(name: &str) -> Self {
        Self(format!("{{\"{name}\":[").into_bytes())
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, item: &[u8]) {
        if self.0.last() != Some(&b'[') {
            self.0.push(b',');
        }
        self.0.extend_from_slice(item);
    }

    /// `]}`.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"]}");
        self.0
    }
}

/// Any value as JSON.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a struct of strings and numbers is always JSON")
}

/// A result of which there is nothing to tell.
pub(super) fn nothing() -> Vec<u8> {
    b"{}".to_vec()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{CallError, ErrorCode, ErrorMode, List, nothing, whole};
    use crate::hub::PublishError;

    #[test]
    fn an_error_is_told_in_the_body_or_by_the_status() {
        let late = CallError::from(PublishError::Draining);
        for (error, status, retry_after, message) in [
            (ErrorCode::Internal.into(), 500, None, "internal server error"),
            (ErrorCode::UnknownTopic.into(), 404, None, "unknown channel"),
            (CallError::bad("no data"), 400, None, "bad request: no data"),
            (ErrorCode::NotAvailable.into(), 400, None, "not available"),
            (ErrorCode::UnrecoverablePosition.into(), 416, None, "unrecoverable position"),
            (ErrorCode::TooManyRequests.into(), 429, None, "too many requests"),
            (PublishError::Overrun.into(), 429, Some("1"), "internal server error: "),
            (PublishError::Memory.into(), 503, Some("1"), "internal server error: "),
            (late, 503, Some("1"), "internal server error: "),
        ] {
            let code = error.code.code();
            let outcome = Err(error);
            let value = |mode| {
                let response = whole(&outcome, mode);
                let retry_after = response.headers().get("retry-after").cloned();
                let body: serde_json::Value =
                    serde_json::from_slice(response.body()).expect("JSON");
                (response.status().as_u16(), body, retry_after)
            };
            let (plain_status, in_body, _) = value(ErrorMode::Body);
            let (by_status, bare, after) = value(ErrorMode::Transport);
            assert_eq!((plain_status, by_status), (200, status), "{message}");
            assert_eq!(in_body.get("error"), Some(&bare));
            assert_eq!(bare.get("code"), Some(&code.into()));
            let told = bare.get("message").and_then(|text| text.as_str());
            assert!(told.is_some_and(|text| text.starts_with(message)), "{told:?}");
            assert_eq!(
                after.as_ref().map(http::HeaderValue::as_bytes),
                retry_after.map(str::as_bytes)
            );
        }
    }

    #[test]
    fn the_mode_is_asked_for_by_a_header() {
        for (value, expected) in [
            (None, ErrorMode::Body),
            (Some("transport"), ErrorMode::Transport),
            (Some("json"), ErrorMode::Body),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(super::ERROR_MODE, value.parse().expect("a value"));
            }
            assert_eq!(ErrorMode::of(&headers), expected, "{value:?}");
        }
    }

    #[test]
    fn a_result_is_wrapped() {
        assert_eq!(&whole(&Ok(nothing()), ErrorMode::Transport).body()[..], b"{\"result\":{}}");
        let mut list = List::new("replies");
        assert_eq!(List::new("replies").end(), b"{\"replies\":[]}");
        list.push(b"1");
        list.push(b"2");
        assert_eq!(list.end(), b"{\"replies\":[1,2]}");
    }
}
