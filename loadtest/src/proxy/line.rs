//! One direction of a connection: what is on its way, and when which part of it arrives.
//!
//! No sockets and no clock of its own: the same seed and the same input give the same schedule.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::unit::Rate;

/// Bytes on their way, at most: with it the fastest stream under a delay is this per delay.
const QUEUE_LEN_MAX: usize = 1 << 20;
/// What a line with a rate holds beyond the bytes that its delay keeps on their way.
const RESERVE_LEN: usize = 16 * 1024;
/// Reads on their way, at most: each costs memory however few its bytes are.
const READS_MAX: usize = 4096;
/// A rated line hands on so much time's worth at once.
const PORTION: Duration = Duration::from_millis(10);
/// How far a rated line that could not send may catch up.
const CATCH_UP: Duration = Duration::from_millis(20);
const SPLIT_LEN_MAX: usize = 7;

/// How lines treat what passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) delay: Duration,
    /// Up to so much is added to the delay of each read.
    pub(super) jitter: Duration,
    pub(super) rate: Option<Rate>,
    pub(super) pieces: Pieces,
}

/// How much of what is due leaves in one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pieces {
    AsRead,
    /// 1 to [`SPLIT_LEN_MAX`] bytes.
    Split,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    Reset,
}

#[derive(Debug)]
struct Read {
    due: Instant,
    bytes: Box<[u8]>,
    sent: usize,
}

/// Invariant: reads are due in the order in which they came.
#[derive(Debug)]
pub(super) struct Line {
    shape: Shape,
    random: fastrand::Rng,
    queue: VecDeque<Read>,
    queue_len: usize,
    /// No later arrival may be due before this.
    last_due: Instant,
    /// When the rate allows the next byte.
    free_at: Instant,
    /// Bytes of the next write, at most.
    portion_len: usize,
    /// Bytes that left in all.
    pub(super) forwarded: u64,
    end: Option<(Instant, End)>,
    /// Whether `end` was passed on.
    over: bool,
}

impl Line {
    pub(super) fn new(shape: Shape, seed: u64, now: Instant) -> Self {
        let mut line = Self {
            shape,
            random: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            queue_len: 0,
            last_due: now,
            free_at: now,
            portion_len: 0,
            forwarded: 0,
            end: None,
            over: false,
        };
        line.draw_portion();
        line
    }

    /// How many bytes may be read for it.
    pub(super) fn room(&self) -> usize {
        if self.end.is_some() || self.queue.len() >= READS_MAX {
            return 0;
        }
        let Shape { delay, jitter, rate, .. } = self.shape;
        let queue_len_max = rate.map_or(QUEUE_LEN_MAX, |rate| {
            rate.len_in(delay + jitter).saturating_add(RESERVE_LEN).min(QUEUE_LEN_MAX)
        });
        queue_len_max.saturating_sub(self.queue_len)
    }

    /// Takes what was read at `now`.
    pub(super) fn push(&mut self, now: Instant, bytes: &[u8]) {
        let due = self.draw_due(now);
        self.queue_len += bytes.len();
        self.queue.push_back(Read { due, bytes: bytes.into(), sent: 0 });
    }

    /// The source ended at `now`; a reset outdoes a clean end.
    pub(super) fn finish(&mut self, now: Instant, end: End) {
        if self.end.is_none_or(|(_, known)| known == End::Clean && end == End::Reset) {
            self.end = Some((self.draw_due(now), end));
            self.over = false;
        }
    }

    /// Whether the source ended.
    pub(super) fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// The sink is gone: nothing will leave any more, so nothing is read either.
    pub(super) fn cut(&mut self) {
        self.queue.clear();
        self.queue_len = 0;
        self.end.get_or_insert((self.last_due, End::Clean));
        self.over = true;
    }

    /// What may be written at `now`.
    pub(super) fn ready(&self, now: Instant) -> Option<&[u8]> {
        let read = self.queue.front().filter(|read| read.due.max(self.free_at) <= now)?;
        let rest = &read.bytes[read.sent..];
        Some(&rest[..rest.len().min(self.portion_len)])
    }

    /// `len` bytes of [`Line::ready`] left at `now`.
    pub(super) fn sent(&mut self, now: Instant, len: usize) {
        let Some(read) = self.queue.front_mut() else { return };
        read.sent += len;
        if read.sent == read.bytes.len() {
            self.queue.pop_front();
        }
        self.queue_len -= len;
        self.forwarded += len as u64;
        if let Some(rate) = self.shape.rate {
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            self.free_at = self.free_at.max(earliest) + rate.time_of(len);
        }
        self.draw_portion();
    }

    /// The end to pass on, once: when it is due and everything before it has left.
    pub(super) fn take_end(&mut self, now: Instant) -> Option<End> {
        let (due, end) = self.end?;
        if self.over || !self.queue.is_empty() || due > now {
            return None;
        }
        self.over = true;
        Some(end)
    }

    /// Whether nothing will leave it any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// When it has something to write or an end to pass on, if nothing else happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        match (self.queue.front(), self.end) {
            (Some(read), _) => Some(read.due.max(self.free_at)),
            (None, Some((due, _))) if !self.over => Some(due),
            (None, _) => None,
        }
    }

    fn draw_due(&mut self, now: Instant) -> Instant {
        let jitter = u64::try_from(self.shape.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.random.u64(0..=jitter));
        self.last_due = self.last_due.max(now + self.shape.delay + jitter);
        self.last_due
    }

    fn draw_portion(&mut self) {
        let rated = self.shape.rate.map_or(usize::MAX, |rate| rate.len_in(PORTION).max(1));
        self.portion_len = match self.shape.pieces {
            Pieces::AsRead => rated,
            Pieces::Split => rated.min(self.random.usize(1..=SPLIT_LEN_MAX)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Shape =
        Shape { delay: Duration::ZERO, jitter: Duration::ZERO, rate: None, pieces: Pieces::AsRead };

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Lets everything out, waking only when the line says so: times since `begun`, and bytes.
    fn run(line: &mut Line, begun: Instant) -> Vec<(Duration, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(now) = line.wake().filter(|_| !line.queue.is_empty()) {
            let bytes = line.ready(now).expect("awake when something is ready").to_vec();
            line.sent(now, bytes.len());
            out.push((now - begun, bytes));
        }
        out
    }

    #[test]
    fn each_read_is_late_by_the_delay_and_at_most_the_jitter_and_none_overtakes() {
        let begun = Instant::now();
        let schedule = |seed| {
            let shape = Shape { delay: millis(50), jitter: millis(10), ..PLAIN };
            let mut line = Line::new(shape, seed, begun);
            for index in 0..100 {
                line.push(begun + millis(u64::from(index)), &[index]);
            }
            run(&mut line, begun)
        };
        let out = schedule(7);
        assert_eq!(out.len(), 100);
        let mut before = Duration::ZERO;
        for (index, (time, bytes)) in (0..).zip(&out) {
            assert_eq!(bytes, &[index]);
            let earliest = millis(u64::from(index) + 50);
            assert!((earliest..=earliest + millis(10)).contains(time), "{index}: {time:?}");
            assert!(*time >= before);
            before = *time;
        }
        assert_eq!(schedule(7), out, "a seed is a schedule");
        assert_ne!(schedule(8), out);
    }

    #[test]
    fn a_rate_spreads_bytes_over_time_in_small_portions() {
        let begun = Instant::now();
        let shape = Shape { rate: Some(Rate::parse("100KB").expect("good")), ..PLAIN };
        let mut line = Line::new(shape, 0, begun);
        line.push(begun, &[0; 10_000]);
        let mut sum = 0;
        for (time, bytes) in run(&mut line, begun) {
            sum += bytes.len();
            assert!(sum as u128 <= 100 * time.as_millis() + 1_000, "{sum} at {time:?}");
        }
        assert_eq!((sum, line.forwarded), (10_000, 10_000));
        // A line that was blocked catches up a little, not all it missed.
        let late = begun + millis(5_000);
        line.push(late, &[0; 10_000]);
        let mut at_once = 0;
        while let Some(bytes) = line.ready(late) {
            let len = bytes.len();
            at_once += len;
            line.sent(late, len);
        }
        assert!(at_once <= 3_000, "{at_once}");
    }

    #[test]
    fn split_pieces_are_small_and_make_up_the_whole() {
        let begun = Instant::now();
        let mut line = Line::new(Shape { pieces: Pieces::Split, ..PLAIN }, 3, begun);
        let bytes: Vec<u8> = (0..=255).collect();
        line.push(begun, &bytes);
        let out = run(&mut line, begun);
        let lens: Vec<usize> = out.iter().map(|(_, piece)| piece.len()).collect();
        assert!((1..=SPLIT_LEN_MAX).all(|len| lens.contains(&len)), "{lens:?}");
        assert!(lens.iter().all(|len| *len <= SPLIT_LEN_MAX));
        assert_eq!(out.into_iter().flat_map(|(_, piece)| piece).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let begun = Instant::now();
        let check = |shape, len| {
            let mut line = Line::new(shape, 0, begun);
            assert_eq!(line.room(), len);
            line.push(begun, &vec![0; len]);
            assert_eq!(line.room(), 0);
            line.sent(begun, 10);
            assert_eq!(line.room(), 10);
        };
        check(PLAIN, QUEUE_LEN_MAX);
        let rate = Some(Rate::parse("10KB").expect("good"));
        check(Shape { rate, delay: millis(100), ..PLAIN }, 1_000 + RESERVE_LEN);
        let rate = Some(Rate::parse("100MB").expect("good"));
        check(Shape { rate, delay: millis(100), ..PLAIN }, QUEUE_LEN_MAX);
    }

    #[test]
    fn an_end_waits_for_the_bytes_before_it_and_is_late_as_they_are() {
        let begun = Instant::now();
        let mut line = Line::new(Shape { delay: millis(50), ..PLAIN }, 0, begun);
        line.push(begun, b"last words");
        line.finish(begun + millis(1), End::Clean);
        assert_eq!(line.room(), 0, "nothing follows an end");
        let due = begun + millis(51);
        assert_eq!(line.take_end(due), None, "bytes are still to leave");
        line.sent(due, 10);
        assert_eq!(line.take_end(begun + millis(50)), None);
        assert_eq!(line.wake(), Some(due));
        assert_eq!(line.take_end(due), Some(End::Clean));
        assert_eq!((line.take_end(due), line.wake()), (None, None), "only once");
        line.finish(due, End::Reset);
        assert!(!line.is_over());
        assert_eq!(line.take_end(due + millis(50)), Some(End::Reset));
    }

    #[test]
    fn a_cut_line_takes_and_gives_nothing() {
        let begun = Instant::now();
        let mut line = Line::new(PLAIN, 0, begun);
        line.push(begun, b"lost");
        line.cut();
        assert!(line.is_over());
        assert_eq!((line.room(), line.ready(begun), line.wake()), (0, None, None));
        assert_eq!(line.take_end(begun), None);
    }
}
