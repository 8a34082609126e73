//! What subscribers of a topic got lately, byte for byte: whoever gets the same needs no closer look.
//!
//! A server that joins publications sends the same bytes to all. The first time they are taken apart
//! and every publication is checked; after that one comparison tells as much.

use std::ops::Range;

/// Reads that are remembered; servers that are behind send a few different ones at a time.
const READS_MAX: usize = 8;
/// Longer reads are not remembered.
const LEN_MAX: usize = 256 << 10;

/// One read: whole publications, all of them right and in order.
#[derive(Debug, Default)]
pub(crate) struct Read {
    topic: u32,
    pub(crate) seqs: Range<u32>,
    /// Times that the publications are stamped with, each with how many of them have it.
    pub(crate) times: Vec<(u64, u32)>,
    bytes: Vec<u8>,
}

impl Read {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The last few of them.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    reads: Vec<Read>,
    /// The one to be replaced next.
    oldest: usize,
}

impl Reads {
    /// The read that `bytes` begin with, for a subscriber of `topic` that waits for `next`.
    #[inline]
    pub(crate) fn find(&self, topic: u32, next: u32, bytes: &[u8]) -> Option<&Read> {
        self.reads.iter().find(|read| {
            let is_next = read.seqs.start == next && read.topic == topic && !read.seqs.is_empty();
            is_next && bytes.starts_with(&read.bytes)
        })
    }

    /// Remembers that `bytes` are the publications `seqs` of `topic`, of which `time` tells the time.
    pub(crate) fn remember(
        &mut self,
        (topic, seqs): (u32, Range<u32>),
        bytes: &[u8],
        time: impl Fn(u32) -> Option<u64>,
    ) {
        if bytes.len() > LEN_MAX || seqs.is_empty() {
            return;
        }
        if self.reads.len() < READS_MAX {
            self.reads.push(Read::default());
        }
        let at = self.oldest % self.reads.len();
        self.oldest = (at + 1) % READS_MAX;
        let read = &mut self.reads[at];
        read.times.clear();
        for seq in seqs.clone() {
            let Some(time) = time(seq) else {
                *read = Read::default();
                return;
            };
            match read.times.last_mut() {
                Some((last, count)) if *last == time => *count += 1,
                _ => read.times.push((time, 1)),
            }
        }
        read.topic = topic;
        read.seqs = seqs;
        read.bytes.clear();
        read.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{READS_MAX, Reads};

    #[test]
    fn only_the_same_bytes_at_the_same_place_are_known() {
        let mut reads = Reads::default();
        let time = |seq| Some(u64::from(seq / 2));
        reads.remember((7, 3..6), b"abc", time);
        let known = reads.find(7, 3, b"abcd").expect("it begins so");
        assert_eq!((known.len(), known.seqs.clone()), (3, 3..6));
        assert_eq!(known.times, [(1, 1), (2, 2)]);
        for (topic, next, bytes) in
            [(8, 3, &b"abc"[..]), (7, 4, b"abc"), (7, 3, b"abx"), (7, 3, b"ab"), (7, 3, b"")]
        {
            assert!(reads.find(topic, next, bytes).is_none(), "{topic} {next} {bytes:?}");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_has_no_time_never_known() {
        let mut reads = Reads::default();
        let count = u32::try_from(READS_MAX).expect("a few");
        for seq in 1..=count + 1 {
            reads.remember((0, seq..seq + 1), b"x", |_| Some(0));
        }
        assert!(reads.find(0, 1, b"x").is_none());
        assert!((2..=count + 1).all(|seq| reads.find(0, seq, b"x").is_some()));
        reads.remember((0, 100..101), b"x", |_| None);
        reads.remember((0, 200..200), b"", |_| Some(0));
        assert!(reads.find(0, 100, b"x").is_none() && reads.find(0, 0, b"").is_none());
    }
}
