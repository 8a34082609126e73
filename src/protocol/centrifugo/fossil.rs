//! Deltas in the format of the Fossil version control system: what a payload has in common with
//! the one before is copied from there.
//!
//! A delta is the target's length and a line end, then copies `<len>@<offset>,` and literals
//! `<len>:<bytes>`, then `<checksum>;`. Numbers are of base 64.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Bytes that are looked up at once.
const WORD_LEN: usize = 8;

/// Shortest copy: a shorter one saves nothing over the bytes themselves.
const COPY_LEN_MIN: usize = 12;

/// Most places of the source that are remembered, as a power of two.
const TABLE_BITS_MAX: u32 = 14;

/// The delta that makes `target` of `source`. Linear in both.
///
/// Where both are text, so is the delta: no character is split.
pub fn encode(source: &[u8], target: &[u8]) -> Vec<u8> {
    let table = Table::new(source);
    let mut delta = Delta::new(target);
    // How far the target is ahead of the source, as far as is known: what follows a change is
    // most likely found where it was before.
    let mut shift = 0_isize;
    let mut at = 0;
    while at < target.len() {
        let beside = at.checked_add_signed(shift);
        let candidates = [beside, table.find(target, at)].into_iter().flatten();
        let copies = candidates.map(|from| Copy::find(source, target, delta.done..at, from));
        let Some(copy) = copies.flatten().max_by_key(|copy| copy.to.len()) else {
            at = at.saturating_add(1);
            continue;
        };
        shift = copy.from.wrapping_sub(copy.to.start).cast_signed();
        at = copy.to.end;
        delta.copy(&copy);
    }
    delta.end()
}

/// Where the words of a source are; of equal ones the last.
struct Table<'a> {
    source: &'a [u8],
    /// Offsets plus one; 0 = nowhere.
    places: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(source: &'a [u8]) -> Self {
        let bits = source.len().checked_ilog2().unwrap_or(0).saturating_add(1).min(TABLE_BITS_MAX);
        let mut table = Self { source, places: vec![0; 1 << bits] };
        for (at, bytes) in (1..=u32::MAX).zip(source.windows(WORD_LEN)) {
            if let Some(place) = word(bytes, 0).and_then(|word| table.place(word)) {
                *place = at;
            }
        }
        table
    }

    fn place(&mut self, word: u64) -> Option<&mut u32> {
        let index = index(word, self.places.len());
        self.places.get_mut(index)
    }

    /// Where in the source the word at `at` of `target` may be.
    fn find(&self, target: &[u8], at: usize) -> Option<usize> {
        let sought = word(target, at)?;
        let place = self.places.get(index(sought, self.places.len()))?.checked_sub(1)?;
        let from = usize::try_from(place).ok()?;
        (word(self.source, from)? == sought).then_some(from)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// Where a word belongs in a table of `count` places, a power of two.
fn index(word: u64, count: usize) -> usize {
    // Fibonacci hashing: the high bits of the product depend on all of the word.
    let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(hash).unwrap_or(0) & count.saturating_sub(1)
}

/// Bytes of the target that are also in the source.
struct Copy {
    /// Where they are in the target.
    to: Range<usize>,
    /// Where they begin in the source.
    from: usize,
}

impl Copy {
    /// The longest common run around `from` in the source and the end of `open` in the target;
    /// `open` is what it may take from before. `None` = too short.
    fn find(source: &[u8], target: &[u8], open: Range<usize>, from: usize) -> Option<Self> {
        let (before, after) = source.split_at_checked(from)?;
        let ahead = common(after.iter(), target.get(open.end..)?.iter());
        let behind = common(before.iter().rev(), target.get(open.clone())?.iter().rev());
        let start = open.end.saturating_sub(behind);
        let end = open.end.saturating_add(ahead);
        let to = within_characters(target, start..end);
        if to.len() < COPY_LEN_MIN {
            return None;
        }
        let from = from.saturating_sub(behind).saturating_add(to.start.saturating_sub(start));
        Some(Self { to, from })
    }
}

fn common<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).count()
}

/// The part of `range` that splits no character of UTF-8 text.
fn within_characters(target: &[u8], range: Range<usize>) -> Range<usize> {
    let continues = |at: &usize| target.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let Range { start, end } = range;
    // A character has at most three bytes after its first; more are no text.
    let skipped = (start..end).take(3).take_while(continues).count();
    let start = start.saturating_add(skipped);
    let dropped = (start..=end).rev().take(3).take_while(continues).count();
    start..end.saturating_sub(dropped).max(start)
}

/// A delta in the making.
struct Delta<'a> {
    target: &'a [u8],
    /// So much of the target is covered.
    done: usize,
    out: Vec<u8>,
}

impl<'a> Delta<'a> {
    fn new(target: &'a [u8]) -> Self {
        let mut out = Vec::new();
        number(&mut out, target.len());
        out.push(b'\n');
        Self { target, done: 0, out }
    }

    fn copy(&mut self, copy: &Copy) {
        self.literal(copy.to.start);
        number(&mut self.out, copy.to.len());
        self.out.push(b'@');
        number(&mut self.out, copy.from);
        self.out.push(b',');
        self.done = copy.to.end;
    }

    /// Writes out what is not covered, up to `end`.
    fn literal(&mut self, end: usize) {
        let bytes = self.target.get(self.done..end).unwrap_or_default();
        if !bytes.is_empty() {
            number(&mut self.out, bytes.len());
            self.out.push(b':');
            self.out.extend_from_slice(bytes);
        }
        self.done = end;
    }

    fn end(mut self) -> Vec<u8> {
        self.literal(self.target.len());
        number(&mut self.out, usize::try_from(checksum(self.target)).unwrap_or(usize::MAX));
        self.out.push(b';');
        self.out
    }
}

fn number(out: &mut Vec<u8>, value: usize) {
    let digit_count = value.checked_ilog2().map_or(0, |bits| bits / 6);
    for digit in (0..=digit_count).rev() {
        let shift = digit.saturating_mul(6);
        let index = value.checked_shr(shift).unwrap_or(0) & 0x3f;
        out.extend(DIGITS.get(index));
    }
}

/// The sum of the bytes as words of four, the most significant first, the last one filled up.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.chunks(4).fold(0, |sum: u32, chunk| {
        let mut word = [0; 4];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        sum.wrapping_add(u32::from_be_bytes(word))
    })
}

/// The bytes are no delta of this source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// The delta ends too early, or is not written as one.
    #[error("not a delta")]
    Malformed,
    /// It copies what the source does not have.
    #[error("a copy from beyond the source")]
    Source,
    /// The target is not as long as it says, or longer than is allowed.
    #[error("a target of another length")]
    Length,
    /// The target is not what it was made from.
    #[error("a wrong checksum")]
    Checksum,
}

/// The target that `delta` makes of `source`, of at most `len_max` bytes.
///
/// # Errors
/// [`DeltaError`] says why there is none.
pub fn decode(source: &[u8], delta: &[u8], len_max: usize) -> Result<Vec<u8>, DeltaError> {
    let mut reader = Reader { rest: delta };
    let len = match reader.number()? {
        (len, b'\n') if len <= len_max => len,
        (_, b'\n') => return Err(DeltaError::Length),
        _ => return Err(DeltaError::Malformed),
    };
    let mut target = Vec::new();
    loop {
        let (value, mark) = reader.number()?;
        let bytes = match mark {
            b'@' => {
                let (from, b',') = reader.number()? else { return Err(DeltaError::Malformed) };
                let end = from.checked_add(value).ok_or(DeltaError::Source)?;
                source.get(from..end).ok_or(DeltaError::Source)?
            }
            b':' => reader.take(value)?,
            b';' if target.len() != len => return Err(DeltaError::Length),
            b';' if u32::try_from(value) != Ok(checksum(&target)) => {
                return Err(DeltaError::Checksum);
            }
            b';' if reader.rest.is_empty() => return Ok(target),
            _ => return Err(DeltaError::Malformed),
        };
        if target.len().saturating_add(bytes.len()) > len {
            return Err(DeltaError::Length);
        }
        target.extend_from_slice(bytes);
    }
}

/// Reads a delta from its front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DeltaError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DeltaError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number and the byte behind it.
    fn number(&mut self) -> Result<(usize, u8), DeltaError> {
        let mut value: Option<usize> = None;
        loop {
            let [byte] = *self.take(1)? else { return Err(DeltaError::Malformed) };
            let Some(digit) = DIGITS.iter().position(|digit| *digit == byte) else {
                return value.map(|value| (value, byte)).ok_or(DeltaError::Malformed);
            };
            let scaled = value.unwrap_or(0).checked_mul(64).ok_or(DeltaError::Malformed)?;
            value = Some(scaled.checked_add(digit).ok_or(DeltaError::Malformed)?);
        }
    }
}
