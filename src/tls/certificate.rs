//! The certificate that clients are shown; it can be exchanged while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Where a certificate is read from, both in PEM; empty = there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFiles {
    /// The server's certificate, followed by those between it and a known authority.
    pub cert_file: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key_file: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The file for the certificate holds none.
    #[error("{} has no certificate (a PEM block \"CERTIFICATE\")", .0.display())]
    NoCertificate(PathBuf),
    /// Key and certificate are not of a kind that can be used, or do not belong together.
    #[error("certificate and key do not fit together")]
    Pair(#[source] rustls::Error),
}

/// The current certificate.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// When the files were last written, as far as the system tells.
    written: [Option<SystemTime>; 2],
}

impl CertificateFiles {
    /// Whether no certificate is asked for.
    pub fn is_none(&self) -> bool {
        self.cert_file.as_os_str().is_empty() && self.key_file.as_os_str().is_empty()
    }

    /// Reads both files and checks that they fit together.
    ///
    /// # Errors
    /// [`CertificateError`] says what to mend.
    pub fn read(&self) -> Result<CertifiedKey, CertificateError> {
        let chain = CertificateDer::pem_file_iter(&self.cert_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(read_error(&self.cert_file))?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate(self.cert_file.clone()));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key_file).map_err(read_error(&self.key_file))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(CertificateError::Pair)
    }

    /// When the server's own certificate stops being valid, in seconds since 1970.
    ///
    /// # Errors
    /// As [`CertificateFiles::read`].
    pub fn expires(&self) -> Result<i64, CertificateError> {
        let key = self.read()?;
        let leaf = key.end_entity_cert().map_err(CertificateError::Pair)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| {
            CertificateError::Pair(rustls::Error::InvalidCertificate(
                rustls::CertificateError::BadEncoding,
            ))
        })?;
        Ok(parsed.validity().not_after.timestamp())
    }

    fn written(&self) -> [Option<SystemTime>; 2] {
        [&self.cert_file, &self.key_file].map(|path| path.metadata().ok()?.modified().ok())
    }
}

fn read_error(path: &Path) -> impl FnOnce(pem::Error) -> CertificateError {
    |source| CertificateError::Read { path: path.to_owned(), source }
}

impl Certificate {
    /// Reads `files`.
    ///
    /// # Errors
    /// [`CertificateError`] says what to mend.
    pub fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        // Looked at first: what is written in between is noticed later.
        let written = files.written();
        let key = Arc::new(files.read()?);
        Ok(Self { files, current: Mutex::new(Current { key, written }) })
    }

    /// Reads the files again. Handshakes from now on show the new certificate; nothing else
    /// notices.
    ///
    /// # Errors
    /// [`CertificateError`] says what to mend; the old certificate stays.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let written = self.files.written();
        let read = self.files.read();
        let mut current = self.current.lock();
        // A bad pair of files is not tried again before it changes.
        current.written = written;
        current.key = Arc::new(read?);
        Ok(())
    }

    /// The one that is shown now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.lock().key)
    }

    /// Whether a file was written since it was last read.
    pub fn is_stale(&self) -> bool {
        let written = self.files.written();
        self.current.lock().written != written
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
