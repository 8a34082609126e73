//! TLS: the certificate of the client port, encrypted sockets as HTTP and the worker drive them, and
//! what outgoing connections trust.
//!
//! It knows sockets and bytes, no protocol above them.

mod certificate;
mod client;
mod encrypted;
mod session;
mod socket;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, SupportedProtocolVersion, version};

pub use certificate::{Certificate, CertificateError, CertificateFiles};
pub use client::client_config;
pub use encrypted::TlsSocket;
pub use socket::Socket;

/// Versions that are spoken; older ones are deprecated (RFC 8996).
const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// The one protocol that is offered and taken (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// What handshakes are made with: `certificate` as it is at the time of each, HTTP/1.1 only.
///
/// # Errors
/// When the cryptographic provider lacks what the versions need, or fails.
pub fn server_config(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // Sessions resume without the server remembering them.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}
