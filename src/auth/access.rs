//! From a request to an identity.

use std::net::SocketAddr;

use http::HeaderMap;
use http::request::Parts;

use super::credential::Credential;
use super::header;
use super::identity::{Identity, Right};
use super::{Anonymous, Secret};
use crate::reason::{Refusal, Refused};

/// `[auth]` of the configuration.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// What a client without a credential may do.
    pub anonymous: Anonymous,
    /// Each one may do everything.
    pub api_keys: Vec<Secret>,
}

/// A client that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// What it may do from now on.
    pub identity: Identity,
    /// The whole `bearer.<jwt>` subprotocol, where the client was let in by it.
    pub used_bearer: Option<String>,
}

/// The rules that turn a request into an identity.
#[derive(Debug)]
pub struct Access {
    config: AuthConfig,
    /// Whether nobody but this machine reaches the listeners.
    listens_on_loopback: bool,
}

impl Access {
    /// Takes the configuration and the addresses that are really listened on.
    pub fn new(config: AuthConfig, listen: &[SocketAddr]) -> Self {
        let listens_on_loopback = !listen.is_empty()
            && listen.iter().all(|address| address.ip().to_canonical().is_loopback());
        Self { config, listens_on_loopback }
    }

    /// Whether clients of this machine may do everything without a credential.
    pub fn is_loopback_effective(&self) -> bool {
        self.config.anonymous == Anonymous::Loopback && self.listens_on_loopback
    }

    /// Says who the client is by the first credential it shows, or by what anonymous clients may do.
    ///
    /// # Errors
    /// 401 for a credential that is missing or bad, 403 `host_not_allowed` where loopback access
    /// is asked for under a name that is not this machine's.
    pub fn identify(&self, parts: &Parts) -> Result<Identified, Refused> {
        let identity = match Credential::find(parts)? {
            Some(Credential::ApiKey(key)) if self.is_api_key(key) => Identity::ALL,
            Some(Credential::ApiKey(_)) => {
                return Err(Refusal::TokenInvalid.because("this API key is not configured"));
            }
            Some(Credential::Token) => {
                let message = "no key is configured to check tokens with; use an API key";
                return Err(Refusal::TokenInvalid.because(message));
            }
            None => self.anonymous(&parts.headers)?,
        };
        Ok(Identified { identity, used_bearer: None })
    }

    /// Compares with every key, so that the time does not tell which one was near.
    fn is_api_key(&self, key: &str) -> bool {
        let keys = self.config.api_keys.iter().filter(|key| !key.is_empty());
        keys.fold(false, |hit, known| hit | known.matches(key.as_bytes()))
    }

    fn anonymous(&self, headers: &HeaderMap) -> Result<Identity, Refused> {
        match self.config.anonymous {
            Anonymous::All => Ok(Identity::ALL),
            Anonymous::Subscribe => Ok(Identity::with(&[Right::Subscribe, Right::History])),
            Anonymous::None => Err(Refusal::TokenRequired.into()),
            Anonymous::Loopback => self.loopback(headers),
        }
    }

    fn loopback(&self, headers: &HeaderMap) -> Result<Identity, Refused> {
        if !self.listens_on_loopback {
            let message = "auth.anonymous = \"loopback\" lets in nobody while the server listens \
                           on other addresses; send an API key";
            return Err(Refusal::TokenRequired.because(message));
        }
        if headers.keys().any(|name| is_of_proxy(name.as_str())) {
            let message = "the request came through a proxy, so it is not of this machine; send \
                           an API key";
            return Err(Refusal::TokenRequired.because(message));
        }
        // A page of elsewhere whose name was made to resolve to this machine still sends its name.
        match header::host(headers) {
            Some(host) if header::is_of_this_machine(host.host()) => Ok(Identity::ALL),
            _ => Err(Refusal::HostNotAllowed.into()),
        }
    }
}

fn is_of_proxy(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip" | "via") || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests;
