//! What tokens say: the claims of connection and subscription tokens, checked as far as they need no
//! clock and no key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny};
use serde_json::Number;
use serde_json::value::RawValue;

use super::TokenError;
use crate::auth::caps::Caps;
use crate::auth::identity::{Expiry, Grant, Identity};
use crate::hub::Peer;
use crate::time::Stamp;

/// Longest user name, in bytes: it is in every publication of its user.
pub const USER_LEN_MAX: usize = 255;

/// Bytes that a token carries for others, as JSON or as they are.
#[derive(Debug, Clone)]
pub enum Attachment {
    /// `info` or `data`: any JSON, as it was written.
    Json(Box<RawValue>),
    /// `b64info` or `b64data`, decoded.
    Binary(Box<[u8]>),
}

/// A verified connection token.
#[derive(Debug, Clone)]
pub struct Claims {
    /// `sub`; `None` where it is missing or empty: the token names nobody.
    pub user: Option<Arc<str>>,
    /// End of the session in seconds since 1970: `expire_at` (0 = never), else `exp`.
    pub expires_at: Option<u64>,
    /// `info` or `b64info`, shown to other clients.
    pub info: Option<Attachment>,
    /// `meta`, for the server only.
    pub meta: Option<Box<RawValue>>,
    /// `channels`: topics to subscribe to on connect.
    pub topics: Vec<String>,
    /// `subs`: the same with options, by topic.
    pub subscriptions: BTreeMap<String, SubscriptionOptions>,
    /// `caps`; `None` = everything.
    pub caps: Option<Caps>,
}

/// A verified subscription token.
#[derive(Debug, Clone)]
pub struct SubscriptionClaims {
    /// `sub`; must be the connection's user.
    pub user: Option<Arc<str>>,
    /// `channel`; must be the topic that is asked for.
    pub topic: String,
    /// `client`; where given, must be the connection's id.
    pub client: Option<String>,
    /// End of the subscription in seconds since 1970: `expire_at` (0 = never), else `exp`.
    pub expires_at: Option<u64>,
    /// `info`, `data` and what is overridden.
    pub options: SubscriptionOptions,
}

/// What a token says about one subscription.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionOptions {
    /// `info` or `b64info`, shown to other subscribers.
    pub info: Option<Attachment>,
    /// `data` or `b64data`, for the subscriber.
    pub data: Option<Attachment>,
    /// `override`: topic options for this subscription; `None` = as the topic has it.
    pub overrides: Overrides,
}

/// `override`: each is `{"value": true|false}` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each field is the option of its name")]
pub struct Overrides {
    #[serde(deserialize_with = "switch")]
    pub presence: Option<bool>,
    #[serde(deserialize_with = "switch")]
    pub join_leave: Option<bool>,
    #[serde(deserialize_with = "switch")]
    pub force_push_join_leave: Option<bool>,
    #[serde(deserialize_with = "switch")]
    pub force_recovery: Option<bool>,
    #[serde(deserialize_with = "switch")]
    pub force_positioning: Option<bool>,
}

impl Claims {
    /// What the session that the token lets in is given; it ends `grace` after the token.
    pub fn grant(&self, grace: Duration, now: Stamp) -> Grant {
        Grant {
            publisher: self.user.clone().map(Peer::user),
            caps: self.caps.clone(),
            expiry: self.expires_at.and_then(|seconds| Expiry::new(seconds, grace, now)),
        }
    }

    /// The identity of that session.
    pub fn identity(&self, grace: Duration, now: Stamp) -> Identity {
        Identity::token(self.grant(grace, now))
    }
}

/// Claims that every token has (RFC 7519 section 4.1). A claim that is given twice is an error.
#[derive(Deserialize)]
pub(super) struct Registered {
    #[serde(default, deserialize_with = "present")]
    pub(super) exp: Option<Date>,
    #[serde(default, deserialize_with = "present")]
    pub(super) nbf: Option<Date>,
    #[serde(default, deserialize_with = "present")]
    pub(super) aud: Option<Audiences>,
    #[serde(default, deserialize_with = "present")]
    pub(super) iss: Option<String>,
}

/// `aud`: one or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Audiences {
    pub(super) fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

impl Registered {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        json(payload)
    }
}

/// A kind of token; reads its claims.
pub(super) trait Kind: Sized {
    fn parse(payload: &[u8]) -> Result<Self, TokenError>;
}

#[derive(Deserialize)]
struct RawClaims {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Date>,
    #[serde(default, deserialize_with = "present")]
    expire_at: Option<Date>,
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<String>,
    #[serde(default)]
    meta: Option<Box<RawValue>>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    subs: Option<BTreeMap<String, RawOptions>>,
    /// Null is an error: without capabilities a token may do everything.
    #[serde(default, deserialize_with = "present")]
    caps: Option<Caps>,
    #[serde(default)]
    channel: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawSubscriptionClaims {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Date>,
    #[serde(default, deserialize_with = "present")]
    expire_at: Option<Date>,
    channel: String,
    #[serde(default)]
    client: Option<String>,
    // Listed here again: with a flattened struct, a claim that is given twice would not be seen.
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, rename = "override")]
    overrides: Option<Overrides>,
}

#[derive(Deserialize)]
struct RawOptions {
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, rename = "override")]
    overrides: Option<Overrides>,
}

impl Kind for Claims {
    fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        let raw: RawClaims = json(payload)?;
        if raw.channel.is_some() {
            return Err(TokenError::Claim("a subscription token is not a connection token"));
        }
        let subscriptions = raw.subs.unwrap_or_default().into_iter();
        let subscriptions =
            subscriptions.map(|(topic, options)| options.read().map(|options| (topic, options)));
        Ok(Self {
            user: user(raw.sub)?,
            expires_at: end(raw.exp, raw.expire_at),
            info: attachment(raw.info, raw.b64info)?,
            meta: raw.meta,
            topics: raw.channels.unwrap_or_default(),
            subscriptions: subscriptions.collect::<Result<_, _>>()?,
            caps: raw.caps,
        })
    }
}

impl Kind for SubscriptionClaims {
    fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        let raw: RawSubscriptionClaims = json(payload)?;
        let RawSubscriptionClaims { info, b64info, data, b64data, overrides, .. } = raw;
        let options = RawOptions { info, b64info, data, b64data, overrides };
        Ok(Self {
            user: user(raw.sub)?,
            topic: raw.channel,
            client: raw.client.filter(|client| !client.is_empty()),
            expires_at: end(raw.exp, raw.expire_at),
            options: options.read()?,
        })
    }
}

impl RawOptions {
    fn read(self) -> Result<SubscriptionOptions, TokenError> {
        Ok(SubscriptionOptions {
            info: attachment(self.info, self.b64info)?,
            data: attachment(self.data, self.b64data)?,
            overrides: self.overrides.unwrap_or_default(),
        })
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TokenError> {
    // What serde says is not told on: it quotes the token.
    object(bytes).ok_or(TokenError::Claim("a claim is missing or malformed"))
}

/// Reads a JSON object: serde would also take the values in an array.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(bytes).ok().filter(|_| is_object)
}

fn user(sub: Option<String>) -> Result<Option<Arc<str>>, TokenError> {
    let Some(name) = sub.filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.len() > USER_LEN_MAX {
        return Err(TokenError::Claim("`sub` is too long"));
    }
    Ok(Some(Arc::from(name)))
}

fn end(exp: Option<Date>, expire_at: Option<Date>) -> Option<u64> {
    match expire_at {
        Some(Date(0)) => None,
        Some(date) => Some(date.0),
        None => exp.map(|date| date.0),
    }
}

/// The binary form beats the other, as it does in the protocol that has both.
fn attachment(
    json: Option<Box<RawValue>>,
    base64: Option<String>,
) -> Result<Option<Attachment>, TokenError> {
    let Some(base64) = base64.filter(|text| !text.is_empty()) else {
        return Ok(json.map(Attachment::Json));
    };
    let bytes = BASE64_STANDARD.decode(base64);
    let bytes = bytes.map_err(|_| TokenError::Claim("`b64info` or `b64data` is not base64"))?;
    Ok(Some(Attachment::Binary(bytes.into())))
}

/// Seconds since 1970 (RFC 7519 section 2, `NumericDate`), rounded up; never a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date(pub(super) u64);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        if let Some(seconds) = number.as_u64() {
            return Ok(Self(seconds));
        }
        // Below 0 is no mistake of a clock, and 0 may mean something else.
        let seconds = number.as_f64().filter(|seconds| *seconds > 0.0);
        let seconds = seconds.ok_or_else(|| D::Error::custom("not a date"))?;
        #[expect(clippy::cast_possible_truncation, reason = "what is too far away saturates")]
        #[expect(clippy::cast_sign_loss, reason = "it is above 0")]
        Ok(Self(seconds.ceil() as u64))
    }
}

/// A value that may be absent, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    struct Switch {
        value: bool,
    }
    Ok(Option::<Switch>::deserialize(deserializer)?.map(|switch| switch.value))
}
