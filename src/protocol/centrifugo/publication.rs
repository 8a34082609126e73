//! Publications, joins and leaves for subscribers: a push, encoded once for all on the same wire.
//!
//! Text that is JSON is embedded as it is; other text is a JSON string, and bytes are a string of
//! base64 with the tag `encoding` = `base64`. Protobuf carries the payload's bytes in all cases.
//! One push is one frame: pushes of a turn are joined by the worker, frame behind frame, in one
//! write. Joining their messages inside one frame would save two to four bytes for each, and need
//! an encoding of their own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::frame::{Codec, Wire};
use super::json;
use super::message::{ClientInfo, Join, Leave, Publication, Push, Reply};
use crate::hub::{self, PayloadKind, TopicName};

/// The tag of a publication whose data are base64, and its value.
const ENCODING_TAG: (&str, &str) = ("encoding", "base64");

impl Publication {
    /// A publication as the clients of `codec` see it.
    pub fn of(codec: Codec, publication: &hub::Publication) -> Self {
        let (data, tags) = content(codec, publication);
        let offset = publication.epoch.map_or(0, |_| publication.sequence);
        // Where a stream begins, the client learns which one it is.
        let epoch = publication.epoch.filter(|_| offset == 1);
        let epoch = epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
        let info = publication.draft.user.as_ref();
        let info = info.map(|user| ClientInfo { user: user.to_string(), ..ClientInfo::default() });
        Self { data, info, offset, tags, delta: false, epoch }
    }
}

fn content(codec: Codec, publication: &hub::Publication) -> (Bytes, BTreeMap<String, String>) {
    let payload = publication.payload();
    match (codec, payload.kind()) {
        (Codec::Protobuf, _) => (payload.framed().slice_ref(payload.data()), BTreeMap::new()),
        (Codec::Json, PayloadKind::Text) => {
            (json::value(&payload.framed().slice_ref(payload.data())), BTreeMap::new())
        }
        (Codec::Json, PayloadKind::Binary) => {
            let (name, value) = ENCODING_TAG;
            let tags = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            (json::base64(payload.data()), tags)
        }
    }
}

/// The push of a publication, for all subscribers on `wire`.
pub fn publication(wire: Wire, publication: &hub::Publication, topic: &TopicName) -> Bytes {
    let publication = Some(Publication::of(wire.codec(), publication));
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
