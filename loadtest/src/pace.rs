//! When the next publication goes out: a closed loop with a window, or an open loop at a rate.

use std::{ops::Range, time::Duration};

/// Open loop: publication `k` is due at `start + k / rate`, whatever happened to those before it.
/// Latency counts from there, so a server that stalls cannot hide it (no coordinated omission).
#[derive(Debug)]
pub(crate) struct Schedule {
    start: u64,
    rate: u64,
    /// So many are due at the start.
    overdue: u64,
    issued: u64,
}

impl Schedule {
    /// `rate` publications per second from `start` on, in nanoseconds.
    pub(crate) fn new(start: u64, rate: u64) -> Self {
        Self { start, rate, overdue: 0, issued: 0 }
    }

    /// The same, but as after a stall of `span`: what would have been due by then is due at once.
    pub(crate) fn stalled(self, span: Duration) -> Self {
        let overdue = u128::from(self.rate) * span.as_nanos() / 1_000_000_000;
        Self { overdue: u64::try_from(overdue).unwrap_or(u64::MAX), ..self }
    }

    /// The next publication that is due at `now`: its number and the time it was due.
    #[inline]
    pub(crate) fn next(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.due(self.issued);
        if due > now {
            return None;
        }
        self.issued += 1;
        Some((self.issued - 1, due))
    }

    /// When publication `number`, counted from 0, is due.
    #[inline]
    pub(crate) fn due(&self, number: u64) -> u64 {
        self.start + number.saturating_sub(self.overdue).saturating_mul(1_000_000_000) / self.rate
    }
}

/// Closed loop of one topic: at most `size` publications that not all subscribers have yet.
#[derive(Debug)]
pub(crate) struct Window {
    size: u32,
    subscribers: u32,
    /// Receptions still to come, by sequence modulo the length (a power of two).
    open: Vec<u32>,
    complete: u32,
}

impl Window {
    pub(crate) fn new(size: u32, subscribers: u32) -> Self {
        let slots = size.next_power_of_two() as usize;
        Self { size, subscribers, open: vec![subscribers; slots], complete: 0 }
    }

    /// One subscriber is done with the sequences `settled`, all of them published.
    #[inline]
    pub(crate) fn settle(&mut self, settled: Range<u32>) {
        for seq in settled {
            let slot = self.slot(seq);
            self.open[slot] -= 1;
        }
        loop {
            let slot = self.slot(self.complete + 1);
            if self.open[slot] != 0 {
                return;
            }
            self.open[slot] = self.subscribers;
            self.complete += 1;
        }
    }

    /// How many more may be sent after `published`.
    #[inline]
    pub(crate) fn credit(&self, published: u32) -> u32 {
        self.size - (published - self.complete)
    }

    fn slot(&self, seq: u32) -> usize {
        seq as usize & (self.open.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_leaves_the_due_times_where_they_were() {
        let mut schedule = Schedule::new(1_000, 4_000);
        assert_eq!(schedule.next(999), None);
        assert_eq!(schedule.next(1_000), Some((0, 1_000)));
        assert_eq!(schedule.next(1_001), None);
        // Nothing could be sent for a millisecond: four are due, each since its own time.
        let late: Vec<_> = std::iter::from_fn(|| schedule.next(1_001_000)).collect();
        assert_eq!(late, [(1, 251_000), (2, 501_000), (3, 751_000), (4, 1_001_000)]);
    }

    #[test]
    fn what_a_stall_held_up_is_due_at_once() {
        let mut schedule = Schedule::new(1_000, 4_000).stalled(Duration::from_millis(1));
        let due: Vec<_> = std::iter::from_fn(|| schedule.next(501_000)).collect();
        let held_up = (0..4).map(|number| (number, 1_000));
        assert_eq!(
            due,
            held_up.chain([(4, 1_000), (5, 251_000), (6, 501_000)]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn rates_that_do_not_divide_a_second_do_not_drift() {
        let mut schedule = Schedule::new(0, 3);
        let last = std::iter::from_fn(|| schedule.next(1_000_000_000)).last();
        assert_eq!(last, Some((3, 1_000_000_000)));
    }

    #[test]
    fn the_window_opens_when_all_subscribers_have_the_oldest() {
        let mut window = Window::new(3, 2);
        assert_eq!(window.credit(0), 3);
        assert_eq!(window.credit(3), 0);
        window.settle(1..3);
        assert_eq!(window.credit(3), 0, "one of two subscribers is not all");
        window.settle(1..2);
        assert_eq!(window.credit(3), 1);
        window.settle(2..4);
        assert_eq!(window.credit(3), 2);
        window.settle(3..4);
        assert_eq!(window.credit(3), 3);
    }
}
