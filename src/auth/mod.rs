//! Who may do what: one identity per connection, one function that answers.
//!
//! Credentials are read here and nowhere else; this module never answers a request.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod access;
mod credential;
pub(crate) mod header;
mod identity;
mod secret;

pub use access::{Access, AuthConfig, Identified};
pub use identity::{Identity, Right};
pub use secret::Secret;

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
