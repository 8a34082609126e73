//! The whole server under a clock of the test's own, driven by seeds: thousands of short lives of
//! sessions, publishers and slow readers, each judged by a simple model.
//!
//! `FANWIRE_SIM_SEED=7 cargo test --test sim` runs one seed and tells its story;
//! `FANWIRE_SIM_COUNT=100000 cargo test --test sim` runs more of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod centrifugo;
mod client;
mod coverage;
mod fault;
mod hub;
#[path = "../invariant/mod.rs"]
mod invariant;
mod judge;
mod record;
mod run;
mod setup;
mod shrink;
mod wire;
mod world;

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use coverage::Coverage;
use fault::Fault;
use record::Record;
use setup::{Setup, Step};

/// Seeds of a usual run, and those of the hub alone, which are cheaper.
const COUNT: u64 = 3000;
const HUB_COUNT: u64 = 10_000;

/// Seeds of the Centrifugo door.
const CENTRIFUGO_COUNT: u64 = 2000;

/// Failing seeds that are told of in one run.
const TOLD_MAX: usize = 3;

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What a seed stands for.
fn plan(seed: u64) -> (Setup, Vec<Step>) {
    let mut random = Rng::with_seed(seed);
    let setup = Setup::new(seed, &mut random);
    let steps = setup::steps(&mut random);
    (setup, steps)
}

/// A run of `steps`; `None` if the server panicked.
fn try_run(setup: &Setup, steps: &[Step]) -> Option<Record> {
    catch_unwind(AssertUnwindSafe(|| run::run(setup, steps))).ok()
}

/// What is wrong with a run of `steps`; a panic is wrong, too.
fn findings(setup: &Setup, steps: &[Step]) -> Vec<String> {
    let record = try_run(setup, steps);
    record.map_or_else(|| vec!["the server panicked".to_owned()], |record| judge::judge(&record))
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

/// Everything that helps to find the fault of a seed.
fn tell(seed: u64) -> String {
    let (setup, steps) = plan(seed);
    let steps = shrink::shrink(steps, |steps| !findings(&setup, steps).is_empty());
    let story = try_run(&setup, &steps).map(|record| record.to_string());
    format!(
        "seed {seed}: {:#?}\n{setup:#?}\n{}{}\
         to see it again: FANWIRE_SIM_SEED={seed} cargo test --test sim every_seed\n",
        findings(&setup, &steps),
        record::show_steps(&steps),
        story.unwrap_or_default(),
    )
}

#[test]
fn every_seed_keeps_the_contract() {
    let (failed, coverage) = (Mutex::new(Vec::new()), Mutex::new(Coverage::default()));
    let check = |seed| {
        let (setup, steps) = plan(seed);
        let record = try_run(&setup, &steps);
        if let Some(record) = record.filter(|record| judge::judge(record).is_empty()) {
            coverage.lock().unwrap().add(&record);
            return true;
        }
        let mut failed = failed.lock().unwrap();
        failed.push(seed);
        failed.len() < TOLD_MAX
    };
    if let Some(seed) = number_of("FANWIRE_SIM_SEED") {
        check(seed);
    } else {
        for_seeds(number_of("FANWIRE_SIM_COUNT").unwrap_or(COUNT), check);
    }
    let failed = failed.into_inner().unwrap();
    let told: String = failed.iter().take(TOLD_MAX).map(|seed| tell(*seed)).collect();
    assert!(failed.is_empty(), "{told}seeds {failed:?}");
    if number_of("FANWIRE_SIM_SEED").is_none() {
        // What never happens is not tested, however many seeds there are.
        coverage.into_inner().unwrap().assert_complete(coverage::EXPECTED);
    }
}

#[test]
fn the_hub_alone_does_what_its_model_says() {
    let failed = Mutex::new(Vec::new());
    // A panic tells what was called before it.
    let check = |seed| {
        let is_fine = catch_unwind(|| hub::run(seed)).is_ok();
        if !is_fine {
            failed.lock().unwrap().push(seed);
        }
        is_fine
    };
    if let Some(seed) = number_of("FANWIRE_SIM_SEED") {
        check(seed);
    } else {
        for_seeds(number_of("FANWIRE_SIM_COUNT").unwrap_or(HUB_COUNT), check);
    }
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "to see it again: FANWIRE_SIM_SEED={} cargo test --test sim the_hub",
        failed[0]
    );
}

#[test]
fn a_seed_gives_the_same_story_each_time() {
    for seed in 0..20 {
        let (setup, steps) = plan(seed);
        let tell = || run::run(&setup, &steps).to_string();
        assert_eq!(tell(), tell(), "seed {seed}");
    }
}

/// Every kind of fault that is planted into what was recorded is found, nearly always: sometimes
/// it makes a story that could have been.
#[test]
fn planted_faults_are_found() {
    const PLANTS: usize = 30;
    let plants = Mutex::new(Fault::ALL.map(|fault| (fault, 0, Vec::new())));
    for_seeds(COUNT, |seed| {
        let (setup, steps) = plan(seed);
        let record = run::run(&setup, &steps);
        let mut plants = plants.lock().unwrap();
        for (fault, planted, missed) in
            plants.iter_mut().filter(|(_, planted, _)| *planted < PLANTS)
        {
            let mut record = record.clone();
            if fault.plant(&mut record, &mut Rng::with_seed(seed)) {
                *planted += 1;
                if judge::judge(&record).is_empty() {
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

#[test]
fn a_failing_run_is_made_smaller() {
    let (_, steps) = plan(1);
    let is_bad = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Open(_)));
    assert!(steps.len() > 10);
    assert_eq!(shrink::shrink(steps, is_bad).len(), 1);
}

/// What came of a run of `steps` at the Centrifugo door; `None` if the server panicked.
fn try_centrifugo(setup: &Setup, steps: &[centrifugo::Step]) -> Option<centrifugo::Record> {
    catch_unwind(AssertUnwindSafe(|| centrifugo::run(setup, steps))).ok()
}

fn centrifugo_findings(record: Option<&centrifugo::Record>) -> Vec<String> {
    record.map_or_else(|| vec!["the server panicked".to_owned()], centrifugo::judge)
}

/// Everything that helps to find the fault of a seed of the Centrifugo door.
fn tell_centrifugo(seed: u64) -> String {
    let (setup, steps) = centrifugo::plan(seed);
    let fails = |steps: &[centrifugo::Step]| {
        !centrifugo_findings(try_centrifugo(&setup, steps).as_ref()).is_empty()
    };
    let steps = shrink::shrink(steps, fails);
    let record = try_centrifugo(&setup, &steps);
    format!(
        "seed {seed}: {:#?}\n{setup:?}\n{}{}\
         to see it again: FANWIRE_SIM_SEED={seed} cargo test --test sim at_the_centrifugo_door\n",
        centrifugo_findings(record.as_ref()),
        record::show_steps(&steps),
        record.map(|record| record.to_string()).unwrap_or_default(),
    )
}

#[test]
fn every_seed_keeps_the_contract_at_the_centrifugo_door() {
    let (failed, coverage) = (Mutex::new(Vec::new()), Mutex::new(Coverage::default()));
    let check = |seed| {
        let (setup, steps) = centrifugo::plan(seed);
        let record = try_centrifugo(&setup, &steps);
        if let Some(record) = record.filter(|one| centrifugo_findings(Some(one)).is_empty()) {
            coverage.lock().unwrap().count(centrifugo::things(&record));
            return true;
        }
        failed.lock().unwrap().push(seed);
        false
    };
    if let Some(seed) = number_of("FANWIRE_SIM_SEED") {
        check(seed);
    } else {
        for_seeds(number_of("FANWIRE_SIM_COUNT").unwrap_or(CENTRIFUGO_COUNT), check);
    }
    let failed = failed.into_inner().unwrap();
    let first = failed.iter().min().map(|seed| tell_centrifugo(*seed));
    assert!(failed.is_empty(), "{}seeds {failed:?}", first.unwrap_or_default());
    if number_of("FANWIRE_SIM_SEED").is_none() {
        coverage.into_inner().unwrap().assert_complete(centrifugo::EXPECTED);
    }
}

#[test]
fn a_seed_of_the_centrifugo_door_gives_the_same_story_each_time() {
    for seed in 0..20 {
        let (setup, steps) = centrifugo::plan(seed);
        let tell = || centrifugo::run(&setup, &steps).to_string();
        assert_eq!(tell(), tell(), "seed {seed}");
    }
}

/// What the judge of the door must see in what was recorded.
#[test]
fn planted_faults_of_the_centrifugo_door_are_found() {
    const PLANTS: usize = 30;
    let plants = Mutex::new(centrifugo::Fault::ALL.map(|fault| (fault, 0, Vec::new())));
    for_seeds(CENTRIFUGO_COUNT, |seed| {
        let (setup, steps) = centrifugo::plan(seed);
        let record = centrifugo::run(&setup, &steps);
        let mut plants = plants.lock().unwrap();
        for (fault, planted, missed) in
            plants.iter_mut().filter(|(_, planted, _)| *planted < PLANTS)
        {
            let mut record = record.clone();
            if fault.plant(&mut record) {
                *planted += 1;
                if centrifugo::judge(&record).is_empty() {
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
