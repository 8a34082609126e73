//! Tokens (JWT, RFC 7519): whether they can be believed, and what they say.
//!
//! The key decides which algorithms it can check, never the token; a token's own hints about keys
//! (`jku`, `x5u`, `jwk`) are not looked at. Why a token is refused is logged, and not told to it.

mod claims;
mod key;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

pub use claims::{
    Attachment, Claims, Overrides, SubscriptionClaims, SubscriptionOptions, USER_LEN_MAX,
};
pub(super) use key::PublicKey;
pub use key::{KeyError, KeyFile};
pub use sign::{NewClaims, SignError, Signer};

use super::AuthConfig;
use super::jwks::{KeySet, Lookup};
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;
use claims::{Kind, Registered};

/// Longest token that is looked at, in bytes.
pub const TOKEN_LEN_MAX: usize = 32 * 1024;

/// How far the clock of whoever signs may be ahead of ours (`nbf`).
const AHEAD_MAX_SECONDS: u64 = 10;

/// Why a token is not believed; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Over [`TOKEN_LEN_MAX`].
    #[error("longer than {TOKEN_LEN_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url, or a header that is none.
    #[error("not a JWT")]
    Malformed,
    /// `none`, unknown, or one that no configured key can check.
    #[error("its algorithm is not one of a configured key")]
    Algorithm,
    /// `crit` names extensions; we have none.
    #[error("it asks for an extension (crit)")]
    Critical,
    /// The key set has no such key.
    #[error("no key of the key set has its kid and algorithm")]
    KeyUnknown,
    /// The key set is not there yet, or is being fetched again.
    #[error("the key set is not there yet")]
    KeysAway,
    /// Not signed with the key.
    #[error("its signature is wrong")]
    Signature,
    /// A claim is missing, malformed, or not meant for us.
    #[error("{0}")]
    Claim(&'static str),
    /// `exp` has passed.
    #[error("it has expired")]
    Expired,
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => Refusal::TokenExpired.into(),
            TokenError::KeysAway => Refusal::Internal
                .because("the keys to check tokens with are not there yet; try again later"),
            _ => Refusal::TokenInvalid.because("the token is not valid here; get a new one"),
        }
    }
}

/// Checks tokens with the configured keys.
#[derive(Debug)]
pub struct Verifier {
    hmac: Option<DecodingKey>,
    public: Public,
    audience: String,
    issuer: String,
    expiry_required: bool,
    expiry_grace: Duration,
}

/// Where public keys come from.
#[derive(Debug)]
enum Public {
    None,
    File(KeyFile),
    Set(Arc<KeySet>),
}

/// What a token's header says of interest. A field that is given twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// A token taken apart, nothing of it believed.
struct Parts<'a> {
    header: Header,
    signature: &'a str,
    /// What is signed.
    message: &'a str,
    payload: Vec<u8>,
}

impl Verifier {
    /// Takes the keys of the configuration; `keys` is the set of `jwks_url`, where there is one.
    pub fn new(config: &AuthConfig, keys: Option<Arc<KeySet>>) -> Self {
        let secret = config.jwt_hmac_secret.expose();
        Self {
            hmac: (!secret.is_empty()).then(|| DecodingKey::from_secret(secret.as_bytes())),
            public: match (keys, &config.jwt_public_key_file) {
                (Some(keys), _) => Public::Set(keys),
                (None, Some(file)) => Public::File(file.clone()),
                (None, None) => Public::None,
            },
            audience: config.jwt_audience.clone(),
            issuer: config.jwt_issuer.clone(),
            expiry_required: config.jwt_expiry_required,
            expiry_grace: config.expiry_grace,
        }
    }

    /// Whether any token can be believed.
    pub fn has_keys(&self) -> bool {
        self.hmac.is_some() || !matches!(self.public, Public::None)
    }

    /// How long a session goes on after its token's end.
    pub fn expiry_grace(&self) -> Duration {
        self.expiry_grace
    }

    /// Checks a connection token. Waits for the key set where that may have a new key.
    ///
    /// # Errors
    /// [`TokenError`] says why it is not believed.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.check(token).await
    }

    /// Checks a subscription token, as [`Verifier::verify`] does. The caller compares its user,
    /// topic and client with those of the connection.
    ///
    /// # Errors
    /// [`TokenError`] says why it is not believed.
    pub async fn verify_subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
        self.check(token).await
    }

    /// As [`Verifier::verify`], with the keys at hand.
    ///
    /// # Errors
    /// [`TokenError`]; after [`TokenError::KeysAway`], a fetch is under way, and trying again a
    /// little later can help.
    pub fn try_verify(&self, token: &str, now: Stamp) -> Result<Claims, TokenError> {
        self.check_or_ask(token, now)
    }

    /// As [`Verifier::verify_subscription`], with the keys at hand.
    ///
    /// # Errors
    /// As [`Verifier::try_verify`].
    pub fn try_verify_subscription(
        &self,
        token: &str,
        now: Stamp,
    ) -> Result<SubscriptionClaims, TokenError> {
        self.check_or_ask(token, now)
    }

    fn check_or_ask<T: Kind>(&self, token: &str, now: Stamp) -> Result<T, TokenError> {
        let checked = self.check_now(token, now);
        if let (Err(TokenError::KeyUnknown), Public::Set(keys)) = (&checked, &self.public)
            && keys.ask().is_some()
        {
            return Err(TokenError::KeysAway);
        }
        checked
    }

    async fn check<T: Kind>(&self, token: &str) -> Result<T, TokenError> {
        let checked = self.check_now(token, Stamp::now());
        let (Err(TokenError::KeyUnknown | TokenError::KeysAway), Public::Set(keys)) =
            (&checked, &self.public)
        else {
            return checked;
        };
        keys.refresh().await;
        // Also where nothing was to be awaited: a fetch may have ended since.
        self.check_now(token, Stamp::now())
    }

    fn check_now<T: Kind>(&self, token: &str, now: Stamp) -> Result<T, TokenError> {
        let parts = Parts::of(token)?;
        self.check_signature(&parts)?;
        // From here on the token is believed; the registered claims say whether it is for us.
        self.check_registered(&Registered::parse(&parts.payload)?, now)?;
        T::parse(&parts.payload)
    }

    fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, RS256, RS384, RS512};
        let algorithm = parts.header.alg;
        let is_signed = match (algorithm, &self.hmac, &self.public) {
            (HS256 | HS384 | HS512, Some(key), _) => parts.is_signed_with(key),
            (RS256 | RS384 | RS512 | ES256 | ES384 | EdDSA, _, Public::File(file)) => {
                let mut keys = file.keys().filter(|key| key.can_check(algorithm)).peekable();
                if keys.peek().is_none() {
                    return Err(TokenError::Algorithm);
                }
                keys.any(|key| parts.is_signed_with(key.decoding()))
            }
            (RS256 | RS384 | RS512 | ES256 | ES384 | EdDSA, _, Public::Set(set)) => {
                match set.find(parts.header.kid.as_deref(), algorithm) {
                    Lookup::Found(key) => parts.is_signed_with(key.decoding()),
                    Lookup::Unknown => return Err(TokenError::KeyUnknown),
                    Lookup::Away => return Err(TokenError::KeysAway),
                }
            }
            _ => return Err(TokenError::Algorithm),
        };
        if is_signed { Ok(()) } else { Err(TokenError::Signature) }
    }

    fn check_registered(&self, claims: &Registered, now: Stamp) -> Result<(), TokenError> {
        let seconds = now.wall / 1000;
        match &claims.exp {
            Some(exp) if exp.0 <= seconds => return Err(TokenError::Expired),
            None if self.expiry_required => return Err(TokenError::Claim("`exp` is missing")),
            Some(_) | None => {}
        }
        let ahead = seconds.saturating_add(AHEAD_MAX_SECONDS);
        if claims.nbf.as_ref().is_some_and(|nbf| nbf.0 > ahead) {
            return Err(TokenError::Claim("`nbf` is to come"));
        }
        let is_for_us = |audiences: &claims::Audiences| audiences.has(&self.audience);
        if !self.audience.is_empty() && !claims.aud.as_ref().is_some_and(is_for_us) {
            return Err(TokenError::Claim("`aud` is not auth.jwt_audience"));
        }
        if !self.issuer.is_empty() && claims.iss.as_deref() != Some(&self.issuer) {
            return Err(TokenError::Claim("`iss` is not auth.jwt_issuer"));
        }
        Ok(())
    }
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::TooLong);
        }
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let apart = || {
            let (message, signature) = token.rsplit_once('.')?;
            let (header, payload) = message.split_once('.')?;
            Some((message, signature, decode(header)?, decode(payload)?))
        };
        let (message, signature, header, payload) = apart().ok_or(TokenError::Malformed)?;
        let header = read_header(&header)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        Ok(Self { header, signature, message, payload })
    }

    /// Compares in constant time where the signature is a digest.
    fn is_signed_with(&self, key: &DecodingKey) -> bool {
        let (message, algorithm) = (self.message.as_bytes(), self.header.alg);
        jsonwebtoken::crypto::verify(self.signature, message, key, algorithm).unwrap_or(false)
    }
}

fn read_header(bytes: &[u8]) -> Result<Header, TokenError> {
    #[derive(Deserialize)]
    struct Named {
        alg: String,
    }
    claims::object(bytes).ok_or_else(|| match claims::object(bytes) {
        Some(Named { alg }) if alg.parse::<Algorithm>().is_err() => TokenError::Algorithm,
        _ => TokenError::Malformed,
    })
}
