//! Every door that `bare` serves: whole where it is whole, and one delivery in 10,000 that is lost,
//! repeated, swapped, changed or sent astray is found, each as what it is.

use serde_json::Value;

use crate::harness::{Served, delivers, faults};

const DOORS: [&str; 3] = ["plain", "sse", "centrifugo"];
const KINDS: [&str; 7] =
    ["lost", "duplicated", "reordered", "misrouted", "corrupted", "closed", "unacknowledged"];
/// A fault in so many deliveries.
const ONE_IN: u64 = 10_000;

fn check_whole(bare: &[&str], arguments: &str) {
    let served = Served::bare(bare);
    for door in DOORS {
        let line = format!("fanout --door {door} {arguments} --warmup 50ms --drain 5s");
        let (output, report) = served.tester_until(&line, delivers);
        assert_eq!(output.status.code(), Some(0), "{door}, {arguments}: {report:#}");
        assert!(KINDS.iter().all(|kind| faults(&report, kind) == 0), "{door}: {report:#}");
        assert!(delivers(&report), "{door}, {arguments}: {report:#}");
    }
}

#[test]
fn a_whole_stream_is_whole_through_every_door() {
    check_whole(&[], "--topics 7 --subscribers 3 --window 5");
    check_whole(&["--join"], "--topics 2 --subscribers 20 --window 64");
    check_whole(&["--join"], "--subscribers 20 --window 4 --payload 100000");
    check_whole(&[], "--topics 3 --subscribers 20 --rate 1000 --payload 32");
}

#[test]
fn idle_connections_of_every_door_get_the_message() {
    let served = Served::bare(&[]);
    for door in DOORS {
        let (output, report) = served.tester(&format!(
            "idle --door {door} --connections 50 --topics 7 --hold 50ms --messages 1"
        ));
        assert_eq!(output.status.code(), Some(0), "{door}: {report:#}");
        assert_eq!(report["messaged"], 50, "{door}");
    }
}

/// A run long enough for faults.
fn faulty(door: &str, fault: &str) -> Value {
    let served = Served::bare(&["--fault", &format!("{fault}={ONE_IN}")]);
    let line = format!(
        "fanout --door {door} --topics 2 --subscribers 100 --window 8 --warmup 0s --drain 2s"
    );
    let (output, report) = served
        .tester_until(&line, |report| report["deliveries"].as_u64().expect("a count") > 2 * ONE_IN);
    assert_eq!(output.status.code(), Some(1), "{door}, {fault}: {report:#}");
    report
}

/// Checks that `fault` is found through every door, as one of `kinds` and as nothing else.
fn check_found(fault: &str, kinds: &[&str]) {
    for door in DOORS {
        let report = faulty(door, fault);
        assert!(faults(&report, kinds[0]) > 0, "{door}, {fault}: {report:#}");
        for kind in KINDS.iter().filter(|kind| !kinds.contains(kind)) {
            assert_eq!(faults(&report, kind), 0, "{door}, {fault}: {kind}: {report:#}");
        }
    }
}

#[test]
fn one_lost_delivery_in_10_000_is_found() {
    check_found("drop", &["lost"]);
}

#[test]
fn one_repeated_delivery_in_10_000_is_found() {
    check_found("duplicate", &["duplicated"]);
}

#[test]
fn one_swapped_delivery_in_10_000_is_found() {
    // What is held back when the run ends never comes.
    check_found("reorder", &["reordered", "lost"]);
}

#[test]
fn one_changed_delivery_in_10_000_is_found() {
    // What should have come did not.
    check_found("corrupt", &["corrupted", "lost"]);
}

#[test]
fn one_stray_delivery_in_10_000_is_found() {
    check_found("misroute", &["misrouted"]);
}
