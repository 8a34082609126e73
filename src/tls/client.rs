//! TLS towards other servers, with the certificates that this host trusts.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// What outgoing handshakes are made with, HTTP/1.1 only. `SSL_CERT_FILE` and `SSL_CERT_DIR` name
/// other certificates to trust than the host's.
///
/// # Errors
/// When the host has no certificate to trust, or the cryptographic library refuses to work.
pub fn client_config() -> io::Result<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let text = "this host trusts no certificate: install ca-certificates, or set SSL_CERT_FILE";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(super::VERSIONS)
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![super::HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}
