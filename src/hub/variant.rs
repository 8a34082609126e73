//! The encodings that front doors register, so that the hub never names a door.

use std::fmt::Debug;
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
#[derive(Debug)]
pub struct Variant {
    name: &'static str,
    encode: Encode,
}

#[derive(Debug)]
enum Encode {
    /// Writes the whole encoded publication.
    Whole(fn(&Publication, &TopicName) -> Bytes),
    /// Makes it from the bytes of another variant.
    Derived(VariantId, Box<dyn Derive>),
}

impl Variant {
    /// A variant whose bytes `encode` writes; `name` is its label of `fanwire_encodings_total`.
    pub fn new(name: &'static str, encode: fn(&Publication, &TopicName) -> Bytes) -> Self {
        Self { name, encode: Encode::Whole(encode) }
    }

    /// A variant that is made from the bytes of `base`.
    pub fn derived(name: &'static str, base: VariantId, derive: impl Derive + 'static) -> Self {
        Self { name, encode: Encode::Derived(base, Box::new(derive)) }
    }
}

/// Makes one encoding from another.
pub trait Derive: Debug + Send + Sync {
    /// The bytes made from `base`; `None` = those serve as they are.
    fn derive(&self, base: &[u8]) -> Option<Bytes>;
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

    /// The variant that `variant` is made from, if it is derived.
    pub(super) fn base(&self, variant: VariantId) -> Option<VariantId> {
        match self.table[variant.index()].0.encode {
            Encode::Whole(_) => None,
            Encode::Derived(base, _) => Some(base),
        }
    }

    /// Encodes and counts; callers keep the result (see `Publication::encoded`). `None` = the bytes
    /// of its base serve.
    pub(super) fn encode(
        &self,
        variant: VariantId,
        (publication, topic): (&Publication, &TopicName),
        base: &[u8],
    ) -> Option<Bytes> {
        let (variant, encodings) = &self.table[variant.index()];
        let bytes = match &variant.encode {
            Encode::Whole(encode) => encode(publication, topic),
            Encode::Derived(_, derive) => derive.derive(base)?,
        };
        encodings.fetch_add(1, Ordering::Relaxed);
        Some(bytes)
    }

    /// Name and number of encodings made of each variant.
    pub fn encodings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.table.iter().map(|(variant, count)| (variant.name, count.load(Ordering::Relaxed)))
    }
}
