//! What was published on one topic lately, byte for byte: a single comparison tells that a delivery
//! is the one that its subscriber waits for.

use crate::stamp::{COMPARED_LEN_MAX, STAMP_LEN};

/// Publications kept for a topic, at most.
const SLOTS_MAX: usize = 1_024;
/// Memory of all topics together, about.
const LEN_MAX: usize = 64 << 20;

/// The last publications of one topic.
#[derive(Debug)]
pub(crate) struct Recent {
    payload_len: usize,
    /// How much of each payload is compared: all of it, or only its stamp.
    kept_len: usize,
    /// One less than their number, a power of two.
    mask: u32,
    /// Sequence (0 = none) and time, by sequence modulo the number of slots.
    slots: Vec<(u32, u64)>,
    bytes: Vec<u8>,
}

impl Recent {
    /// For one of `topics`, on which `window` publications are to come at a time.
    pub(crate) fn new(topics: u32, window: u32, payload_len: usize) -> Self {
        let kept_len = if payload_len <= COMPARED_LEN_MAX { payload_len } else { STAMP_LEN };
        let affordable = LEN_MAX / (topics as usize * (kept_len + size_of::<(u32, u64)>()));
        let wanted = (window as usize).min(SLOTS_MAX).next_power_of_two();
        let count = wanted.min(1 << affordable.max(1).ilog2());
        Self {
            payload_len,
            kept_len,
            mask: u32::try_from(count - 1).expect("1,024 at most"),
            slots: vec![(0, 0); count],
            bytes: vec![0; count * kept_len],
        }
    }

    /// Whether payloads are compared to their ends.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.kept_len == self.payload_len
    }

    /// Keeps the publication `seq` of `time` in place of an older one.
    pub(crate) fn keep(&mut self, seq: u32, time: u64, payload: &[u8]) {
        let slot = (seq & self.mask) as usize;
        self.slots[slot] = (seq, time);
        let begin = slot * self.kept_len;
        self.bytes[begin..begin + self.kept_len].copy_from_slice(&payload[..self.kept_len]);
    }

    /// The time of publication `seq`, if it is still kept.
    pub(crate) fn kept_time(&self, seq: u32) -> Option<u64> {
        let (kept, time) = self.slots[(seq & self.mask) as usize];
        (kept == seq).then_some(time)
    }

    /// The time of publication `seq`, if `payload` is what it was published with, as far as that
    /// is compared here.
    #[inline]
    pub(crate) fn time_of(&self, seq: u32, payload: &[u8]) -> Option<u64> {
        let slot = (seq & self.mask) as usize;
        let (kept, time) = self.slots[slot];
        let begin = slot * self.kept_len;
        let is_same = kept == seq
            && payload.len() == self.payload_len
            && payload[..self.kept_len] == self.bytes[begin..begin + self.kept_len];
        is_same.then_some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_and_the_same_is_known() {
        let mut recent = Recent::new(1, 3, 64);
        let payload = |letter: u8| vec![letter; 64];
        for (seq, letter) in (1..).zip(*b"abcdef") {
            recent.keep(seq, u64::from(seq) * 10, &payload(letter));
        }
        assert_eq!(recent.time_of(6, &payload(b'f')), Some(60));
        assert_eq!(recent.time_of(3, &payload(b'c')), Some(30));
        assert_eq!(recent.time_of(2, &payload(b'b')), None, "no longer kept");
        assert_eq!(recent.time_of(7, &payload(b'c')), None, "not yet published");
        assert_eq!(recent.time_of(6, &payload(b'e')), None, "another one");
        assert_eq!(recent.time_of(6, &payload(b'f')[1..]), None, "cut short");
        for index in 0..64 {
            let mut changed = payload(b'f');
            changed[index] ^= 1;
            assert_eq!(recent.time_of(6, &changed), None, "byte {index}");
        }
    }

    #[test]
    fn memory_is_bounded_and_never_none() {
        for (topics, window, payload_len, count) in [
            (1, 64, 128, 64),
            (1, 65_536, 128, 1_024),
            (1_000, 8, 128, 8),
            (1_000_000, 8, 128, 1),
            (1_000_000, 65_536, 16_384, 1),
            (100_000, 64, 128, 4),
        ] {
            let recent = Recent::new(topics, window, payload_len);
            assert_eq!(recent.slots.len(), count, "{topics} x {window} x {payload_len}");
        }
    }
}
