//! What a measured payload carries: a stamp (topic, sequence, time), then filler.
//!
//! All of it is lower-case letters, so that every door and every frame type carries it unchanged.
//! The filler depends on topic and sequence: a payload cut short, mixed up with another or
//! delivered to the wrong topic differs from what [`Filler::check`] expects.

/// Bytes of a stamp, and with it the smallest payload.
pub(crate) const STAMP_LEN: usize = 32;
/// Payloads up to this long are compared whole, longer ones once in [`SAMPLE`].
pub(crate) const COMPARED_LEN_MAX: usize = 512;
const SAMPLE: u32 = 16;
/// Distinct starting points in the pool.
const STARTS: usize = 4096;

/// Topic, sequence (from 1) and time of one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) topic: u32,
    pub(crate) seq: u32,
    /// When it was sent, or due under an open loop: nanoseconds of the run's clock, 48 bits of them
    /// (three days).
    pub(crate) time: u64,
}

impl Stamp {
    /// Appends the stamp's [`STAMP_LEN`] bytes.
    pub(crate) fn push(self, out: &mut Vec<u8>) {
        let [high, low] = halves(self.time);
        for part in [self.topic, self.seq, high << 16 | self.check(), low] {
            out.extend_from_slice(&letters(part));
        }
    }

    /// Reads the stamp that `payload` starts with.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_LEN] = payload.first_chunk()?;
        let beyond = bytes.iter().fold(0, |beyond, byte| beyond | byte.wrapping_sub(b'a'));
        let mixed = number(bytes, 16);
        let time = u64::from(mixed >> 16) << 32 | u64::from(number(bytes, 24));
        let stamp = Self { topic: number(bytes, 0), seq: number(bytes, 8), time };
        (beyond < 16 && mixed & 0xFFFF == stamp.check()).then_some(stamp)
    }

    /// 16 bits that differ when any 16 bits of the stamp do.
    #[inline]
    fn check(self) -> u32 {
        let [high, low] = halves(self.time);
        let parts = [self.topic >> 16, self.topic, self.seq >> 16, self.seq, high, low >> 16, low];
        // Odd factors: none of them maps two parts to one.
        let factors = [0x9E37, 0x79B9, 0x7F4B, 0x1CE5, 0xBF59, 0x94D1, 0x49BB];
        let check = parts
            .iter()
            .zip(factors)
            .fold(0, |check: u32, (part, factor)| check ^ (part & 0xFFFF).wrapping_mul(factor));
        check & 0xFFFF
    }
}

/// One nibble per letter, `a` to `p`, the highest first.
fn letters(value: u32) -> [u8; 8] {
    std::array::from_fn(|index| {
        let nibble = value >> (28 - 4 * index) & 0xF;
        b'a' + u8::try_from(nibble).expect("a nibble fits")
    })
}

/// The reverse of [`letters`] on the 8 bytes from `at`, all letters at once.
#[inline]
fn number(bytes: &[u8; STAMP_LEN], at: usize) -> u32 {
    let chunk: [u8; 8] = bytes[at..at + 8].try_into().expect("8 bytes");
    let mut nibbles = u64::from_be_bytes(chunk).wrapping_sub(0x6161_6161_6161_6161);
    nibbles = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    nibbles = (nibbles | nibbles >> 8) & 0x0000_FFFF_0000_FFFF;
    halves(nibbles | nibbles >> 16)[1]
}

fn halves(value: u64) -> [u32; 2] {
    let half = |value| u32::try_from(value & 0xFFFF_FFFF).expect("32 bits");
    [half(value >> 32), half(value)]
}

/// The letters behind the stamps: one pool, every publication begins elsewhere in it.
#[derive(Debug)]
pub(crate) struct Filler {
    pool: Vec<u8>,
    len: usize,
}

impl Filler {
    /// For payloads of `payload_len` bytes, at least [`STAMP_LEN`].
    pub(crate) fn new(payload_len: usize) -> Self {
        let len = payload_len - STAMP_LEN;
        // Xorshift with a fixed seed: the same filler in every run and process.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let pool = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + u8::try_from(state % 26).expect("a letter")
        });
        Self { pool: pool.take(STARTS + len).collect(), len }
    }

    /// Length of a whole payload.
    pub(crate) fn payload_len(&self) -> usize {
        STAMP_LEN + self.len
    }

    /// Appends the payload of `stamp`.
    pub(crate) fn push(&self, stamp: Stamp, out: &mut Vec<u8>) {
        stamp.push(out);
        out.extend_from_slice(self.of(stamp));
    }

    /// Whether `payload` is the one of `stamp`. Long payloads are compared for one subscriber in
    /// [`SAMPLE`], another one each time.
    #[inline]
    pub(crate) fn check(&self, stamp: Stamp, payload: &[u8], subscriber: u32) -> bool {
        if payload.len() != self.payload_len() {
            return false;
        }
        !self.is_compared(stamp.seq, subscriber) || payload[STAMP_LEN..] == *self.of(stamp)
    }

    /// Whether publication `seq` is compared whole for `subscriber`.
    #[inline]
    pub(crate) fn is_compared(&self, seq: u32, subscriber: u32) -> bool {
        self.payload_len() <= COMPARED_LEN_MAX
            || seq.wrapping_add(subscriber).is_multiple_of(SAMPLE)
    }

    #[inline]
    fn of(&self, stamp: Stamp) -> &[u8] {
        let mixed = stamp.seq.wrapping_mul(1021).wrapping_add(stamp.topic.wrapping_mul(37));
        let start = mixed as usize % STARTS;
        &self.pool[start..start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_read_back() {
        for (topic, seq, time) in
            [(0, 1, 0), (999, u32::MAX, 1 << 40), (u32::MAX, 7, (1 << 48) - 1)]
        {
            let stamp = Stamp { topic, seq, time };
            let mut bytes = Vec::new();
            stamp.push(&mut bytes);
            assert_eq!(bytes.len(), STAMP_LEN);
            assert!(bytes.iter().all(u8::is_ascii_lowercase));
            assert_eq!(Stamp::read(&bytes), Some(stamp));
            assert_eq!(Stamp::read(&bytes[1..]), None);
        }
    }

    #[test]
    fn any_changed_byte_and_another_publications_filler_are_noticed() {
        let filler = Filler::new(128);
        let stamp = Stamp { topic: 3, seq: 9, time: 5 };
        let mut payload = Vec::new();
        filler.push(stamp, &mut payload);
        assert!(filler.check(stamp, &payload, 0));
        let is_right = |payload: &[u8]| {
            Stamp::read(payload).is_some_and(|stamp| filler.check(stamp, payload, 0))
        };
        assert!(is_right(&payload));
        for index in 0..payload.len() {
            for change in 1..=u8::MAX {
                let mut changed = payload.clone();
                changed[index] ^= change;
                assert!(!is_right(&changed), "byte {index} ^ {change}");
            }
        }
        assert!(!filler.check(stamp, &payload[..127], 0), "cut short");
        for other in [Stamp { seq: 10, ..stamp }, Stamp { topic: 4, ..stamp }] {
            assert!(!filler.check(other, &payload, 0), "{other:?}");
        }
    }

    #[test]
    fn long_payloads_are_compared_for_every_subscriber_in_turn() {
        let filler = Filler::new(16_384);
        let stamp = Stamp { topic: 0, seq: 1, time: 0 };
        let mut payload = Vec::new();
        filler.push(stamp, &mut payload);
        payload[16_000] ^= 1;
        let noticed = (0..SAMPLE).filter(|subscriber| !filler.check(stamp, &payload, *subscriber));
        assert_eq!(noticed.count(), 1);
    }
}
