//! The encodings that front doors register, so that the hub never names a door.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::name::TopicName;
use super::publication::Publication;

/// One registered encoding, by its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VariantId(u8);

impl VariantId {
    /// The encoding that a payload arrives in: ready without work.
    pub const NATIVE: Self = Self(0);

    /// Names the variant at `index` of the table given to [`Variants::new`].
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// Place in the table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How one variant is made.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Label of `fanwire_encodings_total`.
    pub name: &'static str,
    /// Writes the whole encoded publication.
    pub encode: fn(&Publication, &TopicName) -> Bytes,
}

/// The table of encodings, fixed at start, with a count of what was encoded.
#[derive(Debug)]
pub struct Variants {
    table: Vec<(Variant, AtomicU64)>,
}

impl Variants {
    /// Takes the table; its first entry is the native encoding.
    pub fn new(table: impl IntoIterator<Item = Variant>) -> Self {
        Self { table: table.into_iter().map(|variant| (variant, AtomicU64::new(0))).collect() }
    }

    /// Number of variants.
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// Encodes and counts; callers keep the result (see `Publication::encoded`).
    pub(super) fn encode(
        &self,
        variant: VariantId,
        publication: &Publication,
        topic: &TopicName,
    ) -> Bytes {
        let (variant, encodings) = &self.table[variant.index()];
        encodings.fetch_add(1, Ordering::Relaxed);
        (variant.encode)(publication, topic)
    }

    /// Name and number of encodings made of each variant.
    pub fn encodings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.table.iter().map(|(variant, count)| (variant.name, count.load(Ordering::Relaxed)))
    }
}
