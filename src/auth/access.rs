//! From a request to an identity, and from an identity to its rights on a topic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;

use super::credential::{BEARER_PROTOCOL, Credential};
use super::header;
use super::identity::{Identity, Right, Rights};
use super::jwks::KeySet;
use super::proxy::Client;
use super::token::{Claims, KeyFile, TokenError, Verifier};
use super::{Anonymous, Secret};
use crate::hub::TopicName;
use crate::limits::{Audience, TopicRule};
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;

/// Stands before the users of a user-limited topic, and between them.
const USERS_MARK: char = '#';
const USERS_SEPARATOR: char = ',';

/// `[auth]` of the configuration.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// What a client without a credential may do.
    pub anonymous: Anonymous,
    /// Each one may do everything.
    pub api_keys: Vec<Secret>,
    /// Secret of HS256, HS384 and HS512 tokens; empty = none are taken.
    pub jwt_hmac_secret: Secret,
    /// Public keys of RS, ES and `EdDSA` tokens.
    pub jwt_public_key_file: Option<KeyFile>,
    /// What `fanwire token` signs with in place of the secret; empty = none.
    pub jwt_private_key_file: String,
    /// Where public keys are fetched from; empty = nowhere.
    pub jwks_url: String,
    /// What `aud` must be or contain; empty = anything.
    pub jwt_audience: String,
    /// What `iss` must be; empty = anything.
    pub jwt_issuer: String,
    /// Whether a token without `exp` is refused.
    pub jwt_expiry_required: bool,
    /// How long a session goes on after its token's end.
    pub expiry_grace: Duration,
    /// Whether a name like `chat#alice,bob` limits its topic to these users.
    pub user_limited_topics: bool,
    /// Whether users have a topic of their own, to which those of protocols with subscriptions by the
    /// server are subscribed.
    pub personal_topics: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            anonymous: Anonymous::default(),
            api_keys: Vec::new(),
            jwt_hmac_secret: Secret::default(),
            jwt_public_key_file: None,
            jwt_private_key_file: String::new(),
            jwks_url: String::new(),
            jwt_audience: String::new(),
            jwt_issuer: String::new(),
            jwt_expiry_required: false,
            expiry_grace: Duration::from_secs(10),
            user_limited_topics: false,
            personal_topics: false,
        }
    }
}

/// A client that was let in.
#[derive(Debug, Clone)]
pub struct Identified {
    /// What it may do from now on.
    pub identity: Identity,
    /// All that its token says, where it was let in by one.
    pub claims: Option<Box<Claims>>,
    /// The whole `bearer.<jwt>` subprotocol, where the client was let in by it.
    pub used_bearer: Option<String>,
}

impl From<Identity> for Identified {
    fn from(identity: Identity) -> Self {
        Self { identity, claims: None, used_bearer: None }
    }
}

/// The rules that turn a request into an identity, and an identity into rights.
#[derive(Debug)]
pub struct Access {
    anonymous: Anonymous,
    api_keys: Vec<Secret>,
    user_limited_topics: bool,
    personal_topics: bool,
    verifier: Verifier,
    /// Whether nobody but this machine reaches the listeners.
    listens_on_loopback: bool,
}

impl Access {
    /// Takes the configuration, the key set of its `jwks_url` where it has one, and the addresses
    /// that are really listened on.
    pub fn new(config: &AuthConfig, keys: Option<Arc<KeySet>>, listen: &[SocketAddr]) -> Self {
        let listens_on_loopback = !listen.is_empty()
            && listen.iter().all(|address| address.ip().to_canonical().is_loopback());
        Self {
            anonymous: config.anonymous,
            api_keys: config.api_keys.clone(),
            user_limited_topics: config.user_limited_topics,
            personal_topics: config.personal_topics,
            verifier: Verifier::new(config, keys),
            listens_on_loopback,
        }
    }

    /// Whether clients of this machine may do everything without a credential.
    pub fn is_loopback_effective(&self) -> bool {
        self.anonymous == Anonymous::Loopback && self.listens_on_loopback
    }

    /// The name of the topic that is for `user` alone, if users have such topics.
    pub fn personal_topic(&self, user: &str) -> Option<String> {
        self.personal_topics.then(|| format!("{USERS_MARK}{user}"))
    }

    /// What checks tokens, for doors that get them after the handshake.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Says who the client is by the first credential it shows, or by what anonymous clients may do.
    ///
    /// # Errors
    /// 401 for a credential that is missing or bad, 403 `host_not_allowed` where loopback access
    /// is asked for under a name that is not this machine's, 500 while there is no key set.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn identify(&self, parts: &Parts, client: Client) -> Result<Identified, Refused> {
        match Credential::find(parts)? {
            Some(Credential::ApiKey(key)) if self.is_api_key(key) => Ok(Identity::SERVER.into()),
            Some(Credential::ApiKey(_)) => Err(key_unknown()),
            Some(Credential::Token(token)) => self.by_token(&token).await,
            Some(Credential::BearerProtocol(token)) => {
                let used_bearer = Some([BEARER_PROTOCOL, token].concat());
                Ok(Identified { used_bearer, ..self.by_token(token).await? })
            }
            None => Ok(Identity::anonymous(self.anonymous(&parts.headers, client)?).into()),
        }
    }

    /// Lets only the holder of an API key pass, wherever the request comes from.
    ///
    /// # Errors
    /// 401 for a key that is missing or not configured.
    pub fn require_api_key(&self, parts: &Parts) -> Result<(), Refused> {
        match Credential::find_api_key(parts)? {
            Some(key) if self.is_api_key(&key) => Ok(()),
            Some(_) => Err(key_unknown()),
            None => Err(Refusal::TokenRequired.because("this needs an API key (auth.api_keys)")),
        }
    }

    /// What `identity` may do on a topic with that rule. Every right on every door is asked here.
    ///
    /// Linear in the patterns of a token with capabilities; a session keeps the answer for its topic.
    pub fn rights(&self, identity: &Identity, topic: &TopicName, rule: &TopicRule) -> Rights {
        if identity.is_server() {
            return Rights::ALL;
        }
        let listing = self.listing(identity.user().map(|user| &**user), topic.as_str());
        if listing == Listing::NotListed {
            return Rights::NONE;
        }
        let has_caps = identity.grant().is_some_and(|grant| grant.caps.is_some());
        identity.own_rights(topic.as_str()).only(|right| {
            let audience = match right {
                Right::Publish => rule.publish,
                // Whoever may not follow a topic may not look at it by another way either.
                Right::Subscribe | Right::History | Right::Presence => rule.subscribe,
            };
            match audience {
                Audience::Anyone => true,
                Audience::Authenticated => identity.user().is_some(),
                // What the capabilities do not cover is gone from its own rights.
                Audience::Token => has_caps || listing == Listing::Listed,
                Audience::Server => false,
            }
        })
    }

    /// As [`Access::rights`], for callers that refuse.
    ///
    /// # Errors
    /// [`Refusal::PermissionDenied`] where the client may not.
    pub fn require(
        &self,
        right: Right,
        identity: &Identity,
        topic: &TopicName,
        rule: &TopicRule,
    ) -> Result<Rights, Refused> {
        let rights = self.rights(identity, topic, rule);
        if rights.has(right) {
            return Ok(rights);
        }
        Err(Refusal::PermissionDenied.because(right.denied()))
    }

    /// Whether the name of a topic has `user` on its list: `chat#alice,bob`, or `#alice`, a topic of
    /// her own.
    fn listing(&self, user: Option<&str>, topic: &str) -> Listing {
        let Some((name, users)) = topic.rsplit_once(USERS_MARK) else { return Listing::NoList };
        let is_personal = self.personal_topics && name.is_empty();
        if !self.user_limited_topics && !is_personal {
            return Listing::NoList;
        }
        match user {
            Some(user) if users.split(USERS_SEPARATOR).any(|one| one == user) => Listing::Listed,
            Some(_) | None => Listing::NotListed,
        }
    }

    async fn by_token(&self, token: &str) -> Result<Identified, Refused> {
        if !self.verifier.has_keys() {
            let message = "no key is configured to check tokens with; use an API key";
            return Err(Refusal::TokenInvalid.because(message));
        }
        match self.verifier.verify(token).await {
            Ok(claims) => {
                let identity = claims.identity(self.verifier.expiry_grace(), Stamp::now());
                Ok(Identified { claims: Some(Box::new(claims)), ..identity.into() })
            }
            Err(error) => {
                log_refused(error);
                Err(error.into())
            }
        }
    }

    /// Compares with every key, so that the time does not tell which one was near.
    fn is_api_key(&self, key: &str) -> bool {
        let keys = self.api_keys.iter().filter(|key| !key.is_empty());
        keys.fold(false, |hit, known| hit | known.matches(key.as_bytes()))
    }

    fn anonymous(&self, headers: &HeaderMap, client: Client) -> Result<Rights, Refused> {
        match self.anonymous {
            Anonymous::All => Ok(Rights::ALL),
            Anonymous::Subscribe => Ok([Right::Subscribe, Right::History].into_iter().collect()),
            Anonymous::None => Err(Refusal::TokenRequired.into()),
            Anonymous::Loopback => self.loopback(headers, client),
        }
    }

    fn loopback(&self, headers: &HeaderMap, client: Client) -> Result<Rights, Refused> {
        if !self.listens_on_loopback {
            let message = "auth.anonymous = \"loopback\" lets in nobody while the server listens \
                           on other addresses; send a token or an API key";
            return Err(Refusal::TokenRequired.because(message));
        }
        // A proxy of this machine that is trusted says whether its client is of this machine, too.
        let is_near = client.behind.is_some_and(|address| address.is_loopback());
        if !is_near && headers.keys().any(|name| is_of_proxy(name.as_str())) {
            let message = "the request came through a proxy, so it is not of this machine; send \
                           a token or an API key";
            return Err(Refusal::TokenRequired.because(message));
        }
        // A page of elsewhere whose name was made to resolve to this machine still sends its name.
        match header::host(headers) {
            Some(host) if header::is_of_this_machine(host.host()) => Ok(Rights::ALL),
            _ => Err(Refusal::HostNotAllowed.into()),
        }
    }
}

/// What a topic's name says about a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// It has no list.
    NoList,
    Listed,
    NotListed,
}

fn key_unknown() -> Refused {
    Refusal::TokenInvalid.because("this API key is not configured")
}

/// Says why, where only the operator sees it.
fn log_refused(error: TokenError) {
    tracing::debug!(cause = %error, "token refused");
}

fn is_of_proxy(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip" | "via") || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests;
