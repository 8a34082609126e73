//! One GET of a key set, over http or https, bounded in time and length.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::FetchResult;
use crate::auth::header;
use crate::tls;

/// From the look-up of the name to the last byte.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest key set, in bytes.
const BODY_LEN_MAX: usize = 256 * 1024;

/// Where a key set is.
#[derive(Debug)]
pub(super) struct Source {
    scheme: Scheme,
    authority: Authority,
    /// What is asked for: path and query.
    target: String,
}

/// An address that no key set can be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an address of keys: write https://HOST[:PORT]/PATH, without a user")]
pub struct UrlError;

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// No certificate to trust, or one that is not trusted.
    #[error("cannot agree on TLS")]
    Tls(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// Nothing within the time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Silent,
    /// Redirections are not followed: the address is configured.
    #[error("the answer is {0}, not 200")]
    Status(StatusCode),
    /// Longer than any key set.
    #[error("the answer is longer than {BODY_LEN_MAX} bytes")]
    TooLong,
    /// Not JSON with a list of `keys`.
    #[error("the answer is not a key set (RFC 7517 section 5)")]
    NotAKeySet,
    /// Nothing in it that we can check a signature with.
    #[error("the key set has no key for RS256..512, ES256, ES384 or EdDSA signatures")]
    NoKey,
}

impl FetchError {
    /// How it is counted.
    pub(super) fn result(&self) -> FetchResult {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::Broken(_) | Self::Silent => {
                FetchResult::Unreachable
            }
            Self::Status(_) => FetchResult::Status,
            Self::TooLong | Self::NotAKeySet | Self::NoKey => FetchResult::Invalid,
        }
    }

    /// What is behind it, for the log; empty where there is nothing.
    pub fn cause(&self) -> String {
        std::error::Error::source(self).map_or_else(String::new, ToString::to_string)
    }
}

impl Source {
    pub(super) fn new(url: &str) -> Result<Self, UrlError> {
        let uri: Uri = url.parse().map_err(|_| UrlError)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(UrlError);
        };
        let is_known = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        if !is_known || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(UrlError);
        }
        let target = parts.path_and_query.map_or_else(|| "/".to_owned(), |path| path.to_string());
        Ok(Self { scheme, authority, target })
    }

    /// The address without its query, which may hold a secret.
    pub(super) fn shown(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{}://{}{path}", self.scheme, self.authority)
    }

    /// Whether it goes over a network without TLS.
    pub(super) fn is_exposed(&self) -> bool {
        let host = self.authority.host();
        let is_near = header::is_of_this_machine(host)
            && self.address().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || host.eq_ignore_ascii_case("localhost");
        self.scheme == Scheme::HTTP && !is_near
    }

    /// The host without the brackets of an IPv6 address.
    fn address(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        timeout(TIMEOUT, self.fetch_slowly()).await.unwrap_or(Err(FetchError::Silent))
    }

    async fn fetch_slowly(&self) -> Result<Bytes, FetchError> {
        let is_tls = self.scheme == Scheme::HTTPS;
        let port = self.authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let socket = TcpStream::connect((self.address(), port)).await;
        let socket = socket.map_err(FetchError::Connect)?;
        if !is_tls {
            return self.ask(socket).await;
        }
        let name = ServerName::try_from(self.address().to_owned());
        let name = name.map_err(|error| FetchError::Tls(io::Error::other(error)))?;
        let config = tls::client_config().map_err(FetchError::Tls)?;
        let stream = TlsConnector::from(config).connect(name, socket).await;
        self.ask(stream.map_err(FetchError::Tls)?).await
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Bytes, FetchError> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(FetchError::Broken)?;
        let request = Request::get(&self.target)
            .header(HOST, self.authority.as_str())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("fanwire/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .expect("the parts come from an address that parsed");
        let answer = async move {
            let response = sender.send_request(request).await.map_err(FetchError::Broken)?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), BODY_LEN_MAX).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return FetchError::TooLong;
                }
                match error.downcast::<hyper::Error>() {
                    Ok(error) => FetchError::Broken(*error),
                    Err(_) => FetchError::TooLong,
                }
            })
        };
        let mut answer = std::pin::pin!(answer);
        // The answer makes progress only while the connection is polled. Nothing is lost by
        // dropping either: whole or cut, an answer is there when its connection has ended.
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }
}
