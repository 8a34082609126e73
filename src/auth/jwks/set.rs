//! A key set as it comes (RFC 7517 section 5): what of it we can use.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::FetchError;
use crate::auth::token::PublicKey;

/// Keys that are kept of one set.
pub const KEYS_COUNT_MAX: usize = 64;

/// The usable keys of a set; never empty, at most [`KEYS_COUNT_MAX`].
#[derive(Debug)]
pub(super) struct Set(Vec<(Option<String>, Arc<PublicKey>)>);

impl Set {
    /// Reads a set. Keys of kinds that we do not know, and broken ones, are left out.
    pub(super) fn parse(body: &[u8]) -> Result<Self, FetchError> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let document: Document<'_> =
            serde_json::from_slice(body).map_err(|_| FetchError::NotAKeySet)?;
        let keys = document.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_str(key.get()).ok()?;
            Some((jwk.common.key_id.clone(), Arc::new(PublicKey::of_jwk(&jwk)?)))
        });
        let keys: Vec<_> = keys.take(KEYS_COUNT_MAX).collect();
        if keys.is_empty() { Err(FetchError::NoKey) } else { Ok(Self(keys)) }
    }

    /// The key with that id; without an id, the only one for the algorithm.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<PublicKey>> {
        let mut keys = self.0.iter().filter(|(its, key)| {
            kid.is_none_or(|kid| its.as_deref() == Some(kid)) && key.can_check(algorithm)
        });
        let (_, first) = keys.next()?;
        keys.next().is_none().then(|| Arc::clone(first))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}
