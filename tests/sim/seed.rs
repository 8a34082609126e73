//! What every simulation does with its seeds: run each, have it judged, tell of those that fail,
//! and prove that the judge would see faults.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use crate::coverage::Coverage;
use crate::record::Record;
use crate::run::{Cast, run};
use crate::setup::{Setup, Step};
use crate::shrink::shrink;

/// Failing seeds that are told of in one run.
const TOLD_MAX: usize = 3;

/// Places where each kind of fault is planted.
const PLANTS: usize = 30;

/// Runs whose story is told twice.
const REPEATS: u64 = 20;

/// What makes a simulation of clients.
pub(crate) trait Play: Cast {
    /// Seeds of a usual run.
    const COUNT: u64;
    /// What cargo finds the test by.
    const TEST: &'static str;
    /// Every thing that the seeds are to come across, and how many of a thousand do at least.
    const EXPECTED: &'static [(&'static str, usize)];
    /// What a server could do wrong.
    type Fault: Copy + fmt::Debug + Send + 'static;
    const FAULTS: &'static [Self::Fault];

    /// What a seed stands for.
    fn plan(seed: u64) -> (Setup, Vec<Step<Self::Act>>);

    /// Everything in `record` that breaks the contract.
    fn judge(record: &Record<Self::Seen>) -> Vec<String>;

    /// What clients did and saw, for a reader.
    fn story(record: &Record<Self::Seen>) -> String;

    /// What came about in `record`.
    fn things(record: &Record<Self::Seen>) -> BTreeSet<String>;

    /// Plants a fault into what was recorded. Returns whether there was a place for it.
    fn plant(fault: Self::Fault, record: &mut Record<Self::Seen>, random: &mut Rng) -> bool;
}

pub(crate) fn every_one_keeps_the_contract<P: Play>() {
    let coverage = Mutex::new(Coverage::default());
    let failed = failing(P::COUNT, |seed| {
        let (setup, steps) = P::plan(seed);
        let record = try_run::<P>(&setup, &steps).filter(|record| P::judge(record).is_empty());
        if let Some(record) = &record {
            coverage.lock().unwrap().add(P::things(record));
        }
        record.is_some()
    });
    let told: String = failed.iter().take(TOLD_MAX).map(|seed| tell::<P>(*seed)).collect();
    assert!(failed.is_empty(), "{told}seeds {failed:?}");
    if number_of("FANWIRE_SIM_SEED").is_none() {
        // What never happens is not tested, however many seeds there are.
        coverage.into_inner().unwrap().assert_complete(P::EXPECTED);
    }
}

pub(crate) fn each_gives_the_same_story_each_time<P: Play>() {
    for seed in 0..REPEATS {
        let (setup, steps) = P::plan(seed);
        let tell = || P::story(&run::<P>(&setup, &steps));
        assert_eq!(tell(), tell(), "seed {seed}");
    }
}

/// Every kind of fault that is planted into what was recorded is found, nearly always: sometimes
/// it makes a story that could have been.
pub(crate) fn planted_faults_are_found<P: Play>() {
    let plants = P::FAULTS.iter().map(|fault| (*fault, 0, Vec::new()));
    let plants = Mutex::new(plants.collect::<Vec<_>>());
    for_seeds(P::COUNT, |seed| {
        let (setup, steps) = P::plan(seed);
        let record = run::<P>(&setup, &steps);
        let mut plants = plants.lock().unwrap();
        for (fault, planted, missed) in
            plants.iter_mut().filter(|(_, planted, _)| *planted < PLANTS)
        {
            let mut record = record.clone();
            if P::plant(*fault, &mut record, &mut Rng::with_seed(seed)) {
                *planted += 1;
                if P::judge(&record).is_empty() {
                    missed.push(seed);
                }
            }
        }
        plants.iter().any(|(_, planted, _)| *planted < PLANTS)
    });
    for (fault, planted, missed) in plants.into_inner().unwrap() {
        assert_eq!(planted, PLANTS, "{fault:?} has too few places");
        assert!(missed.len() * 10 <= planted, "{fault:?} is missed in {missed:?}");
    }
}

/// The seeds of a run that `is_fine` does not hold for, up to the first few.
pub(crate) fn failing(count: u64, is_fine: impl Fn(u64) -> bool + Sync) -> BTreeSet<u64> {
    let failed = Mutex::new(BTreeSet::new());
    let check = |seed| {
        if is_fine(seed) {
            return true;
        }
        let mut failed = failed.lock().unwrap();
        failed.insert(seed);
        failed.len() < TOLD_MAX
    };
    if let Some(seed) = number_of("FANWIRE_SIM_SEED") {
        check(seed);
    } else {
        for_seeds(number_of("FANWIRE_SIM_COUNT").unwrap_or(count), check);
    }
    failed.into_inner().unwrap()
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs `check` for every seed below `count`, on all cores, until it says stop.
fn for_seeds(count: u64, check: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let seeds = || {
        std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)))
            .take_while(|seed| *seed < count)
            .all(&check);
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(seeds);
        }
    });
}

/// A run of `steps`; `None` if the server panicked.
fn try_run<P: Play>(setup: &Setup, steps: &[Step<P::Act>]) -> Option<Record<P::Seen>> {
    catch_unwind(AssertUnwindSafe(|| run::<P>(setup, steps))).ok()
}

/// What is wrong with a run of `steps`; a panic is wrong, too.
fn findings<P: Play>(setup: &Setup, steps: &[Step<P::Act>]) -> Vec<String> {
    let record = try_run::<P>(setup, steps);
    record.map_or_else(|| vec!["the server panicked".to_owned()], |record| P::judge(&record))
}

/// Everything that helps to find the fault of a seed.
fn tell<P: Play>(seed: u64) -> String {
    let (setup, steps) = P::plan(seed);
    let steps = shrink(steps, |steps| !findings::<P>(&setup, steps).is_empty());
    let story = try_run::<P>(&setup, &steps).map(|record| P::story(&record));
    let lines = steps.iter().enumerate().map(|(index, step)| format!("{index:4} {step:?}\n"));
    format!(
        "seed {seed}: {:#?}\n{setup:#?}\n{}{}\
         to see it again: FANWIRE_SIM_SEED={seed} cargo test --test sim {}\n",
        findings::<P>(&setup, &steps),
        lines.collect::<String>(),
        story.unwrap_or_default(),
        P::TEST,
    )
}
