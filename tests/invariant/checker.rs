//! The delivery promise (I1, I2, I3, I4, I6): what subscribers got against what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Position, Violation};

/// A session and a topic.
pub(crate) type Subscription<'a> = (&'a str, &'a str);

type Key = (String, String);

/// Watches any number of sessions on any number of topics, at any number of nodes.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    feeds: BTreeMap<Key, Feed>,
    forbidden: BTreeSet<Key>,
    /// Hash of the payload by topic, epoch and offset.
    payloads: BTreeMap<(String, String, u64), u64>,
    /// Offsets by topic and epoch.
    acknowledged: BTreeMap<Key, BTreeSet<u64>>,
}

/// Whether a subscriber is told of publications that it lost by being slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// By a notice ahead of the next publication, or its session ends.
    Told,
    /// It may lose some and its wire format has no words for it.
    Untold,
}

#[derive(Debug)]
struct Feed {
    epoch: String,
    top: u64,
    telling: Telling,
    /// Lost publications that it was told of and that are not accounted for yet.
    skipped: u64,
    /// Offsets that it asked not to get: its own publications.
    left_out: BTreeSet<u64>,
    is_live: bool,
}

impl Checker {
    /// The subscriber was told that its stream goes on after `start`: at first, or not recovered.
    pub(crate) fn starts(&mut self, subscription: Subscription<'_>, start: &Position) {
        let feed = Feed {
            epoch: start.epoch.clone(),
            top: start.offset,
            telling: Telling::Told,
            skipped: 0,
            left_out: BTreeSet::new(),
            is_live: true,
        };
        self.feeds.insert(key(subscription), feed);
    }

    /// Whether the subscriber is told of what it loses; at first every subscriber is.
    pub(crate) fn tells(&mut self, subscription: Subscription<'_>, telling: Telling) {
        self.feed(subscription).telling = telling;
    }

    /// The subscriber is not to get the publication at `offset` of its epoch.
    pub(crate) fn leaves_out(&mut self, subscription: Subscription<'_>, offset: u64) {
        self.feed(subscription).left_out.insert(offset);
    }

    /// From now on the session may not read the topic.
    pub(crate) fn forbids(&mut self, subscription: Subscription<'_>) {
        self.forbidden.insert(key(subscription));
    }

    /// The session may read the topic again.
    pub(crate) fn allows(&mut self, subscription: Subscription<'_>) {
        self.forbidden.remove(&key(subscription));
    }

    /// The subscriber was told that it lost `count` publications.
    pub(crate) fn skipped(&mut self, subscription: Subscription<'_>, count: u64) {
        self.feed(subscription).skipped += count;
    }

    /// The subscriber got `payload` at `position`.
    pub(crate) fn delivered(
        &mut self,
        subscription: Subscription<'_>,
        position: &Position,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Violation> {
        let key = key(subscription);
        if self.forbidden.contains(&key) {
            return Err(Violation::NotAllowed);
        }
        let feed = self.feeds.get_mut(&key).ok_or(Violation::NotSubscribed)?;
        if feed.epoch != position.epoch {
            return Err(Violation::EpochChanged);
        }
        feed.advance(position.offset)?;
        self.agree(subscription.1, position, payload.as_ref())
    }

    /// Somebody saw `payload` at `position`: a publisher in its answer, a reader in history.
    pub(crate) fn observed(
        &mut self,
        topic: &str,
        position: &Position,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Violation> {
        self.agree(topic, position, payload.as_ref())
    }

    /// A publisher was told that `payload` has `position`.
    pub(crate) fn acknowledged(
        &mut self,
        topic: &str,
        position: &Position,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Violation> {
        let key = (topic.to_owned(), position.epoch.clone());
        self.acknowledged.entry(key).or_default().insert(position.offset);
        self.agree(topic, position, payload.as_ref())
    }

    /// The session is over, and its client knows: nothing more is owed to it.
    pub(crate) fn ends(&mut self, subscription: Subscription<'_>) {
        self.feed(subscription).is_live = false;
    }

    /// The newest offset that the subscriber has.
    pub(crate) fn top(&self, subscription: Subscription<'_>) -> u64 {
        self.feeds[&key(subscription)].top
    }

    /// Faults have healed and `top` is the topic's: every live subscriber must be there (I6).
    pub(crate) fn healed(&self, topic: &str, top: &Position) -> Result<(), Violation> {
        let live = self.feeds.iter().filter(|((_, its), feed)| its == topic && feed.is_live);
        for (key, feed) in live.filter(|(_, feed)| feed.epoch == top.epoch) {
            let has = feed.reached();
            if has != top.offset && feed.told_of() != top.offset {
                let (subscription, top) = (name(key), top.offset);
                return Err(Violation::NotAtTop { subscription, top, has });
            }
        }
        Ok(())
    }

    /// Nothing more will be delivered: everything acknowledged after a start must have come (I2).
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        for (key, feed) in self.feeds.iter().filter(|(_, feed)| feed.is_live) {
            let topic = (key.1.clone(), feed.epoch.clone());
            let acknowledged = self.acknowledged.get(&topic);
            let newest = acknowledged.and_then(BTreeSet::last).copied().unwrap_or(0);
            if newest > feed.told_of() {
                return Err(Violation::Lost { subscription: name(key), offset: newest });
            }
            let newest = newest.max(self.newest(&key.1, &feed.epoch));
            if feed.skipped > 0 && feed.told_of() > newest {
                return Err(Violation::Skipped { told: feed.skipped });
            }
        }
        Ok(())
    }

    /// The newest offset that anybody saw.
    fn newest(&self, topic: &str, epoch: &str) -> u64 {
        let at = |offset| (topic.to_owned(), epoch.to_owned(), offset);
        let seen = self.payloads.range(at(0)..=at(u64::MAX));
        seen.map(|((.., offset), _)| *offset).next_back().unwrap_or(0)
    }

    fn feed(&mut self, subscription: Subscription<'_>) -> &mut Feed {
        let feed = self.feeds.get_mut(&key(subscription));
        feed.unwrap_or_else(|| panic!("{subscription:?} was never told of a start"))
    }

    fn agree(&mut self, topic: &str, position: &Position, payload: &[u8]) -> Result<(), Violation> {
        let key = (topic.to_owned(), position.epoch.clone(), position.offset);
        let hash = hash(payload);
        if *self.payloads.entry(key).or_insert(hash) == hash {
            return Ok(());
        }
        let offset = position.offset;
        Err(Violation::Payload { offset })
    }
}

impl Feed {
    /// Takes the publication at `offset`, if it is the next one or the gap before it was told.
    fn advance(&mut self, offset: u64) -> Result<(), Violation> {
        let expected = self.reached() + 1;
        let violation = Violation::Offset { expected, got: offset };
        if offset < expected || self.left_out.contains(&offset) {
            return Err(violation);
        }
        let own = self.left_out.range(expected..offset).count() as u64;
        let lost = offset - expected - own;
        match self.telling {
            Telling::Untold => {}
            Telling::Told if lost > self.skipped => return Err(violation),
            // A notice may count own publications too: the server need not know whose it dropped.
            Telling::Told => self.skipped -= (lost + own).min(self.skipped),
        }
        if self.skipped > 0 {
            return Err(Violation::Skipped { told: self.skipped });
        }
        self.top = offset;
        Ok(())
    }

    /// The newest offset that it has or was told that it lost.
    fn told_of(&self) -> u64 {
        self.reached() + self.skipped
    }

    /// The newest offset that it has, with those right after it that it asked not to get.
    fn reached(&self) -> u64 {
        let mut top = self.top;
        while self.left_out.contains(&(top + 1)) {
            top += 1;
        }
        top
    }
}

fn key((session, topic): Subscription<'_>) -> Key {
    (session.to_owned(), topic.to_owned())
}

fn name((session, topic): &Key) -> String {
    format!("{session} on {topic}")
}

fn hash(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Checker, Position, Subscription, Telling, Violation};

    const S: Subscription<'_> = ("s", "t");

    fn at(epoch: &str, offset: u64) -> Position {
        let epoch = epoch.to_owned();
        Position { epoch, offset }
    }

    fn started() -> Checker {
        let mut checker = Checker::default();
        checker.starts(S, &at("e", 4));
        checker
    }

    fn offset(expected: u64, got: u64) -> Result<(), Violation> {
        Err(Violation::Offset { expected, got })
    }

    #[test]
    fn a_stream_without_gap_keeps_the_promise() {
        let mut checker = started();
        checker.acknowledged("t", &at("e", 5), "a").unwrap();
        checker.delivered(S, &at("e", 5), "a").unwrap();
        checker.delivered(S, &at("e", 6), "b").unwrap();
        checker.starts(S, &at("f", 0));
        checker.delivered(S, &at("f", 1), "c").unwrap();
        checker.healed("t", &at("f", 1)).unwrap();
        assert_eq!(checker.finish(), Ok(()));
    }

    #[test]
    fn i1_gaps_duplicates_and_strangers_are_found() {
        for (position, expected) in [
            (at("e", 7), offset(6, 7)),
            (at("e", 5), offset(6, 5)),
            (at("f", 6), Err(Violation::EpochChanged)),
        ] {
            let mut checker = started();
            checker.delivered(S, &at("e", 5), "a").unwrap();
            assert_eq!(checker.delivered(S, &position, "x"), expected);
        }
        let stranger = Checker::default().delivered(S, &at("e", 1), "a");
        assert_eq!(stranger, Err(Violation::NotSubscribed));
    }

    #[test]
    fn i1_a_notice_explains_a_gap_of_exactly_its_size() {
        for (told, expected) in
            [(1, offset(5, 7)), (2, Ok(())), (3, Err(Violation::Skipped { told: 1 }))]
        {
            let mut checker = started();
            checker.skipped(S, told);
            assert_eq!(checker.delivered(S, &at("e", 7), "x"), expected);
        }
        let mut checker = started();
        checker.skipped(S, 1);
        assert_eq!(checker.finish(), Err(Violation::Skipped { told: 1 }));
        checker.acknowledged("t", &at("e", 5), "lost, and told").unwrap();
        checker.healed("t", &at("e", 5)).unwrap();
        assert_eq!(checker.finish(), Ok(()));
        let mut checker = started();
        checker.tells(S, Telling::Untold);
        checker.delivered(S, &at("e", 7), "x").unwrap();
        assert_eq!(checker.delivered(S, &at("e", 7), "x"), offset(8, 7), "in order all the same");
    }

    #[test]
    fn i1_what_is_left_out_is_no_gap_and_must_not_come() {
        let mut checker = started();
        checker.acknowledged("t", &at("e", 7), "own").unwrap();
        checker.leaves_out(S, 5);
        checker.leaves_out(S, 7);
        assert_eq!(checker.delivered(S, &at("e", 7), "own"), offset(6, 7));
        checker.delivered(S, &at("e", 6), "x").unwrap();
        checker.healed("t", &at("e", 7)).unwrap();
        assert_eq!(checker.finish(), Ok(()));
    }

    #[test]
    fn i2_an_acknowledged_publication_that_never_comes_is_lost() {
        let mut checker = started();
        checker.acknowledged("t", &at("e", 4), "before").unwrap();
        checker.acknowledged("other", &at("e", 9), "elsewhere").unwrap();
        assert_eq!(checker.finish(), Ok(()));
        checker.acknowledged("t", &at("e", 5), "after").unwrap();
        let (subscription, offset) = ("s on t".to_owned(), 5);
        assert_eq!(checker.finish(), Err(Violation::Lost { subscription, offset }));
        checker.ends(S);
        assert_eq!(checker.finish(), Ok(()), "it was told");
    }

    #[test]
    fn i3_what_a_session_may_not_read_must_not_come() {
        let mut checker = started();
        checker.forbids(("s", "other"));
        checker.delivered(S, &at("e", 5), "a").unwrap();
        checker.forbids(S);
        assert_eq!(checker.delivered(S, &at("e", 6), "b"), Err(Violation::NotAllowed));
        checker.allows(S);
        checker.delivered(S, &at("e", 6), "b").unwrap();
    }

    #[test]
    fn i4_two_payloads_of_one_offset_are_found_whoever_saw_them() {
        let (first, second) = (at("e", 5), "another payload");
        let expected = Err(Violation::Payload { offset: 5 });
        for observer in 0..3 {
            let mut checker = started();
            checker.observed("t", &first, "a").unwrap();
            checker.observed("other", &first, second).unwrap();
            let result = match observer {
                0 => checker.observed("t", &first, second),
                1 => checker.acknowledged("t", &first, second),
                _ => checker.delivered(S, &first, second),
            };
            assert_eq!(result, expected);
        }
    }

    #[test]
    fn i6_a_live_subscriber_that_is_not_at_the_top_is_found() {
        let mut checker = started();
        checker.healed("t", &at("e", 4)).unwrap();
        let (subscription, top, has) = ("s on t".to_owned(), 5, 4);
        let expected = Err(Violation::NotAtTop { subscription, top, has });
        assert_eq!(checker.healed("t", &at("e", 5)), expected);
        checker.healed("other", &at("e", 5)).unwrap();
        checker.ends(S);
        checker.healed("t", &at("e", 5)).unwrap();
    }
}
