//! The tester against its own bare loop: whole where it is whole, and every planted fault found.

use std::{fs, process::Command};

use serde_json::Value;

use crate::harness::{PROGRAM, Scratch, Served, delivers, faults, records, tester};

const SHORT: &str = "--warmup 50ms --drain 5s";

fn check_whole(bare: &[&str], arguments: &str) {
    let line = format!("fanout {arguments} {SHORT} --subscribers 20");
    let (output, report) = Served::bare(bare).tester_until(&line, delivers);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {report:#}");
    for (fault, count) in report["faults"].as_object().expect("an object") {
        assert_eq!(count, 0, "{fault}, {arguments}");
    }
    assert!(delivers(&report), "{arguments}: {report:#}");
    assert!(report["latency_ms"]["p99"].as_f64().expect("a figure") > 0.0, "{arguments}");
}

#[test]
fn a_whole_stream_is_whole_whatever_the_shape() {
    check_whole(&[], "--topics 1 --window 1");
    check_whole(&[], "--topics 7 --window 5");
    check_whole(&["--join"], "--topics 2 --window 64");
    check_whole(&["--join"], "--topics 1 --window 4 --payload 100000");
    check_whole(&[], "--topics 3 --rate 1000");
    check_whole(&["--join"], "--topics 1 --rate 2000 --payload 32");
}

#[test]
fn what_a_stall_held_up_comes_at_once() {
    let shape = "fanout --subscribers 2 --rate 10 --stall 60s --warmup 0s --duration 300ms";
    let (output, report) = Served::bare(&[]).tester(shape);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    // 600 that were due, and 10 a second.
    let count = report["publications"].as_u64().expect("a count");
    assert!((600..700).contains(&count), "{report:#}");
    let refused = Command::new(PROGRAM)
        .args(["fanout", "--window", "1", "--stall", "1s", "--url", "ws://127.0.0.1:1"])
        .output()
        .expect("the tester starts");
    assert_eq!(refused.status.code(), Some(2), "a closed loop has nothing that is due");
}

#[test]
fn a_server_may_have_its_topics_elsewhere_and_send_publishers_their_own() {
    let bare = Served::bare(&[]);
    // Without the `?echo=false` of the usual path, publishers are subscribers, too.
    for (path, shape) in [
        ("/topics/room-{topic}?key=7", "fanout --topics 3 --subscribers 5 --rate 600"),
        ("/topics/all", "churn --population 9 --rest 100ms"),
    ] {
        let line = format!("{shape} --duration 300ms");
        let (output, report) = tester(&format!("{}{path}", bare.url), &line);
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        let notes = report["notes"].as_array().map_or("", |notes| notes[0].as_str().unwrap_or(""));
        assert!(shape.starts_with("churn") || notes.contains("what is their own"), "{report:#}");
    }
    // All topics in one place are not what was asked for.
    let line = "fanout --topics 2 --subscribers 2 --rate 100 --duration 300ms --drain 1s";
    let (output, report) = tester(&format!("{}/topics/all", bare.url), line);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "misrouted") > 0, "{report:#}");
}

#[test]
fn the_series_adds_up_to_the_run() {
    // A busy machine may let whole intervals pass.
    let (_, report) = Served::bare(&[]).tester_until(
        "fanout --subscribers 20 --window 2 --warmup 50ms",
        |report| {
            let series = report["series"].as_array().expect("an array");
            series.len() > 1 && series.iter().all(|sample| !sample["p99_ms"].is_null())
        },
    );
    let series = report["series"].as_array().expect("an array");
    assert!(series.len() > 1, "{series:?}");
    let figure = |sample: &Value, name: &str| sample[name].as_f64().expect("a figure");
    let (mut begun, mut sum) = (0.0, 0.0);
    for sample in series {
        let ended = figure(sample, "seconds");
        sum += figure(sample, "deliveries_per_second") * (ended - begun);
        begun = ended;
        assert!(figure(sample, "p99_ms") > 0.0 && figure(sample, "server_busy") >= 0.0);
        assert!(figure(sample, "server_rss_bytes") > 0.0);
    }
    assert!((sum - figure(&report, "deliveries")).abs() < 0.5, "{report:#}");
    assert!((begun - figure(&report, "seconds")).abs() < 1e-6);
}

#[test]
fn every_scenario_tells_its_run_over_time() {
    let served = Served::bare(&[]);
    for (scenario, figure) in [
        ("idle --connections 50 --hold 600ms --messages 1", "connections"),
        ("storm --topics 3 --subscribers 20 --drain 3s", "connections"),
        ("churn --population 20 --rest 300ms --duration 600ms", "p99_ms"),
        ("ramp --subscribers 3 --start 50 --rate-max 100 --step 300ms --p99 10s", "p99_ms"),
        ("rooms --rooms 5 --members 4 --interval 20ms --duration 600ms", "p99_ms"),
        ("slow --subscribers 10 --slow 20% --rate 200 --duration 600ms", "p99_ms"),
    ] {
        let (_, report) = served.tester(scenario);
        let series = report["series"].as_array().expect("an array");
        assert!(series.len() > 1, "{scenario}: {series:?}");
        let times = series.iter().map(|sample| sample["seconds"].as_f64().expect("a time"));
        assert!(times.is_sorted(), "{scenario}: {series:?}");
        let any = series.iter().any(|sample| sample[figure].as_f64().is_some_and(|x| x > 0.0));
        assert!(any, "{scenario}: {series:?}");
    }
}

#[test]
fn a_long_run_tells_a_log_how_far_it_is() {
    // A log gets a line every 5 s.
    let (output, _) =
        Served::bare(&[]).tester("churn --population 20 --rate 10 --rest 100ms --duration 5500ms");
    let errors = String::from_utf8_lossy(&output.stderr);
    let told = |line: &str| {
        ["measuring", "20 connected", "deliveries/s", "errors"]
            .iter()
            .all(|part| line.contains(part))
    };
    assert!(errors.lines().any(told), "{errors}");
}

#[test]
fn a_lost_publication_ends_a_run_that_can_only_wait_for_it() {
    let bare = Served::bare(&["--fault", "drop=10"]);
    let (output, report) = bare.tester(
        "fanout --topics 1 --subscribers 5 --window 1 --warmup 0s --duration 300ms --drain 100ms",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["faults"]["lost"], 1);
    assert_eq!(report["deliveries"], 9);
}

#[test]
fn idle_connections_are_held_and_each_gets_the_message() {
    let (output, report) =
        Served::bare(&[]).tester("idle --connections 50 --topics 7 --hold 50ms --messages 1");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["messaged"], 50);
    assert!(report["server"]["rss_after_bytes"].as_u64().expect("a size") > 0);
}

#[test]
fn a_ramp_keeps_to_its_bound_and_tells_every_step() {
    let (output, report) = Served::bare(&[])
        .tester("ramp --subscribers 3 --start 50 --rate-max 200 --step 500ms --p99 10s");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    // A busy machine may not reach the bound.
    assert!((1..=200).contains(&report["rate"].as_u64().expect("a rate")), "{report:#}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.lines().count(), report["steps"].as_array().expect("steps").len());
}

#[test]
fn a_ramp_over_a_server_that_loses_finds_no_rate() {
    let (output, report) = Served::bare(&["--fault", "drop=2"])
        .tester("ramp --subscribers 2 --start 2 --step 300ms --p99 10s");
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["limit"], "fault");
}

#[test]
fn slow_subscribers_are_findings_and_what_the_others_lose_is_a_fault() {
    let shape = "slow --subscribers 10 --slow 20% --rate 200";
    let p99 = |report: &Value| report["with_slow"]["latency_ms"]["p99"].as_f64().expect("a figure");
    let (output, report) = Served::bare(&[])
        .tester_until(&format!("{shape} --slow-rate 2KB/s"), |report| p99(report) > 0.0);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["slow"]["count"], &report["slow"]["closed"]), (&2.into(), &0.into()));
    assert!(p99(&report) > 0.0);
    let (output, report) = Served::bare(&["--fault", "drop=97"])
        .tester_until(shape, |report| faults(report, "lost") > 0);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "lost") > 0, "{report:#}");
}

#[test]
fn a_stopped_subscriber_is_closed_and_the_time_is_told() {
    let line = "slow --subscribers 2 --stopped --rate 200 --payload 500000";
    let closed = |report: &Value| report["slow"]["closed"] == 1;
    let (output, report) = Served::bare(&[]).tester_until(line, closed);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert!(closed(&report), "{report:#}");
    assert!(report["slow"]["closed_after_seconds_max"].as_f64().is_some(), "{report:#}");
}

#[test]
fn who_joins_and_leaves_gets_all_in_between() {
    let shape = "churn --population 20 --rate 100 --publish-rate 200 --rest 100ms";
    let moved = |report: &Value| {
        let more = |what: &str| report[what].as_u64().expect("a count") > 20;
        more("joined") && more("left")
    };
    let (output, report) = Served::bare(&[]).tester_until(shape, moved);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert!(moved(&report), "{report:#}");
    let (output, report) = Served::bare(&["--fault", "drop=97"])
        .tester_until(shape, |report| faults(report, "lost") > 0);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "lost") > 0, "{report:#}");
}

#[test]
fn a_storm_brings_all_back_and_finds_what_is_lost() {
    let shape = "storm --topics 3 --subscribers 20 --drain 3s";
    let (output, report) = Served::bare(&[]).tester(shape);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["deliveries"], 3 * 20 * (5 + 1), "the bare loop keeps no history");
    assert!(report["note"].as_str().expect("a note").contains("positions"), "{report:#}");
    let (output, report) = Served::bare(&["--fault", "drop=97"]).tester(shape);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
}

#[test]
fn rooms_hear_all_their_members_and_what_they_do_not_hear_is_found() {
    let shape = "rooms --rooms 5 --members 4 --interval 50ms --drain 3s";
    let messages = |report: &Value| report["messages"].as_u64().expect("a count");
    let (output, report) = Served::bare(&[]).tester_until(shape, |report| messages(report) > 20);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert!(messages(&report) > 20, "{report:#}");
    assert_eq!(report["deliveries"], 4 * messages(&report));
    let (output, report) = Served::bare(&["--fault", "misroute=97"])
        .tester_until(shape, |report| faults(report, "misrouted") > 0);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "misrouted") > 0, "{report:#}");
}

#[test]
fn usage_errors_exit_with_2() {
    for arguments in [["--window", "0"], ["--slo", "p95=5ms"]] {
        let output = Command::new(PROGRAM).arg("fanout").args(arguments).output();
        assert_eq!(output.expect("the tester starts").status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn an_objective_fails_the_run_that_breaks_it() {
    let shape = format!("fanout --topics 2 --subscribers 5 --window 8 {SHORT}");
    let bare = Served::bare(&[]);
    let (output, report) =
        bare.tester_until(&format!("{shape} --slo p99=10s,lost=0,rate=1"), delivers);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["slo"][0]["kept"], true);
    let (output, _) =
        bare.tester_until(&format!("{shape} --slo p99=1ns,rate=1000000000,lost=0"), delivers);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    for line in ["slo broken: p99: ", "slo broken: rate: "] {
        assert!(errors.contains(line), "{errors}");
    }
    assert!(!errors.contains("lost"), "{errors}");
}

#[test]
fn an_objective_bounds_the_faults_it_names_and_no_others() {
    for (fault, kinds) in [
        ("drop", &["lost"][..]),
        ("duplicate", &["duplicated"]),
        ("reorder", &["reordered", "lost"]),
        ("corrupt", &["corrupted", "lost"]),
        ("misroute", &["misrouted"]),
    ] {
        let faulty = Served::bare(&["--fault", &format!("{fault}=97")]);
        let check = |bound: &str, code: i32| {
            let bounds: Vec<String> = kinds.iter().map(|kind| format!("{kind}={bound}")).collect();
            let shape = "fanout --topics 2 --subscribers 5 --window 8 --warmup 50ms --drain 2s";
            let line = format!("{shape} --slo closed=0,{}", bounds.join(","));
            let (output, report) =
                faulty.tester_until(&line, |report| faults(report, kinds[0]) > 0);
            assert_eq!(output.status.code(), Some(code), "{line}: {report:#}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        check("1000000000", 0);
        let errors = check("0", 1);
        assert!(errors.contains(&format!("slo broken: {}: ", kinds[0])), "{errors}");
    }
}

#[test]
fn pages_hold_the_records_and_report_puts_them_side_by_side() {
    let [page, first, second, both] =
        ["page.html", "first.json", "second.json", "both.html"].map(Scratch::new);
    let bare = Served::bare(&[]);
    let shape = format!("fanout --subscribers 5 {SHORT} --html {}", page.path());
    let (_, fanout) = bare.tester_until(&shape, delivers);
    assert_eq!(records(&page.text())[0], fanout);
    fs::write(&first.0, fanout.to_string()).expect("a temporary file");
    let (_, idle) = bare.tester("idle --connections 5 --hold 50ms");
    fs::write(&second.0, idle.to_string()).expect("a temporary file");
    let output = Command::new(PROGRAM)
        .args(["report", first.path(), second.path(), "--html", both.path()])
        .output()
        .expect("the tester starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(records(&both.text()), serde_json::json!([fanout, idle]));
    let text = String::from_utf8(output.stdout).expect("text");
    for row in ["deliveries/s, wall", "connections/s", "latency p99, ms", "lost"] {
        assert!(text.lines().any(|line| line.starts_with(row)), "{row}: {text}");
    }
}

#[test]
fn report_refuses_what_is_no_record() {
    let file = Scratch::new("other.json");
    fs::write(&file.0, "[1, 2]").expect("a temporary file");
    let output = Command::new(PROGRAM).args(["report", file.path()]).output();
    let output = output.expect("the tester starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not the record of one run"));
}
