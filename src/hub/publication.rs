//! One payload accepted into a topic, and its encodings.

use std::collections::BTreeMap;
use std::iter;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;

use super::name::TopicName;
use super::peer::Peer;
use super::position::Epoch;
use super::variant::{VariantId, Variants};
use crate::id::SessionId;
use crate::metrics::{Memory, MemoryKind};
use crate::time::Stamp;

/// What the allocations of a publication and its payload cost beside what they hold, and its place
/// in an inbox.
const ALLOCATION_COST: usize = 128;

/// Whether a payload is text or binary; it stays so through every front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// UTF-8, checked before it got here.
    Text,
    /// Any bytes.
    Binary,
}

/// A payload inside the bytes of its native encoding, exactly sized.
///
/// Invariant: `head_len <= framed.len()`; the payload is what follows the head, UTF-8 if text.
#[derive(Debug, Clone)]
pub struct Payload {
    framed: Bytes,
    head_len: u8,
    kind: PayloadKind,
}

impl Payload {
    /// Takes bytes that begin with `head_len` bytes of framing. The caller has checked text.
    ///
    /// # Panics
    /// When the head is longer than the bytes: a bug of the caller.
    pub fn from_framed(framed: Bytes, head_len: u8, kind: PayloadKind) -> Self {
        assert!(usize::from(head_len) <= framed.len(), "the head is part of the bytes");
        Self { framed, head_len, kind }
    }

    /// The payload's own bytes.
    pub fn data(&self) -> &[u8] {
        &self.framed[usize::from(self.head_len)..]
    }

    /// The payload with the head it came with: the native encoding, ready to send.
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// Text or binary.
    pub fn kind(&self) -> PayloadKind {
        self.kind
    }
}

/// Words beside a payload, by name, for the doors that have a place for them.
pub type Tags = BTreeMap<String, String>;

/// What a publisher hands in, beside the topic.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The payload.
    pub payload: Payload,
    /// The publishing session, so that it can leave out its own.
    pub session: Option<SessionId>,
    /// Who published it, where that is known.
    pub publisher: Option<Arc<Peer>>,
    /// What it was tagged with; `None` = nothing.
    pub tags: Option<Arc<Tags>>,
}

impl Draft {
    /// A payload of which nothing else is known.
    pub fn new(payload: Payload) -> Self {
        Self { payload, session: None, publisher: None, tags: None }
    }
}

/// One payload with its place in the topic's order, immutable and shared by all workers.
#[derive(Debug)]
pub struct Publication {
    /// Place in the topic's order, from 1. It is never shown.
    pub sequence: u64,
    /// Offset of the topic with it: its own, or, if it is not kept, that of the one before.
    pub offset: u64,
    /// The topic's incarnation; `None` = it is not kept and shows no position.
    pub epoch: Option<Epoch>,
    /// When it was accepted, in milliseconds since 1970.
    pub time: u64,
    /// When it was accepted, for the fan-out histogram.
    pub accepted: Instant,
    /// What the publisher handed in.
    pub draft: Draft,
    /// The payload of the one before, where subscribers want to know what changed.
    before: Option<Payload>,
    /// The first variant asked for; nearly every topic has one.
    encoding: OnceLock<Encoding>,
    /// Charged for the encodings, which live as long as the publication.
    memory: Arc<Memory>,
}

/// The bytes of one variant, and behind them those of the next one asked for.
#[derive(Debug)]
struct Encoding {
    variant: VariantId,
    bytes: Bytes,
    /// Bytes charged: none if another variant's are shared.
    charged: usize,
    next: OnceLock<Box<Self>>,
}

impl Publication {
    /// A publication that nobody has encoded yet, of a topic that kept all before it.
    pub fn new(
        (sequence, epoch): (u64, Option<Epoch>),
        now: Stamp,
        draft: Draft,
        memory: Arc<Memory>,
    ) -> Self {
        let (time, accepted) = (now.wall, now.instant);
        let (before, encoding) = (None, OnceLock::new());
        Self { sequence, offset: sequence, epoch, time, accepted, draft, before, encoding, memory }
    }

    /// The same, with another offset than its sequence.
    pub(super) fn at(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// The same, known to come after the payload `before`.
    pub(super) fn after(mut self, before: Option<Payload>) -> Self {
        self.before = before;
        self
    }

    /// The payload of the publication before, where one is known.
    pub fn before(&self) -> Option<&Payload> {
        self.before.as_ref()
    }

    /// The payload.
    pub fn payload(&self) -> &Payload {
        &self.draft.payload
    }

    /// The bytes of `variant`, encoded at first use and shared from then on.
    pub fn encoded<'a>(
        &'a self,
        variant: VariantId,
        topic: &TopicName,
        variants: &Variants,
    ) -> &'a Bytes {
        if variant == VariantId::NATIVE {
            return self.payload().framed();
        }
        // The base is made first: a cell must not be asked for while it is being filled.
        let base = match variants.base(variant) {
            Some(base) => self.encoded(base, topic, variants),
            None => self.payload().framed(),
        };
        let encode = || {
            let made = variants.encode(variant, (self, topic), base);
            let charged = made.as_ref().map_or(0, Bytes::len);
            self.memory.charge(MemoryKind::History, charged);
            let bytes = made.unwrap_or_else(|| base.clone());
            Encoding { variant, bytes, charged, next: OnceLock::new() }
        };
        let mut encoding = self.encoding.get_or_init(encode);
        // Ends: every variant is in the chain at most once.
        while encoding.variant != variant {
            encoding = encoding.next.get_or_init(|| Box::new(encode()));
        }
        &encoding.bytes
    }

    /// Bytes this publication holds for as long as it is kept, encodings left out.
    pub fn held_len(&self) -> usize {
        let publisher = self.draft.publisher.as_ref().map_or(0, |publisher| publisher.held_len());
        let tags = self.draft.tags.as_ref().map_or(0, |tags| tags_len(tags));
        size_of::<Self>() + self.payload().framed().len() + publisher + tags + ALLOCATION_COST
    }
}

/// Bytes that tags hold.
fn tags_len(tags: &Tags) -> usize {
    // A tree of strings: their places, and what each allocation costs.
    const TAG_COST: usize = 2 * size_of::<String>() + 32;
    tags.iter().map(|(name, value)| name.len() + value.len() + TAG_COST).sum()
}

impl Drop for Publication {
    fn drop(&mut self) {
        let first = self.encoding.get();
        let encodings = iter::successors(first, |one| one.next.get().map(|next| &**next));
        let charged = encodings.map(|encoding| encoding.charged).sum::<usize>();
        if charged > 0 {
            self.memory.release(MemoryKind::History, charged);
        }
    }
}
