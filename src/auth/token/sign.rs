//! Signing tokens, for `fanwire token`. The server itself signs nothing.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::key::{self, KeyError};
use crate::auth::{AuthConfig, Right};

/// Signs with the configured key.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    audience: Option<String>,
    issuer: Option<String>,
}

/// What a new token is to say.
#[derive(Debug, Clone)]
pub struct NewClaims<'a> {
    /// `sub`.
    pub user: &'a str,
    /// Patterns of `caps`; none = no `caps`, which allows everything.
    pub topics: &'a [String],
    /// What `caps` allows on them.
    pub allow: &'a [Right],
    /// `iat`, in seconds since 1970.
    pub issued_at: u64,
    /// `exp`, likewise.
    pub expires_at: u64,
}

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No key is configured.
    #[error(
        "no key to sign with: set auth.jwt_hmac_secret (to what the server has), or \
         auth.jwt_private_key_file"
    )]
    NoKey,
    /// The key file cannot be used.
    #[error("auth.jwt_private_key_file ({path}) {error}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong with it.
        error: KeyError,
    },
    /// The key file has no key that we can sign with.
    #[error(
        "auth.jwt_private_key_file ({0}) has no unencrypted private key in PEM \
         (`-----BEGIN PRIVATE KEY-----`) of RSA, P-256, P-384 or Ed25519"
    )]
    NotAKey(String),
}

#[derive(Serialize)]
struct Body<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caps: Option<[Entry<'a>; 1]>,
}

#[derive(Serialize)]
struct Entry<'a> {
    topics: &'a [String],
    allow: Vec<&'static str>,
}

impl Signer {
    /// Takes the key from the configuration: the private key file, else the secret.
    ///
    /// # Errors
    /// [`SignError`] says what to configure.
    pub fn new(config: &AuthConfig) -> Result<Self, SignError> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (audience, issuer) = (given(&config.jwt_audience), given(&config.jwt_issuer));
        let secret = config.jwt_hmac_secret.expose();
        let (key, algorithm) = match config.jwt_private_key_file.as_str() {
            "" if secret.is_empty() => return Err(SignError::NoKey),
            "" => (EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256),
            path => read(path)?,
        };
        Ok(Self { key, algorithm, audience, issuer })
    }

    /// The token.
    ///
    /// # Errors
    /// Those of the key.
    pub fn sign(&self, claims: &NewClaims<'_>) -> Result<String, jsonwebtoken::errors::Error> {
        let entry = || {
            let allow = claims.allow.iter().map(|right| right.word()).collect();
            [Entry { topics: claims.topics, allow }]
        };
        let body = Body {
            sub: claims.user,
            iat: claims.issued_at,
            exp: claims.expires_at,
            aud: self.audience.as_deref(),
            iss: self.issuer.as_deref(),
            caps: (!claims.topics.is_empty()).then(entry),
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &body, &self.key)
    }
}

fn read(path: &str) -> Result<(EncodingKey, Algorithm), SignError> {
    let file = |error| SignError::File { path: path.to_owned(), error };
    let pem = key::read(path.as_ref()).map_err(file)?;
    let pem = pem.as_bytes();
    let ec = |algorithm| {
        let key = EncodingKey::from_ec_pem(pem).ok()?;
        // The file does not tell the curve: signing does.
        jsonwebtoken::crypto::sign(b"", &key, algorithm).ok().map(|_| (key, algorithm))
    };
    EncodingKey::from_rsa_pem(pem)
        .ok()
        .filter(|key| jsonwebtoken::crypto::sign(b"", key, Algorithm::RS256).is_ok())
        .map(|key| (key, Algorithm::RS256))
        .or_else(|| ec(Algorithm::ES256))
        .or_else(|| ec(Algorithm::ES384))
        .or_else(|| EncodingKey::from_ed_pem(pem).ok().map(|key| (key, Algorithm::EdDSA)))
        .ok_or_else(|| SignError::NotAKey(path.to_owned()))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
