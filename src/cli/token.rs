//! `fanwire token`: signs a token with the configured key, and prints nothing else.

use std::process::ExitCode;

use super::argument::TokenArguments;
use super::{ConfigError, show};
use crate::auth::{NewClaims, Signer};
use crate::time::Stamp;

pub(super) fn run(arguments: TokenArguments) -> anyhow::Result<ExitCode> {
    let TokenArguments { user, topics, allow, ttl, config } = arguments;
    let loaded = config.load()?;
    let signer = Signer::new(&loaded.config.auth).map_err(|error| ConfigError(error.into()))?;
    let issued_at = Stamp::now().wall / 1000;
    let claims = NewClaims {
        user: &user,
        topics: &topics,
        allow: &allow,
        issued_at,
        expires_at: issued_at.saturating_add(ttl.as_secs().max(1)),
    };
    let token = signer.sign(&claims).map_err(|error| ConfigError(error.into()))?;
    show(&(token + "\n"))
}
