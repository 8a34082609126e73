//! Incoming permessage-deflate (RFC 7692 section 7.2.2): a message's payload in, its data out.
//!
//! One inflater serves all connections of a worker: every message stands for itself, and one that
//! comes in pieces is collected before it is inflated. What comes out is bounded while it comes
//! out, and charged to the memory account before it is held.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};

use super::DecodeError;
use crate::metrics::{Memory, MemoryKind};
use crate::reason::ProtocolFault;

/// What a message leaves out of its flush (RFC 7692 section 7.2.2), and an empty final block: only
/// who comes to its end was between two blocks at the end of the message.
const TAIL: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// Room to begin with.
const OUT_LEN_MIN: usize = 4 * 1024;

/// Room kept from one message to the next.
const OUT_LEN_KEPT: usize = 64 * 1024;

/// Length up to which a message may be of any ratio.
const RATIO_FREE_LEN: usize = 1 << 20;

/// Times that a longer message may be as long as it came. Deflate reaches 1,032, but on nothing
/// that says much.
const RATIO_MAX: usize = 256;

/// Inflates one message at a time.
#[derive(Debug)]
pub struct Inflater {
    decompress: Decompress,
    out: Vec<u8>,
    memory: Arc<Memory>,
    /// Bytes of `out` that the account knows of.
    charged: usize,
}

impl Inflater {
    /// An inflater that charges `memory` for what it holds.
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { decompress: Decompress::new(false), out: Vec::new(), memory, charged: 0 }
    }

    /// Inflates the payload of a message to at most `len_max` bytes.
    pub(super) fn inflate(&mut self, payload: &[u8], len_max: usize) -> Result<&[u8], DecodeError> {
        let ratio_len_max = payload.len().saturating_mul(RATIO_MAX).max(RATIO_FREE_LEN);
        let len_max = len_max.min(ratio_len_max);
        self.out.clear();
        let mut rest = payload;
        loop {
            self.decompress.reset(false);
            match self.feed(rest, len_max)? {
                // After a final block there may be others (RFC 7692 section 7.2.3.5).
                Fed::Ended([]) => return Ok(&self.out),
                Fed::Ended(after) => rest = after,
                Fed::All => break,
            }
        }
        let len = self.out.len();
        match self.feed(&TAIL, len_max) {
            // What comes out now was not in the message.
            Ok(Fed::Ended([])) if self.out.len() == len => Ok(&self.out),
            Err(DecodeError::Memory) => Err(DecodeError::Memory),
            _ => Err(ProtocolFault::Deflate.into()),
        }
    }

    /// Inflates until `input` is used up or a final block ends.
    fn feed<'a>(&mut self, mut input: &'a [u8], len_max: usize) -> Result<Fed<'a>, DecodeError> {
        loop {
            self.make_room(len_max)?;
            let before = self.decompress.total_in();
            let result =
                self.decompress.decompress_vec(input, &mut self.out, FlushDecompress::Sync);
            // First: there may be room for more than is allowed, and a fault behind that.
            if self.out.len() > len_max {
                return Err(DecodeError::TooLong { limit: len_max });
            }
            let status = result.map_err(|_| ProtocolFault::Deflate)?;
            let used = self.decompress.total_in().saturating_sub(before);
            input = usize::try_from(used).ok().and_then(|used| input.get(used..)).unwrap_or(&[]);
            if status == Status::StreamEnd {
                return Ok(Fed::Ended(input));
            }
            // Only a full buffer leaves something undone.
            if self.out.len() < self.out.capacity() {
                return Ok(Fed::All);
            }
        }
    }

    /// Sees to it that there is room for a byte, doubling as bytes come, and never for more than
    /// one over the limit.
    fn make_room(&mut self, len_max: usize) -> Result<(), DecodeError> {
        let (len, capacity) = (self.out.len(), self.out.capacity());
        if len < capacity {
            return Ok(());
        }
        let wanted = capacity.saturating_mul(2).max(OUT_LEN_MIN).min(len_max.saturating_add(1));
        let more = wanted.saturating_sub(self.charged);
        self.memory.charge(MemoryKind::Reading, more);
        self.charged = self.charged.saturating_add(more);
        if wanted > OUT_LEN_KEPT && self.memory.is_exhausted() {
            return Err(DecodeError::Memory);
        }
        self.out.reserve_exact(wanted.saturating_sub(len));
        Ok(())
    }

    /// Gives back what a long message needed.
    pub fn shed(&mut self) {
        if self.charged > OUT_LEN_KEPT {
            self.out = Vec::new();
            self.release();
        }
    }

    fn release(&mut self) {
        self.memory.release(MemoryKind::Reading, std::mem::take(&mut self.charged));
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        self.release();
    }
}

/// What feeding came to.
enum Fed<'a> {
    /// All is used, and more could follow.
    All,
    /// A final block ended; this is left.
    Ended(&'a [u8]),
}

#[cfg(test)]
pub(super) mod tests;
