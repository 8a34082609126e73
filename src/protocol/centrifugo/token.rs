//! Tokens as `auth` reads them, in the words of a session.

use std::time::Duration;

use bytes::Bytes;

use super::host::{ConnectionToken, Hears, ServerSubscription, SubscriptionToken, TokenFault};
use super::json;
use crate::auth::{
    Attachment, Claims, Identified, Identity, SubscriptionOptions, TokenError, Verifier,
};
use crate::time::Stamp;

/// Checks a connection token with the keys at hand; the identity ends `grace` after it.
///
/// # Errors
/// [`TokenFault`]; after [`TokenFault::KeyAway`] a look at the key set may help.
pub fn connection_token(
    verifier: &Verifier,
    token: &str,
    grace: Duration,
    now: Stamp,
) -> Result<ConnectionToken, TokenFault> {
    let claims = verifier.try_verify(token, now).map_err(|error| fault(verifier, error))?;
    Ok(ConnectionToken {
        expires_at: claims.expires_at,
        ..ConnectionToken::of(&claims, claims.identity(grace, now))
    })
}

impl ConnectionToken {
    fn of(claims: &Claims, identity: Identity) -> Self {
        let plain = claims.topics.iter().map(|topic| ServerSubscription::to(topic));
        // What is said of a topic in particular stands before its plain mention.
        let detailed = claims.subscriptions.iter();
        let subscriptions = detailed.map(|(topic, options)| ServerSubscription {
            info: json_of(options.info.as_ref()),
            data: json_of(options.data.as_ref()),
            hears: hears(options),
            ..ServerSubscription::to(topic)
        });
        Self {
            info: json_of(claims.info.as_ref()),
            subscriptions: subscriptions.chain(plain).collect(),
            ..identity.into()
        }
    }
}

/// A client whom its request lets in is not told when its token runs out: a cookie is renewed by
/// coming back, not by a command.
impl From<Identified> for ConnectionToken {
    fn from(Identified { identity, claims, .. }: Identified) -> Self {
        match claims {
            Some(claims) => Self::of(&claims, identity),
            None => identity.into(),
        }
    }
}

/// Checks a subscription token with the keys at hand.
///
/// # Errors
/// As [`connection_token`].
pub fn subscription_token(
    verifier: &Verifier,
    token: &str,
    now: Stamp,
) -> Result<SubscriptionToken, TokenFault> {
    let claims = verifier.try_verify_subscription(token, now);
    let claims = claims.map_err(|error| fault(verifier, error))?;
    Ok(SubscriptionToken {
        hears: hears(&claims.options),
        info: json_of(claims.options.info.as_ref()),
        data: json_of(claims.options.data.as_ref()),
        user: claims.user,
        topic: claims.topic.into(),
        client: claims.client.map(Into::into),
        expires_at: claims.expires_at,
    })
}

fn fault(verifier: &Verifier, error: TokenError) -> TokenFault {
    match error {
        _ if !verifier.has_keys() => TokenFault::NoKey,
        TokenError::Expired => TokenFault::Expired,
        TokenError::KeysAway => TokenFault::KeyAway,
        TokenError::TooLong
        | TokenError::Malformed
        | TokenError::Algorithm
        | TokenError::Critical
        | TokenError::KeyUnknown
        | TokenError::Signature
        | TokenError::Claim(_) => TokenFault::Invalid,
    }
}

fn hears(options: &SubscriptionOptions) -> Hears {
    match options.overrides.force_push_join_leave {
        Some(true) => Hears::Members,
        Some(false) | None => Hears::Publications,
    }
}

/// An attachment as JSON on one line, which bytes are as a string; empty where there is none.
pub fn json_of(attachment: Option<&Attachment>) -> Bytes {
    match attachment {
        None => Bytes::new(),
        Some(Attachment::Json(raw)) => json::value(&Bytes::copy_from_slice(raw.get().as_bytes())),
        Some(Attachment::Binary(bytes)) => json::value(&Bytes::copy_from_slice(bytes)),
    }
}
