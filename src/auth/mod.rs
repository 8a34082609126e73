//! Who may do what: one identity per connection, one function that answers.

mod secret;

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

/// `[auth]` of the configuration.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// What a client without a credential may do.
    pub anonymous: Anonymous,
    /// Keys that may do everything.
    pub api_keys: Vec<Secret>,
}
