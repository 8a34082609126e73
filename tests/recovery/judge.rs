//! Everything once and in order, or told: what all clients saw, held against the invariants.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::{Account, Replay, Told};
use crate::invariant::{Checker, Position};
use crate::line::{Broken, Cut};
use crate::world::World;

/// Publications that one answer of the Centrifugo door may hold.
const PAGE_COUNT_MAX: u64 = 300;

/// What happened to all clients together.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) cuts: BTreeMap<&'static str, usize>,
    pub(crate) recovered: usize,
    pub(crate) lost: usize,
    pub(crate) publications: usize,
    pub(crate) deltas: usize,
}

impl Summary {
    /// Fails where something came about too seldom to be tested.
    pub(crate) fn assert_complete(&self) {
        for (word, least) in [
            ("reset", 200),
            ("closed", 200),
            ("half closed", 200),
            ("reset in sending", 100),
            ("ended by the server", 30),
        ] {
            let count = self.cuts.get(word).copied().unwrap_or(0);
            assert!(count >= least, "{word}: {count}; {self:?}");
        }
        assert!(self.recovered > 500 && self.lost > 50 && self.deltas > 1000, "{self:?}");
    }
}

/// What was wrong with a run, and what happened in it.
pub(crate) struct Judge {
    checker: Checker,
    published: BTreeSet<String>,
    /// Where each payload of a topic is.
    places: BTreeMap<(usize, Vec<u8>), u64>,
    pub(crate) findings: Vec<String>,
    pub(crate) summary: Summary,
}

impl Judge {
    pub(crate) fn new(published: BTreeSet<String>) -> Self {
        Self {
            checker: Checker::default(),
            published,
            places: BTreeMap::new(),
            findings: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// A publisher was told where its publication is.
    pub(crate) fn acknowledged(&mut self, topic: usize, position: &Position, payload: &str) {
        let result = self.checker.acknowledged(World::TOPICS[topic], position, payload);
        self.expect("a publisher", result);
    }

    pub(crate) fn hears(&mut self, account: &Account) {
        for broken in &account.breaks {
            *self.summary.cuts.entry(word(*broken)).or_default() += 1;
        }
        self.summary.deltas += account.delta_count;
        let mut tops = BTreeMap::new();
        for told in &account.told {
            let found = self.findings.len();
            match told {
                Told::Start { topic, start, recovered } => {
                    let before = tops.insert(*topic, start.clone());
                    self.starts(account, *topic, (before, start, *recovered));
                }
                Told::Publication { topic, position, payload } => {
                    self.summary.publications += 1;
                    tops.insert(*topic, position.clone());
                    self.takes(account, *topic, (position, payload));
                }
            }
            // What follows from a fault says little.
            if self.findings.len() > found {
                return;
            }
        }
    }

    fn starts(
        &mut self,
        account: &Account,
        topic: usize,
        (before, start, recovered): (Option<Position>, &Position, Option<bool>),
    ) {
        let name = World::TOPICS[topic];
        let lost = before.as_ref().map(|before| start.offset.wrapping_sub(before.offset));
        let kept = match (account.replay, topic) {
            (Replay::Stream, World::SHORT) => World::SHORT_COUNT,
            (Replay::Stream, _) => u64::MAX,
            (Replay::Reply, World::SHORT) => 0,
            (Replay::Reply, _) => PAGE_COUNT_MAX,
        };
        let is_right = match (recovered, lost) {
            (None, None) => true,
            (Some(true), Some(lost)) => lost == 0,
            (Some(false), Some(lost)) => lost > kept && lost < u64::MAX / 2,
            _ => false,
        };
        let is_same = before.as_ref().is_none_or(|before| before.epoch == start.epoch);
        if !is_right || !is_same {
            let who = &account.name;
            self.findings.push(format!("{who} on {name}: {before:?} {recovered:?} {start}"));
        }
        match recovered {
            Some(true) => self.summary.recovered += 1,
            Some(false) => self.summary.lost += 1,
            None => {}
        }
        self.checker.starts((&account.name, name), start);
    }

    fn takes(&mut self, account: &Account, topic: usize, (position, payload): (&Position, &[u8])) {
        let (who, name) = (&account.name, World::TOPICS[topic]);
        let result = self.checker.delivered((who, name), position, payload);
        self.expect(who, result);
        let is_known = str::from_utf8(payload).is_ok_and(|text| self.published.contains(text));
        let place = *self.places.entry((topic, payload.to_vec())).or_insert(position.offset);
        if !is_known || place != position.offset {
            let text = String::from_utf8_lossy(payload);
            self.findings.push(format!("{who} got {text} at {position}, known at {place}"));
        }
    }

    /// All have everything.
    pub(crate) fn finish(&mut self) {
        let result = self.checker.finish();
        self.expect("in the end", result);
    }

    fn expect(&mut self, who: &str, result: Result<(), crate::invariant::Violation>) {
        if let Err(violation) = result {
            self.findings.push(format!("{who}: {violation:?}"));
        }
    }
}

fn word(broken: Broken) -> &'static str {
    match broken {
        Broken::Cut(Cut::Reset) => "reset",
        Broken::Cut(Cut::Closed) => "closed",
        Broken::Cut(Cut::HalfClosed) => "half closed",
        Broken::Cut(Cut::ResetInSending) => "reset in sending",
        Broken::Ended => "ended by the server",
    }
}
