//! Tokens as an application signs them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// What servers that check tokens are configured with.
pub(crate) const SECRET: &str = "the secret of a test, 32 characters";

/// Seconds since 1970, as tokens count time.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token that says `claims`.
pub(crate) fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// A token of `user` that outlives the test.
pub(crate) fn token(user: &str) -> String {
    sign(&json!({ "sub": user, "exp": now() + 3600 }))
}
