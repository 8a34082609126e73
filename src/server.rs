//! Stand-in for the server, so that the command line builds; not to be merged.

use crate::config::Config;

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The stand-in cannot serve.
    #[error("this build has no server")]
    Missing,
}

/// Serves until drained.
///
/// # Errors
/// Always: this is a stand-in.
pub fn run(_: Config) -> Result<(), ServeError> {
    Err(ServeError::Missing)
}
