//! What calls of the server API ask for: JSON in, checked values out. Pure.
//!
//! Members that a method does not know are ignored. Lists and maps end at [`ITEMS_MAX`] while they
//! are read, so that a body cannot become much more memory than it is itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::answer::CallError;
use crate::auth::Attachment;
use crate::http::query::HISTORY_LIMIT_MAX;
use crate::hub::{
    Epoch, IDEMPOTENCY_KEY_LEN_MAX, Payload, PayloadKind, Reach, Since, Tags, TopicName, Version,
};
use crate::protocol::centrifugo::{
    Asked, Disconnect, ErrorCode, Hears, Order, ServerSubscription, Span, json_of,
};
use crate::protocol::plain;
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;
use crate::worker::{Errand, Whom};

/// Most items of one list or map: topics of a broadcast, commands of a batch, tags, client ids.
pub(super) const ITEMS_MAX: usize = 10_000;

/// Longest epoch of a version, in bytes.
const VERSION_EPOCH_LEN_MAX: usize = 64;

/// Longest reason of a close frame (RFC 6455 section 5.5).
const REASON_LEN_MAX: usize = 123;

/// Most of a decoder's words that are told: they may quote the request.
const COMPLAINT_LEN_MAX: usize = 200;

/// Decodes a request, which may be empty.
///
/// # Errors
/// 400 `query_invalid` for what is not JSON, or not what the method takes.
pub(super) fn decode<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, Refused> {
    let body = match body.trim_ascii() {
        "" => "{}",
        // A list of members in their order would be taken for an object.
        object if object.starts_with('{') => object,
        _ => return Err(Refusal::QueryInvalid.because("a request is a JSON object")),
    };
    serde_json::from_str(body).map_err(|error| {
        let complaint: String = error.to_string().chars().take(COMPLAINT_LEN_MAX).collect();
        Refusal::QueryInvalid.because(format!("not a request of this method: {complaint}"))
    })
}

/// Limits of the configuration that requests are held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) message_len_max: usize,
    pub(super) topic_name_len_max: usize,
}

/// A list of at most [`ITEMS_MAX`].
#[derive(Debug)]
pub(super) struct Listed<T>(pub(super) Vec<T>);

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Listed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {ITEMS_MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == ITEMS_MAX {
                        return Err(A::Error::invalid_length(items.len(), &self));
                    }
                    items.push(item);
                }
                Ok(Listed(items))
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// A map of at most [`ITEMS_MAX`] strings.
#[derive(Debug, Default)]
struct Tagged(Tags);

impl<'de> Deserialize<'de> for Tagged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Tagged;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {ITEMS_MAX} strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tags = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if tags.len() == ITEMS_MAX {
                        return Err(A::Error::invalid_length(tags.len(), &self));
                    }
                    tags.insert(name, value);
                }
                Ok(Tagged(tags))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// JSON as it is written, `null` included.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// A name, which must be one of a topic.
fn topic(name: &str, bounds: Bounds) -> Result<TopicName, CallError> {
    if name.is_empty() {
        return Err(CallError::bad("channel is missing"));
    }
    TopicName::new(name, bounds.topic_name_len_max)
        .map_err(|fault| CallError::bad(format!("channel: {fault}")))
}

fn decode_base64(text: &str) -> Result<Vec<u8>, CallError> {
    BASE64_STANDARD.decode(text).map_err(|_| CallError::bad("not base64"))
}

/// `publish` and `broadcast`. `delta` is not looked at: who gets deltas is up to the topic.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PublishRequest<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    channels: Listed<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "written")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    b64data: Cow<'a, str>,
    skip_history: bool,
    tags: Tagged,
    #[serde(borrow)]
    idempotency_key: Cow<'a, str>,
    version: u64,
    #[serde(borrow)]
    version_epoch: Cow<'a, str>,
}

/// What is published, wherever.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) payload: Payload,
    pub(super) tags: Option<Tags>,
}

impl PublishRequest<'_> {
    pub(super) fn topic(&self, bounds: Bounds) -> Result<TopicName, CallError> {
        topic(&self.channel, bounds)
    }

    /// The topics of a broadcast, of which there must be some; each is good or bad by itself.
    pub(super) fn topics(
        &self,
        bounds: Bounds,
    ) -> Result<impl Iterator<Item = Result<TopicName, CallError>>, CallError> {
        let Listed(names) = &self.channels;
        if names.is_empty() {
            return Err(CallError::bad("channels are missing"));
        }
        Ok(names.iter().map(move |name| topic(name, bounds)))
    }

    /// The payload: JSON byte for byte as it is written, or bytes.
    pub(super) fn content(&mut self, bounds: Bounds) -> Result<Content, CallError> {
        let (kind, data) = match (self.data, &*self.b64data) {
            (Some(data), "") => (PayloadKind::Text, Cow::Borrowed(data.get().as_bytes())),
            (None, "") => return Err(CallError::bad("data is missing")),
            (None, text) => (PayloadKind::Binary, Cow::Owned(decode_base64(text)?)),
            (Some(_), _) => return Err(CallError::bad("data and b64data exclude each other")),
        };
        let Tagged(tags) = std::mem::take(&mut self.tags);
        let tags_len = |(name, value): (&String, &String)| name.len().saturating_add(value.len());
        let len = tags.iter().map(tags_len).fold(data.len(), usize::saturating_add);
        let limit = bounds.message_len_max;
        if len > limit {
            return Err(CallError::bad(format!(
                "a publication has at most {limit} bytes, tags included (limits.message_bytes_max)"
            )));
        }
        let tags = (!tags.is_empty()).then_some(tags);
        Ok(Content { payload: plain::payload(kind, &data), tags })
    }

    pub(super) fn reach(&self) -> Reach {
        if self.skip_history { Reach::Present } else { Reach::All }
    }

    pub(super) fn idempotency_key(&self) -> Result<Option<&str>, CallError> {
        match &*self.idempotency_key {
            "" => Ok(None),
            key if key.len() <= IDEMPOTENCY_KEY_LEN_MAX => Ok(Some(key)),
            _ => Err(CallError::bad(format!(
                "idempotency_key has at most {IDEMPOTENCY_KEY_LEN_MAX} bytes"
            ))),
        }
    }

    pub(super) fn version(&self) -> Result<Option<Version<'_>>, CallError> {
        let (number, epoch) = (self.version, &*self.version_epoch);
        if epoch.len() > VERSION_EPOCH_LEN_MAX {
            let detail = format!("version_epoch has at most {VERSION_EPOCH_LEN_MAX} bytes");
            return Err(CallError::bad(detail));
        }
        Ok((number > 0).then_some(Version { number, epoch }))
    }
}

/// Calls about the sessions of a user: `subscribe`, `unsubscribe`, `disconnect`, `refresh`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserRequest<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    session: Cow<'a, str>,
    #[serde(borrow)]
    whitelist: Listed<Cow<'a, str>>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    b64info: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    b64data: Cow<'a, str>,
    #[serde(borrow)]
    recover_since: Option<Place<'a>>,
    #[serde(rename = "override")]
    overrides: Overrides,
    #[serde(borrow)]
    disconnect: Option<Words<'a>>,
    expired: bool,
    expire_at: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Overrides {
    force_push_join_leave: Option<Switch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Switch {
    value: bool,
}

/// The code and reason that a client is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Words<'a> {
    code: u16,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

impl UserRequest<'_> {
    /// The sessions that are meant.
    pub(super) fn whom(&self) -> Result<Whom, CallError> {
        if self.user.is_empty() {
            return Err(CallError::bad("user is missing"));
        }
        let asked = |name: &str| (!name.is_empty()).then(|| Box::from(name));
        let Listed(spared) = &self.whitelist;
        Ok(Whom {
            user: Box::from(&*self.user),
            client: asked(&self.client),
            session: asked(&self.session),
            spared: spared.iter().map(|name| Box::from(&**name)).collect(),
        })
    }

    pub(super) fn subscribe(&self, bounds: Bounds, now: Stamp) -> Result<Errand, CallError> {
        let topic = self.protocol_topic(bounds)?;
        let expires_at = (self.expire_at > 0).then_some(self.expire_at);
        if expires_at.is_some_and(|at| at <= now.wall / 1_000) {
            return Err(CallError::new(ErrorCode::Expired, "expire_at is not to come"));
        }
        let hears = match self.overrides.force_push_join_leave {
            Some(Switch { value: true }) => Hears::Members,
            Some(Switch { value: false }) | None => Hears::Publications,
        };
        Ok(Errand::Subscribe(ServerSubscription {
            info: attached(self.info, &self.b64info)?,
            data: attached(self.data, &self.b64data)?,
            hears,
            recover: self.recover_since.as_ref().map(Place::asked),
            expires_at,
            topic: topic.as_str().into(),
        }))
    }

    pub(super) fn unsubscribe(&self, bounds: Bounds) -> Result<Errand, CallError> {
        let is_named = !self.channel.is_empty();
        let topic = is_named.then(|| self.protocol_topic(bounds)).transpose()?;
        Ok(Errand::Unsubscribe(topic))
    }

    pub(super) fn disconnect(&self) -> Result<Errand, CallError> {
        let Some(Words { code, reason }) = &self.disconnect else {
            return Ok(Errand::Disconnect(Disconnect::ForceNoReconnect, None));
        };
        if !(3000..=4999).contains(code) {
            return Err(CallError::bad("a disconnect code is a number from 3000 to 4999"));
        }
        if reason.len() > REASON_LEN_MAX {
            let detail = format!("a disconnect reason has at most {REASON_LEN_MAX} bytes");
            return Err(CallError::bad(detail));
        }
        Ok(Errand::Disconnect(Disconnect::Custom(*code), Some(Box::from(&**reason))))
    }

    pub(super) fn refresh(&self) -> Result<Errand, CallError> {
        let info = attached(self.info, &self.b64info)?;
        let expires_at = match (self.expired, self.expire_at) {
            (true, _) => Some(0),
            (false, 0) => None,
            (false, at) => Some(at),
        };
        Ok(Errand::Refresh { expires_at, info })
    }

    /// The topic of a subscription: names beyond ASCII exist, but this protocol has none.
    fn protocol_topic(&self, bounds: Bounds) -> Result<TopicName, CallError> {
        if !self.channel.is_ascii() {
            return Err(CallError::bad("channel: a subscription's is ASCII"));
        }
        topic(&self.channel, bounds)
    }
}

/// What is told with a session or a subscription: JSON on one line, empty = nothing.
fn attached(json: Option<&RawValue>, base64: &str) -> Result<Bytes, CallError> {
    let attachment = match json {
        Some(json) => Some(Attachment::Json(json.to_owned())),
        None if base64.is_empty() => None,
        None => Some(Attachment::Binary(decode_base64(base64)?.into())),
    };
    Ok(json_of(attachment.as_ref()))
}

/// Calls about one topic: `history`, `history_remove`, `presence`, `presence_stats`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TopicRequest<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    limit: i64,
    #[serde(borrow)]
    since: Option<Place<'a>>,
    reverse: bool,
}

/// A position.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place<'a> {
    offset: u64,
    #[serde(borrow)]
    epoch: Cow<'a, str>,
}

impl Place<'_> {
    fn asked(&self) -> Asked {
        Asked { epoch: Box::from(&*self.epoch), offset: self.offset }
    }
}

impl TopicRequest<'_> {
    pub(super) fn topic(&self, bounds: Bounds) -> Result<TopicName, CallError> {
        topic(&self.channel, bounds)
    }

    /// The part of the history that is asked for. A negative limit asks for all there is.
    pub(super) fn span(&self) -> Result<Span, CallError> {
        let order = if self.reverse { Order::NewestFirst } else { Order::OldestFirst };
        let since = match &self.since {
            Some(place) if place.offset == 0 && self.reverse => {
                return Err(CallError::bad("nothing is before offset 0"));
            }
            Some(place) if place.epoch.is_empty() => {
                Some(Since { epoch: None, offset: place.offset })
            }
            Some(place) => {
                let epoch = Epoch::parse(&place.epoch).ok_or(ErrorCode::UnrecoverablePosition)?;
                Some(Since { epoch: Some(epoch), offset: place.offset })
            }
            None => None,
        };
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX).min(HISTORY_LIMIT_MAX);
        Ok(Span { since, limit, order })
    }
}

/// `channels`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListRequest<'a> {
    /// Names that are meant; empty = all.
    #[serde(borrow)]
    pub(super) pattern: Cow<'a, str>,
}

/// `info` and `rpc`, which are asked nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BareRequest {}

/// `batch`. Commands are carried out one after the other, whatever `parallel` says: in this order
/// they are right in any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BatchRequest<'a> {
    #[serde(borrow)]
    pub(super) commands: Listed<&'a RawValue>,
}

/// The method and the request of a command in a batch: the object's first member.
pub(super) fn command(text: &RawValue) -> Result<(Cow<'_, str>, &RawValue), CallError> {
    struct First;

    impl<'de> Visitor<'de> for First {
        type Value = Option<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with one member")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            #[derive(Deserialize)]
            struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

            let mut found = None;
            while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                if value.get() != "null" && found.replace((name, value)).is_some() {
                    return Err(A::Error::custom("more than one method"));
                }
            }
            Ok(found)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text.get());
    let found = deserializer.deserialize_map(First).ok().flatten();
    found.ok_or_else(|| CallError::bad("a command is an object with one method"))
}
