//! How new publications are by their publishers' own count.

/// How new a publication is by the publisher's own count. A topic remembers it for as long as it
/// is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// The count.
    pub number: u64,
    /// Which count it is; a number of another one is always newer. Empty = that of the last version.
    pub epoch: &'a str,
}

/// The last version, which the next one has to be above.
#[derive(Debug)]
pub(super) struct Newest {
    number: u64,
    epoch: Box<str>,
}

impl Newest {
    /// What `version` makes of the last one.
    pub(super) fn after(last: Option<&Self>, Version { number, epoch }: Version<'_>) -> Self {
        let epoch = match last {
            Some(last) if epoch.is_empty() => last.epoch.clone(),
            _ => epoch.into(),
        };
        Self { number, epoch }
    }

    /// Whether there was a publication of this version or a newer one.
    pub(super) fn is_at(&self, version: Version<'_>) -> bool {
        let is_of_epoch = version.epoch.is_empty() || *version.epoch == *self.epoch;
        is_of_epoch && version.number <= self.number
    }

    /// Bytes held, for the memory account.
    pub(super) fn held_len(&self) -> usize {
        size_of::<Self>() + self.epoch.len()
    }
}
