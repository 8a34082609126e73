//! What sessions ask and are told at once: what topics offer, and what tokens say.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::auth::{
    Access, Attachment, Identity, Rights, SubscriptionOptions, TokenError, Verifier,
};
use crate::hub::{Hub, TopicName};
use crate::protocol::centrifugo::{
    ConnectionToken, Delta, Host, Presence, Recovery, ServerSubscription, Settings,
    SubscriptionToken, TokenFault, TopicOptions,
};
use crate::time::Stamp;

/// Those who know topics and keys, and what holds for all sessions.
#[derive(Debug)]
pub struct Gate {
    hub: Arc<Hub>,
    access: Arc<Access>,
    pub(super) settings: Settings,
}

impl Gate {
    /// Asks `hub` for topics and `access` for rights.
    pub fn new(hub: Arc<Hub>, access: Arc<Access>, settings: Settings) -> Self {
        Self { hub, access, settings }
    }

    fn verifier(&self) -> Result<&Verifier, TokenFault> {
        let verifier = self.access.verifier();
        if verifier.has_keys() { Ok(verifier) } else { Err(TokenFault::NoKey) }
    }
}

impl Host for Gate {
    fn topic(&self, topic: &TopicName) -> Option<TopicOptions> {
        let has_history = self.hub.rule(topic).history_size > 0;
        let recovery = if has_history { Recovery::Stream } else { Recovery::Off };
        Some(TopicOptions { recovery, presence: Presence::Off, delta: Delta::Off })
    }

    fn rights(&self, identity: &Identity, topic: &TopicName) -> Rights {
        self.access.rights(identity, topic, self.hub.rule(topic))
    }

    fn connection_token(&self, token: &str, now: u64) -> Result<ConnectionToken, TokenFault> {
        let verifier = self.verifier()?;
        let claims = verifier.try_verify(token, at(now)).map_err(fault)?;
        let listed = claims.topics.iter().map(|topic| ServerSubscription::to(topic));
        let detailed =
            claims.subscriptions.iter().map(|(topic, options)| subscription(topic, options));
        Ok(ConnectionToken {
            // The session ends by itself when its token does, unless that is renewed.
            identity: claims.identity(verifier.expiry_grace(), at(now)),
            user: claims.user.as_deref().unwrap_or_default().into(),
            expires_at: claims.expires_at,
            info: json(claims.info.as_ref()),
            subscriptions: detailed.chain(listed).collect(),
        })
    }

    fn subscription_token(&self, token: &str, now: u64) -> Result<SubscriptionToken, TokenFault> {
        let claims = self.verifier()?.try_verify_subscription(token, at(now)).map_err(fault)?;
        Ok(SubscriptionToken {
            user: claims.user.as_deref().unwrap_or_default().into(),
            topic: claims.topic.into(),
            client: claims.client.unwrap_or_default().into(),
            expires_at: claims.expires_at,
            info: json(claims.options.info.as_ref()),
            data: json(claims.options.data.as_ref()),
        })
    }
}

fn at(seconds: u64) -> Stamp {
    Stamp { wall: seconds.saturating_mul(1000), instant: Instant::now() }
}

fn fault(error: TokenError) -> TokenFault {
    match error {
        TokenError::Expired => TokenFault::Expired,
        TokenError::KeyUnknown | TokenError::KeysAway => TokenFault::KeyAway,
        _ => TokenFault::Invalid,
    }
}

fn subscription(topic: &str, options: &SubscriptionOptions) -> ServerSubscription {
    let (info, data) = (json(options.info.as_ref()), json(options.data.as_ref()));
    ServerSubscription { topic: topic.into(), info, data }
}

/// As JSON: bytes that are none become a string of base64.
fn json(attachment: Option<&Attachment>) -> Bytes {
    match attachment {
        None => Bytes::new(),
        Some(Attachment::Json(value)) => Bytes::copy_from_slice(value.get().as_bytes()),
        Some(Attachment::Binary(bytes)) if serde_json::from_slice::<&RawValue>(bytes).is_ok() => {
            Bytes::copy_from_slice(bytes)
        }
        Some(Attachment::Binary(bytes)) => {
            Bytes::from(format!("\"{}\"", BASE64_STANDARD.encode(bytes)))
        }
    }
}
