//! The scenarios: what is opened, published and held, and what is reported of it.

pub(crate) mod churn;
pub(crate) mod compare;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod ramp;
pub(crate) mod rooms;
pub(crate) mod slow;
pub(crate) mod storm;

use serde::Serialize;

use crate::{
    cli::Server,
    door::Topic,
    fault::Faults,
    figure::Table,
    report::{self, Kept},
};

/// Whether a run found what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Faulty,
}

/// Publishes the report of a run, and judges it: by its objectives, and by none of any kind of
/// fault that they do not bound.
///
/// # Errors
/// The report cannot be written.
fn conclude(
    (table, report): (&Table, &impl Serialize),
    faults: &Faults,
    options: &Server,
) -> anyhow::Result<Verdict> {
    let kept = report::publish(table, report, options)?;
    let allowed = |name| options.slo.as_ref().is_some_and(|slo| slo.bounds(name));
    let whole = faults.named().iter().all(|(name, count)| *count == 0 || allowed(name));
    Ok(if whole && kept == Kept::All { Verdict::Good } else { Verdict::Faulty })
}

/// The name of topic `index`.
fn topic_name(index: u32) -> String {
    Topic(index).to_string()
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
