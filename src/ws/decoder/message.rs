//! A message of which only a part is there.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::DecoderLimits;
use crate::reason::ProtocolFault;
use crate::ws::MessageKind;

/// How the payload of a message is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Coding {
    /// As it is.
    #[default]
    Plain,
    /// By permessage-deflate: it is collected as it comes and inflated as a whole.
    Deflated,
}

impl Coding {
    /// Bytes that a message may come in. Deflating can make a message longer, by an eighth where
    /// it does so badly, and that must not be what breaks the limit.
    pub(super) fn len_max(self, limits: DecoderLimits) -> usize {
        let len = limits.message_len_max;
        match self {
            Self::Plain => len,
            Self::Deflated => len.saturating_add(len >> 3).saturating_add(64),
        }
    }
}

/// How far a fragmented message has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) coding: Coding,
    pub(super) len: usize,
    pub(super) fragments: u32,
}

/// The unmasked part of a message.
///
/// Invariant: the first `valid_len` bytes of plain text are UTF-8, and the rest can still become
/// so. What is deflated is checked when it is inflated.
#[derive(Debug)]
pub(super) struct PartialMessage {
    kind: MessageKind,
    coding: Coding,
    data: Vec<u8>,
    valid_len: usize,
    fragments: u32,
}

impl PartialMessage {
    pub(super) fn new(kind: MessageKind, coding: Coding) -> Self {
        Self { kind, coding, data: Vec::new(), valid_len: 0, fragments: 0 }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { coding: self.coding, len: self.data.len(), fragments: self.fragments }
    }

    pub(super) fn held_len(&self) -> usize {
        self.data.capacity()
    }

    /// Counts one more frame, which the caller has checked against the limit.
    pub(super) fn begin_fragment(&mut self) {
        self.fragments = self.fragments.saturating_add(1);
    }

    /// Appends bytes that have come. `more_len_max` bounds what can come from here on, these included.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        more_len_max: usize,
    ) -> Result<(), ProtocolFault> {
        self.reserve(bytes.len(), more_len_max);
        self.data.extend_from_slice(bytes);
        if self.is_plain_text() { self.check_text() } else { Ok(()) }
    }

    /// The whole message, once its last byte was appended.
    pub(super) fn finish(self) -> Result<(MessageKind, Vec<u8>), ProtocolFault> {
        if self.is_plain_text() && self.valid_len < self.data.len() {
            return Err(ProtocolFault::Utf8);
        }
        Ok((self.kind, self.data))
    }

    fn is_plain_text(&self) -> bool {
        (self.kind, self.coding) == (MessageKind::Text, Coding::Plain)
    }

    /// Makes room for `len` bytes: at least doubles, so that copying stays linear, but never takes
    /// more than can come. The announced length alone reserves nothing.
    fn reserve(&mut self, len: usize, more_len_max: usize) {
        let free_len = self.data.capacity().saturating_sub(self.data.len());
        if len > free_len {
            let doubled = free_len.saturating_add(self.data.capacity());
            self.data.reserve_exact(doubled.min(more_len_max).max(len));
        }
    }

    /// Checks the text from where it was last known to be valid.
    fn check_text(&mut self) -> Result<(), ProtocolFault> {
        let unchecked = self.data.get(self.valid_len..).unwrap_or_default();
        let valid_len = match simdutf8::compat::from_utf8(unchecked) {
            Ok(text) => text.len(),
            // The last character is incomplete so far.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(ProtocolFault::Utf8),
        };
        self.valid_len = self.valid_len.saturating_add(valid_len);
        Ok(())
    }
}
