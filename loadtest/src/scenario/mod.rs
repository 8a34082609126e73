//! The scenarios: what is opened, published and held, and what is reported of it.

pub(crate) mod churn;
pub(crate) mod compare;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod ramp;
pub(crate) mod rooms;
pub(crate) mod slow;
pub(crate) mod storm;

use crate::fault::Faults;

/// Whether a run found what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Faulty,
}

impl From<&Faults> for Verdict {
    fn from(faults: &Faults) -> Self {
        if faults.total() == 0 { Self::Good } else { Self::Faulty }
    }
}

/// The name of topic `index`.
fn topic_name(index: u32) -> String {
    format!("bench-{index}")
}

/// A few reasons of lost connections, for the report.
#[derive(Debug, Default)]
struct Samples(Vec<String>);

impl Samples {
    const MAX: usize = 3;

    fn add(&mut self, reason: String) {
        if self.0.len() < Self::MAX && !self.0.contains(&reason) {
            self.0.push(reason);
        }
    }
}
