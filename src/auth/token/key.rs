//! Public keys, each with the algorithms that it can check.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

/// Longest key file, in bytes.
const FILE_LEN_MAX: u64 = 64 * 1024;

const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
/// A key file does not tell the curve; with the wrong one no signature is right.
const EC: &[Algorithm] = &[Algorithm::ES256, Algorithm::ES384];
const ED: &[Algorithm] = &[Algorithm::EdDSA];

/// A public key; never a secret.
#[derive(Debug, Clone)]
pub(in crate::auth) struct PublicKey {
    decoding: DecodingKey,
    algorithms: &'static [Algorithm],
}

/// The keys of `auth.jwt_public_key_file`.
#[derive(Clone)]
pub struct KeyFile {
    path: PathBuf,
    keys: Arc<[PublicKey]>,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// It is longer than any key.
    #[error("is longer than {FILE_LEN_MAX} bytes: that is no key")]
    TooLong,
    /// It has the key to sign with.
    #[error(
        "has a private key: write the public one with `openssl pkey -in FILE -pubout`, and keep \
         the private one elsewhere"
    )]
    Private,
    /// It has no block that is a key of ours.
    #[error(
        "has no public key in PEM (`-----BEGIN PUBLIC KEY-----`) of RSA, P-256, P-384 or Ed25519"
    )]
    None,
}

impl PublicKey {
    /// Reads one PEM block.
    fn of_pem(pem: &[u8]) -> Option<Self> {
        let (decoding, algorithms) = DecodingKey::from_rsa_pem(pem)
            .map(|key| (key, RSA))
            .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, EC)))
            .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (key, ED)))
            .ok()?;
        Some(Self { decoding, algorithms })
    }

    /// Reads a key of a key set; `None` for one that is not meant for signatures of ours. Symmetric
    /// keys are none: whoever can fetch the set could sign with them.
    pub(in crate::auth) fn of_jwk(jwk: &Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, RS256, RS384, RS512};
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let by_kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA,
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[ES256],
                EllipticCurve::P384 => &[ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => ED,
            _ => return None,
        };
        let algorithms: &[Algorithm] = match jwk.common.key_algorithm {
            None => by_kind,
            Some(KeyAlgorithm::RS256) => &[RS256],
            Some(KeyAlgorithm::RS384) => &[RS384],
            Some(KeyAlgorithm::RS512) => &[RS512],
            Some(KeyAlgorithm::ES256) => &[ES256],
            Some(KeyAlgorithm::ES384) => &[ES384],
            Some(KeyAlgorithm::EdDSA) => &[EdDSA],
            Some(_) => return None,
        };
        let fits = algorithms.iter().all(|algorithm| by_kind.contains(algorithm));
        let decoding = DecodingKey::from_jwk(jwk).ok().filter(|_| fits)?;
        debug_assert_ne!(decoding.family(), AlgorithmFamily::Hmac, "a public key is no secret");
        Some(Self { decoding, algorithms })
    }

    /// Whether signatures of that algorithm can be checked with it.
    pub(in crate::auth) fn can_check(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl KeyFile {
    /// Reads all keys of a PEM file: while keys change, there may be several.
    ///
    /// # Errors
    /// [`KeyError`] says what to do about it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read(path)?;
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let blocks = text.split_inclusive("-----END PUBLIC KEY-----");
        let blocks = blocks.flat_map(|part| part.split_inclusive("-----END RSA PUBLIC KEY-----"));
        let blocks = blocks.filter(|block| block.contains("-----BEGIN "));
        let keys = blocks.map(|block| PublicKey::of_pem(block.as_bytes()));
        let keys = keys.collect::<Option<Arc<[_]>>>().filter(|keys| !keys.is_empty());
        Ok(Self { path: path.to_owned(), keys: keys.ok_or(KeyError::None)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter()
    }
}

/// Reads a file that should be a key.
pub(super) fn read(path: &Path) -> Result<String, KeyError> {
    let len = std::fs::metadata(path).map_err(KeyError::Read)?.len();
    if len > FILE_LEN_MAX {
        return Err(KeyError::TooLong);
    }
    std::fs::read_to_string(path).map_err(KeyError::Read)
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}
