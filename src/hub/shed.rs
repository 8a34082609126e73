//! What goes when memory is short: history first, oldest first over all topics, then whoever holds
//! the most.
//!
//! It runs on the thread that sweeps, never on a worker's, and only while the account is short.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::directory::Directory;
use super::topic::{Topic, TopicId};
use crate::metrics::{Memory, MemoryKind, Shed};

/// Publications dropped in one look at the account; the next look goes on.
const TRIM_COUNT_MAX: usize = 100_000;

/// Sessions that hold less are not worth closing.
const FLOOR_MIN: usize = 1024;

/// Pause when nothing is left to let go: the account is full of what is in use.
const FRUITLESS_PAUSE: Duration = Duration::from_secs(1);

/// How far shedding is.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    ages: Ages,
    /// What a session held to be asked last; `None` = none was asked.
    floor: Option<usize>,
    /// Not before then, when the last look was in vain.
    pause_until: Option<Instant>,
}

/// Topics by when the oldest that they keep came.
///
/// The order is made by a look at every topic, and then used up from its front: what a topic keeps
/// only grows younger, so an entry is never too late, and whatever is not in here is younger than
/// the last look at all. That takes one look per turnover of history, not one per publication.
#[derive(Debug, Default)]
struct Ages {
    topics: BTreeMap<(Instant, TopicId), Weak<Topic>>,
    looked: Option<Instant>,
}

impl Shedding {
    /// Looks at the account, and lets go of what is too much. Returns whether the workers are to be
    /// woken: sessions have been asked.
    pub(super) fn look(&mut self, directory: &Directory, memory: &Memory, now: Instant) -> bool {
        let Some(excess) = memory.excess() else {
            *self = Self::default();
            return false;
        };
        if self.pause_until.is_some_and(|until| now < until) {
            return false;
        }
        self.pause_until = None;
        let Some(rest) = self.ages.trim(directory, memory, (excess, now)) else { return false };
        let positions = directory.trim_positions(rest);
        memory.count_shed(Shed::Positions, positions.count, positions.len);
        if positions.is_enough || memory.excess().is_none() {
            return false;
        }
        self.ask_sessions(memory, now)
    }

    /// Asks the sessions that hold the most, and each time those that hold a quarter of it.
    fn ask_sessions(&mut self, memory: &Memory, now: Instant) -> bool {
        let floor = match self.floor {
            None => usize::try_from(memory.limit() / 16).unwrap_or(usize::MAX),
            Some(floor) => floor / 4,
        };
        let floor = floor.max(FLOOR_MIN);
        let is_held =
            [MemoryKind::Outbox, MemoryKind::Reading].iter().any(|kind| memory.held(*kind) > 0);
        if floor == FLOOR_MIN || !is_held {
            self.pause_until = Some(now + FRUITLESS_PAUSE);
        }
        if is_held {
            self.floor = Some(floor);
            memory.ask_sessions(floor);
        }
        is_held
    }
}

impl Ages {
    /// Drops the oldest of all that topics keep until `len` bytes went. Returns how many have yet to
    /// go when nothing is left; `None` = enough went, or the next look goes on.
    fn trim(
        &mut self,
        directory: &Directory,
        memory: &Memory,
        (len, now): (usize, Instant),
    ) -> Option<usize> {
        let (mut freed, mut count, mut has_looked) = (0, 0, false);
        while freed < len && count < TRIM_COUNT_MAX {
            let Some(((at, _), topic)) = self.topics.pop_first() else {
                if has_looked || !self.look(directory, now) {
                    break;
                }
                has_looked = true;
                continue;
            };
            if self.looked.is_some_and(|looked| at > looked) && !has_looked {
                // Something that is not in here may be older.
                has_looked = true;
                self.look(directory, now);
                continue;
            }
            let Some(topic) = topic.upgrade() else { continue };
            // Up to where the next topic's oldest is; at least its own oldest, which may have come
            // since `now`.
            let until = self.topics.first_key_value().map_or(now, |((at, _), _)| *at).max(at);
            let trimmed = topic.trim(until, len - freed);
            freed += trimmed.len;
            count += trimmed.count;
            match trimmed.oldest {
                Some(oldest) => {
                    self.topics.insert((oldest, topic.id()), Arc::downgrade(&topic));
                }
                None => {
                    directory.try_forget(&topic, now);
                }
            }
        }
        memory.count_shed(Shed::Publications, count, freed);
        (freed < len && count < TRIM_COUNT_MAX).then(|| len - freed)
    }

    /// Looks at every topic. Returns whether one keeps something.
    fn look(&mut self, directory: &Directory, now: Instant) -> bool {
        self.looked = Some(now);
        let topics = directory.topics().into_iter();
        let aged = topics
            .filter_map(|topic| Some(((topic.oldest()?, topic.id()), Arc::downgrade(&topic))));
        self.topics = aged.collect();
        !self.topics.is_empty()
    }
}
