//! Publications, joins and leaves for subscribers: a push, encoded once for all on the same wire.
//!
//! Text that is JSON is embedded as it is; other text is a JSON string, and bytes are a string of
//! base64 with the tag `encoding` = `base64`. Protobuf carries the payload's bytes in all cases.
//! One push is one frame: pushes of a turn are joined by the worker, frame behind frame, in one
//! write. Joining their messages inside one frame would save two to four bytes for each, and need
//! an encoding of their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::frame::{Codec, Wire};
use super::message::{ClientInfo, Join, Leave, Publication, Push, Reply};
use super::{fossil, json};
use crate::hub::{self, Payload, PayloadKind, Tags, TopicName};

/// The tag of a publication whose data are base64, and its value.
const ENCODING_TAG: (&str, &str) = ("encoding", "base64");

/// What JSON needs to name all fields of a publication.
const FIELD_NAMES_LEN: usize = 128;

impl ClientInfo {
    /// A client as clients of this protocol see it.
    pub fn of(peer: &hub::Peer) -> Self {
        Self {
            user: peer.user.to_string(),
            client: peer.client.to_string(),
            conn_info: peer.info.clone(),
            chan_info: peer.topic_info.clone(),
        }
    }
}

impl Publication {
    /// A publication as the clients of `codec` see it.
    pub fn of(codec: Codec, publication: &hub::Publication) -> Self {
        let (data, tags) = content(codec, publication.payload());
        let tags = with_own(tags, publication.draft.tags.as_deref());
        let offset = publication.epoch.map_or(0, |_| publication.offset);
        // Where a stream begins, the client learns which one it is.
        let epoch = publication.epoch.filter(|_| offset == 1);
        let epoch = epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
        let info = publication.draft.publisher.as_deref().map(ClientInfo::of);
        Self { data, info, offset, tags, delta: false, epoch }
    }

    /// A publication for clients that take deltas: what makes its content of that of the payload
    /// `before`, where there is one and that is shorter. In JSON it is a string in any case, of
    /// the delta or of the content's own text.
    pub fn after(codec: Codec, publication: &hub::Publication, before: Option<&Payload>) -> Self {
        let mut one = Self { epoch: String::new(), ..Self::of(codec, publication) };
        let delta = before.map(|before| fossil::encode(&content(codec, before).0, &one.data));
        if let Some(delta) = delta.filter(|delta| delta.len() < one.data.len()) {
            one.data = Bytes::from(delta);
            one.delta = true;
        }
        if codec == Codec::Json {
            // A delta between texts is text.
            one.data = json::string(&String::from_utf8_lossy(&one.data));
        }
        one
    }
}

impl Publication {
    /// Bytes that it takes in a reply, at most, unless names in it must be escaped.
    pub(super) fn reply_len(&self) -> usize {
        self.encoded_len() + FIELD_NAMES_LEN
    }
}

/// The publisher's tags, and those that say how the payload is written.
fn with_own(mut tags: BTreeMap<String, String>, own: Option<&Tags>) -> BTreeMap<String, String> {
    for (name, value) in own.into_iter().flatten() {
        tags.entry(name.clone()).or_insert_with(|| value.clone());
    }
    tags
}

fn content(codec: Codec, payload: &Payload) -> (Bytes, BTreeMap<String, String>) {
    let data = payload.framed().slice_ref(payload.data());
    match (codec, payload.kind()) {
        (Codec::Protobuf, _) => (data, BTreeMap::new()),
        (Codec::Json, PayloadKind::Text) => (json::value(&data), BTreeMap::new()),
        (Codec::Json, PayloadKind::Binary) => {
            let (name, value) = ENCODING_TAG;
            let tags = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            (json::base64(&data), tags)
        }
    }
}

/// The push of a publication, for all subscribers on `wire`.
pub fn publication(wire: Wire, publication: &hub::Publication, topic: &TopicName) -> Bytes {
    let publication = Some(Publication::of(wire.codec(), publication));
    push(wire, topic, Push { r#pub: publication, ..Push::default() })
}

/// As [`publication`], for subscribers on `wire` that take deltas and have the payload `before`.
pub fn delta(
    wire: Wire,
    publication: &hub::Publication,
    before: Option<&Payload>,
    topic: &TopicName,
) -> Bytes {
    let publication = Some(Publication::after(wire.codec(), publication, before));
    push(wire, topic, Push { r#pub: publication, ..Push::default() })
}

/// Tells the members of `topic` on `wire` who joined.
pub fn join(wire: Wire, topic: &TopicName, info: ClientInfo) -> Bytes {
    push(wire, topic, Push { join: Some(Join { info: Some(info) }), ..Push::default() })
}

/// Tells the members of `topic` on `wire` who left.
pub fn leave(wire: Wire, topic: &TopicName, info: ClientInfo) -> Bytes {
    push(wire, topic, Push { leave: Some(Leave { info: Some(info) }), ..Push::default() })
}

fn push(wire: Wire, topic: &TopicName, push: Push) -> Bytes {
    let push = Push { channel: topic.to_string(), ..push };
    wire.frame(&Reply { push: Some(push), ..Reply::default() })
}
