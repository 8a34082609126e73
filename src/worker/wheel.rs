//! A coarse wheel of deadlines: one entry per connection, looked at when its tick comes.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::ConnectionKey;

/// Ticks since the worker started. Coarse on purpose: four bytes per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tick(u32);

impl Tick {
    /// Later than any other.
    pub(super) const NEVER: Self = Self(u32::MAX);

    pub(super) fn plus(self, ticks: u32) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    pub(super) fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

const SLOTS: u32 = 256;

/// Entries that an empty slot has room for at most.
const SLOT_KEPT: usize = 64;

/// Deadlines by tick. Entries further away than the wheel is round are looked at early, and put
/// back by their owner.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<(Tick, ConnectionKey)>>,
    count: usize,
    start: Instant,
    length: Duration,
    /// The tick whose slot was taken last.
    taken: Tick,
}

impl Wheel {
    /// A wheel whose ticks are fine enough for deadlines of `shortest` and longer.
    pub(super) fn new(shortest: Duration, now: Instant) -> Self {
        let length = (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, count: 0, start: now, length, taken: Tick(0) }
    }

    /// The tick of `now`.
    pub(super) fn tick(&self, now: Instant) -> Tick {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / self.length.as_nanos();
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Ticks that are certainly no shorter than `duration`.
    pub(super) fn ticks(&self, duration: Duration) -> u32 {
        let ticks = duration.as_nanos().div_ceil(self.length.as_nanos()) + 1;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Puts `key` in to come out at `tick` or, if that is far away, earlier. Returns when.
    pub(super) fn insert(&mut self, key: ConnectionKey, tick: Tick) -> Tick {
        let tick = tick.clamp(self.taken.plus(1), self.taken.plus(SLOTS - 1));
        self.slots[(tick.0 % SLOTS) as usize].push((tick, key));
        self.count += 1;
        tick
    }

    /// When the next slot is due; `None` while the wheel is empty.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.count == 0 {
            return None;
        }
        let next = (1..=SLOTS)
            .find(|ahead| !self.slots[(self.taken.plus(*ahead).0 % SLOTS) as usize].is_empty())?;
        Some(self.start + self.length * self.taken.plus(next).0)
    }

    /// Takes out everything that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<(Tick, ConnectionKey)>) {
        let until = self.tick(now);
        if until.since(self.taken) >= SLOTS {
            // Time jumped over a whole turn of the wheel.
            self.slots.iter_mut().for_each(|slot| due.append(slot));
            self.taken = until;
        }
        while self.taken < until {
            self.taken = self.taken.plus(1);
            let slot = &mut self.slots[(self.taken.0 % SLOTS) as usize];
            due.append(slot);
            // A storm fills one slot after the other: none keeps its room for good.
            slot.shrink_to(SLOT_KEPT);
        }
        self.count -= due.len();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SLOTS, Wheel};
    use crate::worker::ConnectionKey;
    use tokio::time::Instant;

    #[test]
    fn entries_come_out_at_their_tick_and_far_ones_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(Duration::from_secs(8), start);
        let now = wheel.tick(start);
        let (near, far) = (ConnectionKey::new(1, 1), ConnectionKey::new(2, 2));
        assert_eq!(wheel.next(), None);
        let near_at = wheel.insert(near, now.plus(3));
        let far_at = wheel.insert(far, now.plus(10 * SLOTS));
        assert_eq!(wheel.next(), Some(start + Duration::from_secs(3)));
        let mut due = Vec::new();
        wheel.take_due(start + Duration::from_secs(2), &mut due);
        assert!(due.is_empty());
        wheel.take_due(start + Duration::from_secs(3), &mut due);
        assert_eq!(due, [(near_at, near)]);
        due.clear();
        wheel.take_due(start + Duration::from_secs(1000), &mut due);
        assert_eq!(due, [(far_at, far)]);
        assert_eq!(wheel.next(), None);
    }
}
