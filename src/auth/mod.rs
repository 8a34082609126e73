//! Who may do what: one identity per connection, one function that answers.
//!
//! Credentials are read here and nowhere else; this module never answers a request. The only thing
//! it does on its own is to fetch the key set, in a task that `server` runs.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod access;
mod caps;
mod credential;
pub(crate) mod header;
mod identity;
mod jwks;
mod proxy;
mod secret;
mod token;

pub use access::{Access, AuthConfig, Identified};
pub use caps::{Caps, PATTERNS_COUNT_MAX};
pub use identity::{Expiry, Grant, Identity, Right, Rights};
pub use jwks::{FetchError, FetchResult, KEYS_COUNT_MAX, KeySet, UrlError};
pub use proxy::{Client, Proxies};
pub use secret::Secret;
pub use token::{
    Attachment, Claims, KeyError, KeyFile, NewClaims, Overrides, SignError, Signer,
    SubscriptionClaims, SubscriptionOptions, TOKEN_LEN_MAX, TokenError, USER_LEN_MAX, Verifier,
};

/// What a client without a credential may do (`auth.anonymous`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// Everything, while the server listens on a loopback address.
    #[default]
    Loopback,
    /// Subscribe and read history.
    Subscribe,
    /// Everything.
    All,
    /// Nothing.
    None,
}
