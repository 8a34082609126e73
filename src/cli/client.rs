//! The HTTP client of `pub` and `sub`: one server, credentials, errors that a person can act on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Response, StatusCode, Uri, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls;

/// Time to connect, and time to the head of an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer to a publication, and longest error body that is read.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// Everything but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One server, and how to ask it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Without brackets, for the resolver.
    host: String,
    port: u16,
    /// The name to verify and what to verify it with, where the server is to speak TLS.
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// For the `Host` header.
    authority: HeaderValue,
    /// Path before `/topics/`, without a slash at its end.
    base: String,
    credentials: HeaderMap,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot connect to {server}")]
    Connect {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("the server did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the server ended the stream")]
    Ended,
    #[error("{0}")]
    Refused(Refused),
    #[error("the server does not speak Fanwire: {0}")]
    Foreign(&'static str),
}

/// An answer that says no.
#[derive(Debug, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(super) struct Refused {
    pub(super) status: u16,
    code: String,
    message: String,
    pub(super) retry_after: Option<Duration>,
}

impl ClientError {
    /// Whether a second attempt can help when the server did not decide, whatever was asked.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Silent(_) | Self::Ended => true,
            Self::Broken(error) => !error.is_parse() && !error.is_user(),
            Self::Refused(refused) => matches!(refused.status, 429 | 503),
            Self::Foreign(_) => false,
        }
    }

    /// The delay that the server asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => refused.retry_after,
            _ => None,
        }
    }
}

impl Client {
    /// A client for `http://HOST[:PORT][/BASE]`, or `https://`.
    ///
    /// # Errors
    /// What is wrong with the address, for a person.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let shown =
            || format!("{url:?} is not an address: write http://HOST:PORT or https://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| shown())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(shown()),
        };
        let authority = uri.authority().ok_or_else(shown)?;
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty()
        {
            return Err(shown());
        }
        let host = authority.host();
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host).to_owned();
        let tls = is_tls.then(|| {
            let name = ServerName::try_from(host.clone()).map_err(|_| shown())?;
            let config = tls::client_config().map_err(|error| error.to_string())?;
            Ok::<_, String>((name, config))
        });
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            tls: tls.transpose()?,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| shown())?,
            base: uri.path().trim_end_matches('/').to_owned(),
            credentials: HeaderMap::new(),
        })
    }

    /// Adds a header to every request; it is never shown.
    pub(super) fn add_credential(&mut self, name: &'static str, value: &str) -> Result<(), String> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("the credential for {name} has characters no header can carry"))?;
        value.set_sensitive(true);
        self.credentials.insert(HeaderName::from_static(name), value);
        Ok(())
    }

    /// Path of a topic, its name percent-encoded into one segment.
    pub(super) fn topic_path(&self, topic: &str) -> String {
        format!("{}/topics/{}", self.base, utf8_percent_encode(topic, SEGMENT))
    }

    /// A request with all that every request has.
    pub(super) fn request(&self, method: Method, path: &str) -> request::Builder {
        let mut request = request::Builder::new().method(method).uri(path);
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.credentials.clone());
            headers.insert(HOST, self.authority.clone());
            let agent = concat!("fanwire/", env!("CARGO_PKG_VERSION"));
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        }
        request
    }

    /// Opens a connection, which lives in a task until either side ends it.
    pub(super) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = timeout(CONNECT_TIMEOUT, self.open())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| {
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                let authority = self.authority.to_str().unwrap_or(&self.host);
                ClientError::Connect { server: format!("{scheme}://{authority}"), source }
            })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Broken)?;
        // Ends with the connection; the request in flight learns why.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn open(&self) -> io::Result<Pin<Box<dyn Stream>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::pin(stream)),
            Some((name, config)) => {
                let tls = TlsConnector::from(Arc::clone(config));
                Ok(Box::pin(tls.connect(name.clone(), stream).await?))
            }
        }
    }
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// Sends a request and waits for the head of a 200; a refusal is read whole.
pub(super) async fn ask(
    connection: &mut SendRequest<Full<Bytes>>,
    request: http::Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ClientError> {
    let response = timeout(ANSWER_TIMEOUT, connection.send_request(request))
        .await
        .map_err(|_| ClientError::Silent(ANSWER_TIMEOUT))?
        .map_err(ClientError::Broken)?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let status = response.status();
    let retry_after = seconds(response.headers());
    // A refusal without a readable body is still a refusal.
    let body = read(response).await.unwrap_or_default();
    Err(ClientError::Refused(refused(status, retry_after, &body)))
}

/// Reads the whole body of an answer.
pub(super) async fn read(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_LEN_MAX).collect();
    match timeout(ANSWER_TIMEOUT, body).await {
        Err(_) => Err(ClientError::Silent(ANSWER_TIMEOUT)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => ClientError::Broken(*error),
            Err(_) => ClientError::Foreign("its answer is too long"),
        }),
    }
}

/// Whether an answer's type is `expected`, parameters left aside.
pub(super) fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn refused(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Refused {
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Detail,
    }
    #[derive(serde::Deserialize)]
    struct Detail {
        code: String,
        message: String,
    }
    let detail = serde_json::from_slice(body).map_or_else(
        |_| Detail {
            code: status.canonical_reason().unwrap_or("refused").to_owned(),
            message: "the answer has no reason in it".to_owned(),
        },
        |answer: Answer| answer.error,
    );
    Refused { status: status.as_u16(), code: detail.code, message: detail.message, retry_after }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{Client, refused};

    #[test]
    fn an_address_has_a_scheme_a_host_and_perhaps_a_base() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, "/topics/a%2Fb%20%C3%A9"),
            ("http://localhost", "localhost", 80, "/topics/a%2Fb%20%C3%A9"),
            ("http://[::1]:9/", "::1", 9, "/topics/a%2Fb%20%C3%A9"),
            ("http://a.example/base/", "a.example", 80, "/base/topics/a%2Fb%20%C3%A9"),
        ] {
            let client = Client::new(url).expect(url);
            assert_eq!((client.host.as_str(), client.port), (host, port));
            assert_eq!(client.topic_path("a/b \u{e9}"), path);
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for (url, part) in [
            ("127.0.0.1:8080", "write http://"),
            ("ws://127.0.0.1:8080", "write http://"),
            ("http://user:password@a.example", "write http://"),
            ("http://a.example/?a", "write http://"),
            ("http://", "write http://"),
            ("", "write http://"),
        ] {
            let message = Client::new(url).expect_err(url);
            assert!(message.contains(part), "{url}: {message}");
        }
    }

    #[test]
    fn a_credential_is_not_shown() {
        let mut client = Client::new("http://a").expect("an address");
        client.add_credential("x-api-key", "s3cret").expect("a key");
        assert!(!format!("{client:?}").contains("s3cret"));
        let message = client.add_credential("x-api-key", "s3\n").expect_err("a line end");
        assert!(!message.contains("s3"), "{message}");
    }

    #[test]
    fn a_refusal_shows_the_servers_words() {
        let body = br#"{"error":{"code":"rate_limit","message":"slower"}}"#;
        let shown = refused(StatusCode::TOO_MANY_REQUESTS, None, body).to_string();
        assert_eq!(shown, "429 rate_limit: slower");
        let shown = refused(StatusCode::BAD_GATEWAY, None, b"<html>").to_string();
        assert_eq!(shown, "502 Bad Gateway: the answer has no reason in it");
    }
}
