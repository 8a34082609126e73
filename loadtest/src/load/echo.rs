//! What the subscribers of a topic were sent lately, byte for byte: whoever gets the same needs no
//! closer look.
//!
//! A broadcast server sends the same bytes to all. The first time, each message is taken apart and
//! every publication checked; for all others one comparison tells as much, wherever their reads
//! begin and end.

use std::ops::Range;

/// Bytes kept of all topics together, about.
const LEN_MAX: usize = 64 << 20;
/// Of one, at most.
const TOPIC_LEN_MAX: usize = 16 << 20;
/// Of one, at least: a single message must fit.
const TOPIC_LEN_MIN: usize = 4 << 10;
/// Ways to write a topic's publications: doors and formats.
const WAYS_MAX: u8 = 4;

/// What is known of a topic, in each of the ways in which its publications are written.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    ways: Vec<Stream>,
}

/// The way in which one subscriber gets its topic, as it was last time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way(u8);

/// Whole messages at the beginning of what a subscriber received.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub(crate) len: usize,
    pub(crate) seqs: Range<u32>,
    pub(crate) places: &'a [Place],
}

/// One way's latest messages: one run as long as it may be, and what has come of the next.
#[derive(Debug, Default)]
struct Stream {
    old: Run,
    new: Run,
}

/// Messages that carry publications without a gap.
#[derive(Debug, Default)]
struct Run {
    /// The sequence that stands first in `bytes`.
    first: u32,
    bytes: Vec<u8>,
    /// One a publication, in order.
    places: Vec<Place>,
}

/// Where a publication stands, and when it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Of the message that it came in.
    begin: u32,
    pub(crate) time: u64,
}

impl Echo {
    /// Messages that `bytes` begin with, for a subscriber that waits for `next`. Sees to it that
    /// `way` is the right one.
    #[inline]
    pub(crate) fn find(&self, way: &mut Way, next: u32, bytes: &[u8]) -> Option<Known<'_>> {
        let stream = self.ways.get(usize::from(way.0))?;
        let known = stream.find(next, bytes);
        if known.is_some() || !stream.has(next) {
            return known;
        }
        let (number, known) = (0..)
            .zip(&self.ways)
            .find_map(|(number, stream)| stream.find(next, bytes).map(|known| (number, known)))?;
        *way = Way(number);
        Some(known)
    }

    /// Keeps a whole `message` with the publications from `first` on, which were sent at `times`;
    /// `len_max` bounds what is kept.
    pub(crate) fn keep(
        &mut self,
        way: &mut Way,
        first: u32,
        (message, times): (&[u8], &[u64]),
        len_max: usize,
    ) {
        if self.find(way, first, message).is_some() {
            // It came in pieces.
            return;
        }
        let own = self.ways.get(usize::from(way.0));
        if own.is_none_or(|stream| stream.has(first)) {
            // Others get it written otherwise.
            let is_free = |number: &u8| {
                self.ways.get(usize::from(*number)).is_none_or(|stream| !stream.has(first))
            };
            let next = (way.0 + 1) % WAYS_MAX;
            *way = Way((0..WAYS_MAX).find(is_free).unwrap_or(next));
        } else if own.is_some_and(|stream| first < stream.new.next()) {
            // Others are long past it.
            return;
        }
        let number = usize::from(way.0);
        if number == self.ways.len() {
            self.ways.push(Stream::default());
        }
        self.ways[number].push(first, (message, times), len_max);
    }
}

/// How many bytes may be kept of each of `topics`.
pub(crate) fn len_max(topics: usize) -> usize {
    (LEN_MAX / topics).clamp(TOPIC_LEN_MIN, TOPIC_LEN_MAX)
}

impl Stream {
    #[inline]
    fn has(&self, seq: u32) -> bool {
        self.new.index(seq).or_else(|| self.old.index(seq)).is_some()
    }

    #[inline]
    fn find(&self, next: u32, bytes: &[u8]) -> Option<Known<'_>> {
        match self.new.index(next) {
            Some(index) => self.new.find(index, bytes),
            None => self.old.find(self.old.index(next)?, bytes),
        }
    }

    fn push(&mut self, first: u32, message: (&[u8], &[u64]), len_max: usize) {
        // After a gap, which a message that came in pieces makes, a new one begins, too.
        let is_next = first == self.new.next();
        if !is_next || self.new.bytes.len() + message.0.len() > len_max / 2 {
            std::mem::swap(&mut self.old, &mut self.new);
            self.new.begin(first);
        }
        self.new.push(message);
    }
}

impl Run {
    fn begin(&mut self, first: u32) {
        self.first = first;
        self.bytes.clear();
        self.places.clear();
    }

    fn next(&self) -> u32 {
        self.first + u32::try_from(self.places.len()).expect("sequences are u32")
    }

    /// The place of `seq` in order.
    #[inline]
    fn index(&self, seq: u32) -> Option<usize> {
        let index = seq.checked_sub(self.first)? as usize;
        (index < self.places.len()).then_some(index)
    }

    #[inline]
    fn find(&self, index: usize, bytes: &[u8]) -> Option<Known<'_>> {
        let places = &self.places[index..];
        let begin = places[0].begin;
        if index > 0 && self.places[index - 1].begin == begin {
            // In the midst of a message.
            return None;
        }
        let kept = &self.bytes[begin as usize..];
        let mut len = kept.len().min(bytes.len());
        if kept[..len] != bytes[..len] {
            len = kept.iter().zip(bytes).take_while(|(kept, byte)| kept == byte).count();
        }
        // Only whole messages: up to the end, or to where the last one begins.
        let mut count = places.len();
        if len < kept.len() {
            let has_begun = |place: &Place| (place.begin - begin) as usize <= len;
            count = begun(places, has_begun) - 1;
            let last = places[count].begin;
            count -= places[..count].iter().rev().take_while(|place| place.begin == last).count();
            len = (last - begin) as usize;
        }
        let next = self.first + u32::try_from(index).expect("sequences are u32");
        let seqs = next..next + u32::try_from(count).expect("sequences are u32");
        (count > 0).then(|| Known { len, seqs, places: &places[..count] })
    }

    fn push(&mut self, (message, times): (&[u8], &[u64])) {
        let begin = u32::try_from(self.bytes.len()).expect("bounded far below");
        self.bytes.extend_from_slice(message);
        self.places.extend(times.iter().map(|time| Place { begin, time: *time }));
    }
}

/// How many of `places`, from the first on, `has_begun` holds for: most often few of many.
#[inline]
fn begun(places: &[Place], has_begun: impl Fn(&Place) -> bool) -> usize {
    let mut reach = 1;
    while places.get(reach).is_some_and(&has_begun) {
        reach *= 2;
    }
    let (known, reach) = (reach / 2, reach.min(places.len()));
    known + places[known..reach].partition_point(has_begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 1_000;

    /// Messages `a`, `bb`, `ccc` with the publications 3, 4 and 5, 6.
    fn three() -> Echo {
        let mut echo = Echo::default();
        let messages: [(u32, &[u8], &[u64]); 3] =
            [(3, b"a", &[30]), (4, b"bb", &[40, 50]), (6, b"ccc", &[60])];
        for (first, message, times) in messages {
            echo.keep(&mut Way::default(), first, (message, times), ROOM);
        }
        echo
    }

    /// Bytes and times known of `bytes`.
    fn known(echo: &Echo, next: u32, bytes: &[u8]) -> Option<(usize, Vec<u64>)> {
        let known = echo.find(&mut Way::default(), next, bytes)?;
        assert_eq!(known.seqs.len(), known.places.len());
        assert_eq!(known.seqs.start, next);
        Some((known.len, known.places.iter().map(|place| place.time).collect()))
    }

    #[test]
    fn whole_messages_are_known_wherever_a_read_begins_and_ends() {
        let echo = three();
        let all = vec![30, 40, 50, 60];
        for (next, bytes, expected) in [
            (3, &b"abbccc"[..], Some((6, all.clone()))),
            (3, b"abbccc and more", Some((6, all))),
            (3, b"abbcc", Some((3, vec![30, 40, 50]))),
            (3, b"abb", Some((3, vec![30, 40, 50]))),
            (3, b"abbcXc", Some((3, vec![30, 40, 50]))),
            (3, b"ab", Some((1, vec![30]))),
            (3, b"aX", Some((1, vec![30]))),
            (4, b"bbccc", Some((5, vec![40, 50, 60]))),
            (6, b"ccc", Some((3, vec![60]))),
            (3, b"", None),
            (3, b"X", None),
            (4, b"b", None),
            (5, b"bccc", None),
            (6, b"abb", None),
            (2, b"a", None),
            (7, b"a", None),
        ] {
            assert_eq!(known(&echo, next, bytes), expected, "{next} {bytes:?}");
        }
    }

    #[test]
    fn only_the_latest_is_kept_within_the_bound_and_over_a_gap() {
        let mut echo = Echo::default();
        for seq in 1..=100 {
            echo.keep(&mut Way::default(), seq, (b"12345", &[u64::from(seq)]), 50);
            let Stream { old, new } = &echo.ways[0];
            assert!(old.bytes.len() + new.bytes.len() <= 50);
            assert_eq!(known(&echo, seq, b"12345"), Some((5, vec![u64::from(seq)])));
        }
        assert_eq!(known(&echo, 99, b"1234512345"), Some((10, vec![99, 100])));
        assert_eq!(known(&echo, 80, b"12345"), None);
        echo.keep(&mut Way::default(), 80, (b"12345", &[80]), 50);
        assert_eq!(known(&echo, 80, b"12345"), None, "nobody needs it any more");
        echo.keep(&mut Way::default(), 200, (b"12345", &[7]), 50);
        assert_eq!(known(&echo, 100, b"12345"), Some((5, vec![100])));
        assert_eq!(known(&echo, 200, b"12345"), Some((5, vec![7])));
        echo.keep(&mut Way::default(), 201, (&[b'x'; 90], &[8]), 50);
        assert_eq!(known(&echo, 201, &[b'x'; 90]), Some((90, vec![8])), "longer than the bound");
    }

    #[test]
    fn each_way_of_writing_is_known_apart() {
        let mut echo = Echo::default();
        let mut ways = [Way::default(); WAYS_MAX as usize];
        for seq in 1..=3 {
            for (way, letter) in ways.iter_mut().zip(b'a'..) {
                let message = [letter; 2];
                assert!(echo.find(way, seq, &message).is_none());
                echo.keep(way, seq, (&message, &[u64::from(seq)]), ROOM);
            }
        }
        let mut stranger = Way::default();
        for letter in *b"dbac" {
            let known = echo.find(&mut stranger, 1, &[letter; 6]).expect("one of them");
            assert_eq!((known.len, known.seqs.clone()), (6, 1..4));
        }
        assert!(echo.find(&mut stranger, 1, b"ee").is_none());
        echo.keep(&mut stranger, 1, (b"ee", &[1]), ROOM);
        assert!(echo.find(&mut stranger, 1, b"ee").is_some(), "in place of another");
        assert_eq!(echo.ways.len(), usize::from(WAYS_MAX));
    }
}
