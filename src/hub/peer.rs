//! A client as other clients see it: who published, who is there.

use std::sync::Arc;

use bytes::Bytes;

/// A client as its door knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// The user; empty = nobody knows.
    pub user: Arc<str>,
    /// The connection's own name; empty = its door has no names for them.
    pub client: Box<str>,
    /// What the connection tells of itself: JSON, empty = nothing.
    pub info: Bytes,
    /// What it tells of itself on this topic: JSON, empty = nothing.
    pub topic_info: Bytes,
}

impl Peer {
    /// A user of whom nothing else is known.
    pub fn user(user: Arc<str>) -> Arc<Self> {
        Arc::new(Self { user, ..Self::default() })
    }

    /// Bytes that it holds.
    pub fn held_len(&self) -> usize {
        let infos = self.info.len() + self.topic_info.len();
        size_of::<Self>() + self.user.len() + self.client.len() + infos
    }
}
