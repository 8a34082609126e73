//! Sessions of the doors of `/topics`, one topic each: plain `WebSocket`, server-sent events and
//! ndjson, with all that their clients can do wrong; and a model of what each of them is owed.

mod coverage;
mod fault;
mod judge;
mod record;
mod run;
mod setup;

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::seed::Play;
use crate::setup::Setup;

pub(crate) use run::Topics;

use fault::Fault;
use record::Record;
use setup::Step;

impl Play for Topics {
    const COUNT: u64 = 3000;
    const TEST: &'static str = "at_the_doors_of_topics";
    const EXPECTED: &'static [(&'static str, usize)] = coverage::EXPECTED;
    type Fault = Fault;
    const FAULTS: &'static [Fault] = &Fault::ALL;

    fn plan(seed: u64) -> (Setup, Vec<Step>) {
        setup::plan(seed)
    }

    fn judge(record: &Record) -> Vec<String> {
        judge::judge(record)
    }

    fn story(record: &Record) -> String {
        record.to_string()
    }

    fn things(record: &Record) -> BTreeSet<String> {
        coverage::things(record)
    }

    fn plant(fault: Fault, record: &mut Record, random: &mut Rng) -> bool {
        fault.plant(record, random)
    }
}
