//! Encoded publications of one topic and variant, one after the other, shared by all who get them.

use std::cell::OnceCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::metrics::{Charge, Memory, MemoryKind};

/// Encoded publications in one run of bytes.
///
/// Invariant: `ends` are ascending and end at the run's length; one entry per publication.
#[derive(Debug)]
pub struct Batch {
    /// The topic, as its worker numbers it: what is dropped for one topic is of that topic.
    topic: u32,
    /// Offset of the topic with the first publication; the others follow one by one, unless some
    /// were left out for a session of its own.
    first: u64,
    run: Run,
    ends: Vec<usize>,
    /// For as long as somebody queues it.
    charge: OnceCell<Charge>,
}

#[derive(Debug)]
enum Run {
    /// One publication, whose bytes others hold too.
    Shared(Bytes),
    /// Several, copied into one buffer so that one write takes them all.
    Joined(Vec<u8>),
}

impl Batch {
    /// One publication, not copied.
    pub fn single(topic: u32, bytes: Bytes) -> Self {
        let ends = vec![bytes.len()];
        Self { topic, first: 0, run: Run::Shared(bytes), ends, charge: OnceCell::new() }
    }

    /// Several publications, copied into `buf` (whose content is dropped).
    pub fn join<'a>(
        topic: u32,
        mut buf: Vec<u8>,
        encoded: impl Iterator<Item = &'a Bytes>,
    ) -> Self {
        buf.clear();
        let mut ends = Vec::with_capacity(encoded.size_hint().0);
        for bytes in encoded {
            buf.extend_from_slice(bytes);
            ends.push(buf.len());
        }
        Self { topic, first: 0, run: Run::Joined(buf), ends, charge: OnceCell::new() }
    }

    /// Says at which offset of the topic it begins.
    #[must_use]
    pub fn numbered(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// The topic, as its worker numbers it.
    pub fn topic(&self) -> u32 {
        self.topic
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.run {
            Run::Shared(bytes) => bytes,
            Run::Joined(bytes) => bytes,
        }
    }

    /// Number of publications.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the publications with these indices.
    pub fn range(&self, indices: Range<usize>) -> Range<usize> {
        self.start(indices.start)..self.start(indices.end)
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }

    /// Number of publications that end in `range` (after its start, up to its end).
    fn ends_in(&self, range: &Range<usize>) -> usize {
        self.index_at(range.end) - self.index_at(range.start)
    }

    /// Number of publications that end at or before byte `at`.
    fn index_at(&self, at: usize) -> usize {
        // Nearly always asked for the beginning or the end.
        if at == self.bytes().len() {
            return self.ends.len();
        }
        self.ends.partition_point(|end| *end <= at)
    }

    /// End of the publication that byte `at` is inside of; `None` at a boundary.
    fn begun_end(&self, at: usize) -> Option<usize> {
        let index = self.index_at(at);
        (self.start(index) != at && at < self.bytes().len()).then(|| self.ends[index])
    }

    /// Charges the account once, until the batch is dropped.
    fn charge(&self, memory: &Arc<Memory>) {
        self.charge.get_or_init(|| Charge::new(memory, MemoryKind::Outbox, self.held_len()));
    }

    /// What it keeps allocated.
    fn held_len(&self) -> usize {
        let run_len = match &self.run {
            Run::Shared(bytes) => bytes.len(),
            Run::Joined(buf) => buf.capacity(),
        };
        size_of::<Self>() + run_len + self.ends.capacity() * size_of::<usize>()
    }

    /// The buffer of a joined batch, to be used again.
    pub fn into_buf(self) -> Option<Vec<u8>> {
        match self.run {
            Run::Shared(_) => None,
            Run::Joined(buf) => Some(buf),
        }
    }
}

/// Part of a batch: whole publications, of which the first may be begun.
#[derive(Debug, Clone)]
pub struct Slice {
    batch: Rc<Batch>,
    at: usize,
    end: usize,
}

impl Slice {
    /// The bytes `range` of `batch`, which end at a boundary.
    pub fn new(batch: Rc<Batch>, range: Range<usize>) -> Self {
        Self { batch, at: range.start, end: range.end }
    }

    /// The topic, as its worker numbers it.
    pub fn topic(&self) -> u32 {
        self.batch.topic
    }

    /// Its publications, each with the topic's offset. It must not be begun.
    pub fn publications(&self) -> impl Iterator<Item = (u64, &[u8])> {
        debug_assert!(!self.is_begun(), "whole publications");
        let indices = self.batch.index_at(self.at)..self.batch.index_at(self.end);
        let offsets = self.batch.first + indices.start as u64..;
        offsets.zip(indices).map(|(offset, index)| {
            (offset, &self.batch.bytes()[self.batch.range(index..index + 1)])
        })
    }

    /// The bytes that are left.
    pub fn bytes(&self) -> &[u8] {
        &self.batch.bytes()[self.at..self.end]
    }

    /// Takes `len` bytes off the front. Returns how many publications that completes.
    pub fn advance(&mut self, len: usize) -> usize {
        let from = self.at;
        self.at += len;
        debug_assert!(self.at <= self.end, "a slice gives what it has");
        self.batch.ends_in(&(from..self.at))
    }

    /// Publications that end in it.
    pub fn count(&self) -> usize {
        self.batch.ends_in(&(self.at..self.end))
    }

    pub(super) fn charge(&self, memory: &Arc<Memory>) {
        self.batch.charge(memory);
    }

    /// Whether its first publication is partly written.
    pub(super) fn is_begun(&self) -> bool {
        self.batch.begun_end(self.at).is_some()
    }

    /// Cuts off all but the publication that is begun. Returns how many publications went.
    pub(super) fn keep_begun(&mut self) -> usize {
        let end = self.batch.begun_end(self.at).unwrap_or(self.at);
        let dropped = self.batch.ends_in(&(end..self.end));
        self.end = end;
        dropped
    }

    /// Cuts publications off the front until `len` bytes went or it is empty. Returns how many
    /// publications went. It must not be begun.
    pub(super) fn drop_front(&mut self, len: usize) -> usize {
        debug_assert!(!self.is_begun(), "what is begun is finished");
        let index = self.batch.index_at(self.at);
        let mut to = index;
        while self.batch.start(to) < self.end && self.batch.start(to) - self.at < len {
            to += 1;
        }
        self.at = self.batch.start(to);
        to - index
    }

    /// As [`Slice::drop_front`], but keeps at least the last publication.
    pub(super) fn drop_front_but_newest(&mut self, len: usize) -> usize {
        let newest = self.batch.start(self.batch.index_at(self.end) - 1);
        self.drop_front(len.min(newest - self.at))
    }

    /// Cuts off all but the last publication. Returns how many went. It must not be begun.
    pub(super) fn keep_newest(&mut self) -> usize {
        debug_assert!(!self.is_begun(), "what is begun is finished");
        let dropped = self.count().saturating_sub(1);
        self.at = self.batch.start(self.batch.index_at(self.at) + dropped);
        dropped
    }

    /// Splits publications off the front, `len_max` bytes of them, at least one. It must not be
    /// begun.
    pub(super) fn split_front(&mut self, len_max: usize) -> Self {
        debug_assert!(!self.is_begun(), "whole publications");
        let mut to = self.batch.index_at(self.at) + 1;
        while self.batch.start(to) < self.end && self.batch.start(to + 1) - self.at <= len_max {
            to += 1;
        }
        let end = self.batch.start(to);
        let front = Self { batch: Rc::clone(&self.batch), at: self.at, end };
        self.at = end;
        front
    }

    /// Splits the begun publication off the front.
    pub(super) fn split_begun(&mut self) -> Self {
        let end = self.batch.begun_end(self.at).unwrap_or(self.at);
        let begun = Self { batch: Rc::clone(&self.batch), at: self.at, end };
        self.at = end;
        begun
    }
}
