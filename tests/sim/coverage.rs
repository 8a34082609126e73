//! What the seeds of a run came across, so that a simulation that lost its reach is noticed.

use std::collections::{BTreeMap, BTreeSet};

/// How many seeds came across each thing.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    seeds: usize,
    counts: BTreeMap<String, usize>,
}

impl Coverage {
    /// Counts what one seed came across.
    pub(crate) fn add(&mut self, things: BTreeSet<String>) {
        self.seeds += 1;
        for thing in things {
            *self.counts.entry(thing).or_default() += 1;
        }
    }

    /// Fails where something that is `expected` came about too seldom.
    pub(crate) fn assert_complete(&self, expected: &[(&str, usize)]) {
        for (thing, of_thousand) in expected {
            let count = self.counts.get(*thing).copied().unwrap_or(0);
            let least = of_thousand * self.seeds / 1000;
            assert!(count >= least, "{thing}: {count} of {} seeds; {:#?}", self.seeds, self.counts);
        }
    }
}
