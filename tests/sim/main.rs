//! The whole server under a clock of the test's own, driven by seeds: thousands of short lives of
//! sessions, publishers and slow readers, each judged by a simple model.
//!
//! Each kind of clients is a [`run::Cast`], which says what they do, and a [`seed::Play`], which
//! says what its seeds stand for and judges them; the world and all else is one for all.
//!
//! `FANWIRE_SIM_SEED=7 cargo test --test sim topics` runs one seed and tells its story;
//! `FANWIRE_SIM_COUNT=100000 cargo test --test sim` runs more of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod centrifugo;
mod client;
mod coverage;
mod hub;
#[path = "../invariant/mod.rs"]
mod invariant;
mod record;
mod run;
mod seed;
mod setup;
mod shrink;
mod topics;
mod wire;
mod world;

use std::panic::catch_unwind;

use centrifugo::Centrifugo;
use seed::Play;
use setup::Step;
use topics::Topics;

/// Seeds of the hub alone, which are cheaper.
const HUB_COUNT: u64 = 10_000;

#[test]
fn every_seed_keeps_the_contract_at_the_doors_of_topics() {
    seed::every_one_keeps_the_contract::<Topics>();
}

#[test]
fn every_seed_keeps_the_contract_at_the_centrifugo_door() {
    seed::every_one_keeps_the_contract::<Centrifugo>();
}

#[test]
fn a_seed_of_the_doors_of_topics_gives_the_same_story_each_time() {
    seed::each_gives_the_same_story_each_time::<Topics>();
}

#[test]
fn a_seed_of_the_centrifugo_door_gives_the_same_story_each_time() {
    seed::each_gives_the_same_story_each_time::<Centrifugo>();
}

#[test]
fn planted_faults_of_the_doors_of_topics_are_found() {
    seed::planted_faults_are_found::<Topics>();
}

#[test]
fn planted_faults_of_the_centrifugo_door_are_found() {
    seed::planted_faults_are_found::<Centrifugo>();
}

#[test]
fn the_hub_alone_does_what_its_model_says() {
    // A panic tells what was called before it.
    let failed = seed::failing(HUB_COUNT, |seed| catch_unwind(|| hub::run(seed)).is_ok());
    if let Some(first) = failed.first() {
        panic!("to see it again: FANWIRE_SIM_SEED={first} cargo test --test sim the_hub");
    }
}

#[test]
fn a_failing_run_is_made_smaller() {
    let (_, steps) = Topics::plan(1);
    let is_bad = |steps: &[_]| steps.iter().any(|step| matches!(step, Step::Act(_)));
    assert!(steps.len() > 10);
    assert_eq!(shrink::shrink(steps, is_bad).len(), 1);
}
