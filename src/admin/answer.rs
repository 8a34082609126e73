//! What each request is answered with: a function of the state and the request's head.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Response, StatusCode, request};
use http_body_util::Full;
use prometheus::TEXT_FORMAT;
use serde_json::json;

use super::stats::Stats;
use super::{State, access, exposition};
use crate::reason::Refusal;

/// An answer, complete before its first byte leaves.
pub(super) type Answer = Response<Full<Bytes>>;

const CONSOLE: &str = include_str!("console.html");

/// The console may run what it brought along and talk to where it came from, nothing else.
const CONSOLE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Answers one request.
pub(super) fn answer(state: &State, head: &request::Parts) -> Answer {
    let path = head.uri.path();
    let is_health = path.starts_with("/health/");
    if !is_health && let Err(refusal) = access::check(&state.password, &head.headers) {
        return refuse(refusal);
    }
    let page: fn(&State) -> Answer = match path {
        "/" => |_| console(),
        "/health/live" => |_| text("ok\n"),
        "/health/ready" => |state| (state.ready)().map_or_else(refuse, |()| text("ok\n")),
        "/metrics" => |state| body(TEXT_FORMAT, exposition::render(state)),
        "/stats" => stats,
        _ => return refuse(Refusal::NotFound),
    };
    if head.method == Method::GET { page(state) } else { refuse(Refusal::MethodNotAllowed) }
}

fn console() -> Answer {
    let mut answer = body("text/html; charset=utf-8", CONSOLE);
    set(&mut answer, CONTENT_SECURITY_POLICY, CONSOLE_POLICY);
    answer
}

fn stats(state: &State) -> Answer {
    let object = serde_json::to_vec(&Stats::read(state))
        .expect("every key is a string, and no field's serializer fails");
    body("application/json", object)
}

fn refuse(refusal: Refusal) -> Answer {
    let error = json!({"error": {"code": refusal.code(), "message": message(refusal)}});
    let mut answer = body("application/json", error.to_string());
    *answer.status_mut() =
        StatusCode::from_u16(refusal.status()).expect("every refusal has a valid status");
    match refusal.status() {
        401 => set(&mut answer, WWW_AUTHENTICATE, "Basic realm=\"fanwire\", charset=\"UTF-8\""),
        405 => set(&mut answer, ALLOW, "GET"),
        _ => {}
    }
    if let Some(seconds) = refusal.retry_after() {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

fn message(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TokenRequired => "give admin_password as the password of Basic authentication",
        Refusal::TokenInvalid => "the password is not admin_password",
        Refusal::HostNotAllowed => "without admin_password, use localhost or an IP address as host",
        Refusal::NotFound => "there are /, /metrics, /stats, /health/live and /health/ready",
        Refusal::MethodNotAllowed => "only GET is understood here",
        Refusal::Draining => "the server is going away",
        Refusal::EngineUnavailable => "the engine cannot be reached",
        _ => "the server cannot take clients now",
    }
}

fn text(text: &'static str) -> Answer {
    body("text/plain; charset=utf-8", text)
}

fn body(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    set(&mut answer, CONTENT_TYPE, content_type);
    set(&mut answer, CACHE_CONTROL, "no-store");
    set(&mut answer, X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}
