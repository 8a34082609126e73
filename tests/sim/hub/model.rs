//! What the hub must say about one topic: a list of publications and the contract's rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fanwire::hub::{Epoch, IDEMPOTENCY_TTL, Joined, Page, Position, Publication, Since, Start};
use fanwire::limits::TopicRule;
use fastrand::Rng;

/// One topic, through all its incarnations.
#[derive(Debug)]
pub(super) struct Model {
    rule: TopicRule,
    meta_ttl: Duration,
    /// Of the current epoch, as far as it is known.
    accepted: Vec<Accepted>,
    epoch: Option<Epoch>,
    /// When and at which offset a key was used.
    keys: BTreeMap<u8, (Duration, u64)>,
    subscribers: usize,
    /// When the last subscriber left.
    left: Duration,
    /// Without history nobody tells when a topic begins anew: places where it may have.
    restarts: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Accepted {
    at: Duration,
    len: usize,
}

impl Model {
    pub(super) fn new(rule: TopicRule, meta_ttl: Duration) -> Self {
        Self {
            rule,
            meta_ttl,
            accepted: Vec::new(),
            epoch: None,
            keys: BTreeMap::new(),
            subscribers: 0,
            left: Duration::ZERO,
            restarts: Vec::new(),
        }
    }

    pub(super) fn rule(&self) -> &TopicRule {
        &self.rule
    }

    fn has_history(&self) -> bool {
        self.rule.history_size > 0
    }

    pub(super) fn top(&self) -> u64 {
        self.accepted.len() as u64
    }

    /// Length of the payload at `offset`.
    pub(super) fn len(&self, offset: u64) -> Option<usize> {
        let index = usize::try_from(offset).ok()?.checked_sub(1)?;
        self.accepted.get(index).map(|one| one.len)
    }

    /// The oldest offset that count and bytes let stay; one above the top if none.
    pub(super) fn oldest_by_size(&self) -> u64 {
        let mut len = 0;
        let newest_first = self.accepted.iter().rev().take(self.rule.history_size);
        let kept = newest_first.take_while(|one| {
            len += one.len;
            len <= self.rule.history_bytes_max
        });
        self.top() + 1 - kept.count() as u64
    }

    /// As [`Model::oldest_by_size`], by age too.
    pub(super) fn oldest(&self, now: Duration) -> u64 {
        let is_old = |one: &Accepted| now.saturating_sub(one.at) >= self.rule.history_ttl;
        let too_old = self.accepted.iter().take_while(|one| is_old(one)).count() as u64;
        self.oldest_by_size().max(too_old + 1)
    }

    /// Position of the publication that came with `key`, while that is remembered.
    pub(super) fn repeat(&self, key: u8, now: Duration) -> Option<(Option<Epoch>, u64)> {
        let (at, offset) = self.keys.get(&key)?;
        (now.saturating_sub(*at) < IDEMPOTENCY_TTL).then_some((self.epoch, *offset))
    }

    /// When nothing needs the topic any more; `None` while something does for ever.
    fn idle_since(&self) -> Option<Duration> {
        let kept = usize::try_from(self.oldest_by_size()).ok()? <= self.accepted.len();
        let newest = self.accepted.last().filter(|_| kept && self.has_history());
        let history = newest.map(|newest| newest.at + self.rule.history_ttl);
        let keys = self.keys.values().map(|(at, _)| *at + IDEMPOTENCY_TTL).max();
        let needs = [history, keys, Some(self.left)];
        (self.subscribers == 0).then(|| needs.into_iter().flatten().max()).flatten()
    }

    /// Whether the topic is not to be forgotten.
    pub(super) fn must_live(&self, now: Duration) -> bool {
        self.idle_since().is_none_or(|since| since > now)
    }

    /// Whether the topic may be forgotten with its position.
    fn may_restart(&self, now: Duration) -> bool {
        self.idle_since().is_some_and(|since| now >= since + self.meta_ttl)
    }

    pub(super) fn is_swept(&mut self, now: Duration) {
        if !self.has_history() && !self.must_live(now) {
            self.restarts.push(self.accepted.len());
        }
    }

    /// Takes note of the epoch that is shown. Returns whether it can be.
    fn see(&mut self, epoch: Epoch, now: Duration) -> bool {
        let is_known = self.epoch == Some(epoch);
        let may_be_new = self.epoch.is_none() || self.may_restart(now);
        if !is_known && may_be_new {
            self.epoch = Some(epoch);
            self.accepted.clear();
            self.keys.clear();
        }
        is_known || may_be_new
    }

    /// Takes note of a publication. Returns whether it can have that position.
    pub(super) fn accept(
        &mut self,
        position: Option<Position>,
        (at, len, key): (Duration, usize, Option<u8>),
    ) -> bool {
        if position.is_some() != self.has_history() {
            return false;
        }
        let is_right = position.is_none_or(|Position { epoch, offset }| {
            self.see(epoch, at) && offset == self.top() + 1
        });
        self.accepted.push(Accepted { at, len });
        if let Some(key) = key {
            self.keys.insert(key, (at, self.top()));
        }
        // Nobody needs it longer than from now on.
        self.left = self.left.max(at);
        is_right
    }

    /// A place to begin at, often one that is just kept or just not.
    pub(super) fn some_start(&self, random: &mut Rng) -> Start {
        let near = [1, self.oldest_by_size(), self.top()][random.usize(..3)];
        let offset = (near + random.u64(..3)).saturating_sub(1);
        let stranger = Epoch::parse("zzz");
        let since = |epoch| Start::Since(Since { epoch, offset });
        match random.u8(..8) {
            0 | 1 => Start::Live,
            2 => Start::Last(random.usize(..5)),
            3 => Start::Unknown,
            4 => since(stranger),
            5 => since(None),
            _ => self.epoch.map_or(Start::Live, |epoch| since(Some(epoch))),
        }
    }

    fn is_kept(&self, since: Since, now: Duration) -> bool {
        self.has_history()
            && since.epoch.is_none_or(|epoch| self.epoch == Some(epoch))
            && since.offset <= self.top()
            && (since.offset == self.top() || self.oldest(now) <= since.offset + 1)
    }

    /// Takes note of a subscriber. Returns whether it can begin there.
    pub(super) fn join(&mut self, start: Start, joined: &Joined, now: Duration) -> bool {
        if joined.position.is_some() != self.has_history() {
            return false;
        }
        if !joined.position.is_none_or(|position| self.see(position.epoch, now)) {
            return false;
        }
        let forgotten = self.accepted.len().checked_sub(usize::try_from(joined.top).unwrap_or(0));
        if let Some(forgotten) = forgotten.filter(|place| self.restarts.contains(place)) {
            self.accepted.drain(..forgotten);
        }
        self.restarts.clear();
        self.subscribers += 1;
        let (next, recovered) = match start {
            Start::Last(count) if self.has_history() => {
                let last = (self.top() + 1).saturating_sub(count as u64);
                (last.max(self.oldest(now)), None)
            }
            Start::Live | Start::Last(_) => (self.top() + 1, None),
            Start::Since(since) if self.is_kept(since, now) => (since.offset + 1, Some(true)),
            Start::Since(_) | Start::Unknown => (self.top() + 1, Some(false)),
        };
        joined.top == self.top()
            && joined.next == next
            && joined.recovered == recovered
            && joined.position.is_none_or(|position| position.offset == next - 1)
    }

    pub(super) fn leave(&mut self, now: Duration) {
        self.subscribers -= 1;
        self.left = self.left.max(now);
    }

    /// Whether history goes on with `some` at `next`: as many as fit, at least one.
    pub(super) fn is_next(&self, next: u64, some: &[Arc<Publication>], len_max: usize) -> bool {
        let len: usize = some.iter().map(|one| one.payload().framed().len()).sum();
        next >= self.oldest_by_size()
            && !some.is_empty()
            && (some.len() == 1 || len <= len_max)
            && some.iter().zip(next..).all(|(one, offset)| {
                one.sequence == offset && self.len(offset) == Some(one.payload().data().len())
            })
    }

    /// Whether a page of history can be this one.
    pub(super) fn shows(
        &mut self,
        since: Option<Since>,
        limit: usize,
        page: Option<&Page>,
        now: Duration,
    ) -> bool {
        let Some(page) = page else {
            return self.epoch.is_none() || self.may_restart(now);
        };
        if !self.see(page.top.epoch, now) {
            return false;
        }
        let recovered = since.map(|since| self.is_kept(since, now));
        let oldest = self.oldest(now);
        let kept = self.top() + 1 - oldest;
        let first = match (since, recovered) {
            (Some(since), Some(true)) => since.offset + 1,
            (Some(_), _) => oldest,
            (None, _) => self.top() + 1 - kept.min(limit as u64),
        };
        let due = (self.top() + 1).saturating_sub(first).min(limit as u64);
        page.top.offset == self.top()
            && page.recovered == recovered
            && page.publications.len() as u64 == due
            && page.publications.iter().zip(first..).all(|(one, offset)| one.sequence == offset)
    }
}
