//! The delivery promise as a program: what subscribers got is compared with what was acknowledged.

use std::collections::BTreeMap;

use super::position::Position;

/// Watches any number of subscribers of one topic.
///
/// Offsets of one subscriber are strictly +1 within an epoch unless it was told of a new start; all
/// subscribers agree on the payload of an offset; what was acknowledged has reached everybody.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    feeds: BTreeMap<String, Feed>,
    payloads: BTreeMap<(String, u64), String>,
    acknowledged: Vec<Position>,
}

#[derive(Debug)]
struct Feed {
    start: Position,
    top: u64,
}

/// How the promise was broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The subscriber never got a start position.
    NotSubscribed,
    /// A publication of an epoch that the subscriber was not told of.
    EpochChanged,
    /// Not the offset after the last one.
    Offset { expected: u64, got: u64 },
    /// Two payloads for one offset.
    Payload { offset: u64 },
    /// Acknowledged, never delivered, and the subscriber was not told.
    Lost { subscriber: String, offset: u64 },
}

impl Checker {
    /// `subscriber` was told that its stream goes on after `start`: at first, or not recovered.
    pub(crate) fn starts(&mut self, subscriber: &str, start: &Position) {
        let (start, top) = (start.clone(), start.offset);
        let feed = Feed { start, top };
        self.feeds.insert(subscriber.to_owned(), feed);
    }

    /// `subscriber` got `payload` at `position`.
    pub(crate) fn delivered(
        &mut self,
        subscriber: &str,
        position: &Position,
        payload: &str,
    ) -> Result<(), Violation> {
        let feed = self.feeds.get_mut(subscriber);
        let feed = feed.ok_or(Violation::NotSubscribed)?;
        if feed.start.epoch != position.epoch {
            return Err(Violation::EpochChanged);
        }
        let (expected, got) = (feed.top + 1, position.offset);
        if expected != got {
            return Err(Violation::Offset { expected, got });
        }
        feed.top = got;
        self.agree(position, payload)
    }

    /// A publisher was told that `payload` has `position`.
    pub(crate) fn acknowledged(
        &mut self,
        position: &Position,
        payload: &str,
    ) -> Result<(), Violation> {
        self.acknowledged.push(position.clone());
        self.agree(position, payload)
    }

    /// The newest offset that `subscriber` has.
    pub(crate) fn top(&self, subscriber: &str) -> u64 {
        self.feeds[subscriber].top
    }

    /// Nothing more will be delivered: everything acknowledged after a start must have come.
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        for (subscriber, feed) in &self.feeds {
            for position in &self.acknowledged {
                if position.epoch == feed.start.epoch && position.offset > feed.top {
                    let (subscriber, offset) = (subscriber.clone(), position.offset);
                    return Err(Violation::Lost { subscriber, offset });
                }
            }
        }
        Ok(())
    }

    fn agree(&mut self, position: &Position, payload: &str) -> Result<(), Violation> {
        let key = (position.epoch.clone(), position.offset);
        let known = self.payloads.entry(key).or_insert_with(|| payload.to_owned());
        if known == payload {
            return Ok(());
        }
        let offset = position.offset;
        Err(Violation::Payload { offset })
    }
}

#[cfg(test)]
mod tests {
    use super::{Checker, Position, Violation};

    fn at(epoch: &str, offset: u64) -> Position {
        let epoch = epoch.to_owned();
        Position { epoch, offset }
    }

    #[test]
    fn a_stream_without_gap_keeps_the_promise() {
        let mut checker = Checker::default();
        checker.acknowledged(&at("e", 5), "a").unwrap();
        checker.starts("s", &at("e", 4));
        checker.delivered("s", &at("e", 5), "a").unwrap();
        checker.delivered("s", &at("e", 6), "b").unwrap();
        checker.starts("s", &at("f", 0));
        checker.delivered("s", &at("f", 1), "c").unwrap();
        assert_eq!(checker.finish(), Ok(()));
    }

    #[test]
    fn gaps_duplicates_strangers_and_disagreement_are_violations() {
        let offset = |expected, got| Err(Violation::Offset { expected, got });
        for (position, payload, expected) in [
            (at("e", 7), "x", offset(6, 7)),
            (at("e", 5), "a", offset(6, 5)),
            (at("f", 6), "x", Err(Violation::EpochChanged)),
            (at("e", 6), "y", Err(Violation::Payload { offset: 6 })),
        ] {
            let mut checker = Checker::default();
            checker.starts("s", &at("e", 4));
            checker.delivered("s", &at("e", 5), "a").unwrap();
            checker.acknowledged(&at("e", 6), "x").unwrap();
            assert_eq!(checker.delivered("s", &position, payload), expected);
        }
        let stranger = Checker::default().delivered("s", &at("e", 1), "a");
        assert_eq!(stranger, Err(Violation::NotSubscribed));
    }

    #[test]
    fn an_acknowledged_publication_that_never_comes_is_lost() {
        let mut checker = Checker::default();
        checker.starts("s", &at("e", 4));
        checker.acknowledged(&at("e", 4), "before").unwrap();
        assert_eq!(checker.finish(), Ok(()));
        checker.acknowledged(&at("e", 5), "after").unwrap();
        let (subscriber, offset) = ("s".to_owned(), 5);
        assert_eq!(checker.finish(), Err(Violation::Lost { subscriber, offset }));
    }
}
