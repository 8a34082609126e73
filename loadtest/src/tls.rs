//! Whom a TLS client trusts, and what a TLS server shows: configurations, no connections.

use std::{fmt, sync::Arc};

use anyhow::{Context as _, bail};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

/// All that is spoken behind it is HTTP/1.1 at first.
const ALPN: &[u8] = b"http/1.1";

/// How a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust<'a> {
    /// It must be one of the certificates in this file (PEM), or signed by one.
    Authority(&'a str),
    /// Not at all.
    Anyone,
}

/// What every TLS connection to one server is opened with.
#[derive(Debug, Clone)]
pub(crate) struct Security {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Security {
    /// For connections to `host`, which its certificate must be for. Each connection makes a
    /// whole handshake: resumed ones would flatter the server's cost of a new client.
    ///
    /// # Errors
    /// The certificates cannot be read, or `host` is no name.
    pub(crate) fn new(host: &str, trust: Trust<'_>) -> anyhow::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match trust {
            Trust::Authority(path) => builder.with_root_certificates(roots(path)?),
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous { provider })),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host} is no name for a certificate"))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

fn roots(path: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).with_context(|| format!("a certificate in {path}"))?;
    }
    Ok(roots)
}

fn certificates(path: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading certificates from {path}"))?;
    if found.is_empty() {
        bail!("{path} holds no certificate in PEM");
    }
    Ok(found)
}

/// A server with the certificates and the key in two files (PEM).
///
/// # Errors
/// They cannot be read, or do not fit each other.
pub(crate) fn server(cert_path: &str, key_path: &str) -> anyhow::Result<Arc<ServerConfig>> {
    let key = PrivateKeyDer::from_pem_file(key_path)
        .with_context(|| format!("reading a key from {key_path}"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates(cert_path)?, key)
        .with_context(|| format!("{cert_path} with {key_path}"))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Takes any certificate; that the server has its key is still checked.
struct Credulous {
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Credulous {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credulous")
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
