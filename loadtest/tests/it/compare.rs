//! `compare` over servers whose differences are known.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{PROGRAM, Scratch, Served, records};

/// Runs `compare` in two short rounds; what it printed, its JSON, and its page's record.
fn compare(name: &str, arguments: &[&str]) -> (Output, Value, String) {
    let [json, page] = ["json", "html"].map(|kind| Scratch::new(&format!("compare-{name}.{kind}")));
    let output = Command::new(PROGRAM)
        .args(["compare", "--rounds", "2", "--json", json.path(), "--html", page.path()])
        .args(arguments)
        .output()
        .expect("the tester starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(json.0.exists(), "{errors}");
    let record = serde_json::from_str(&json.text()).expect("JSON");
    let page = page.text();
    assert_eq!(records(&page), record);
    (output, record, page)
}

fn started(name: &str, options: &str) -> String {
    format!("{name}={PROGRAM} bare {options}")
}

#[test]
fn scenarios_are_compared_with_ratios_to_the_first() {
    let running = Served::bare(&[]);
    let (output, record, page) = compare(
        "scenarios",
        &[
            "--server",
            &started("one", ""),
            "--target",
            &format!("two={}@{}", running.url, running.id()),
            "--scenario",
            "storm --topics 2 --subscribers 5 --drain 3s",
            "--scenario",
            "rooms --rooms 2 --members 3 --interval 20ms --duration 300ms",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{record:#}");
    assert_eq!(record["servers"], serde_json::json!(["one", "two"]));
    assert_eq!(record["runs"].as_array().expect("runs").len(), 8);
    let text = String::from_utf8(output.stdout).expect("text");
    for case in record["cases"].as_array().expect("cases") {
        assert_eq!(case["baseline"], "one");
        let figures = case["figures"].as_array().expect("figures");
        let deliveries = figures.iter().find(|figure| figure["pointer"] == "/deliveries");
        let cells = &deliveries.expect("both count them")["cells"];
        assert_eq!(cells[0]["ratio"], Value::Null, "nothing is divided by itself");
        for cell in [&cells[0], &cells[1]] {
            assert_eq!(cell["rounds"].as_array().expect("rounds").len(), 2);
            assert!(cell["value"]["min"].as_f64() <= cell["value"]["max"].as_f64());
        }
        assert!(cells[1]["ratio"]["median"].as_f64().expect("a ratio") > 0.0);
        assert!(
            text.contains(&format!("`{}`, x = ratio to one", case["title"].as_str().unwrap_or("")))
        );
    }
    // A storm delivers the same number everywhere.
    assert!(text.contains("| deliveries | 60 | 60, x 1.00 |"), "{text}");
    assert!(page.contains("<td>60, x 1.00</td>"), "{page}");
    assert!(page.contains("<svg") && page.contains("No faults"));
}

#[test]
fn shapes_are_divided_by_the_bare_loop_that_they_allow() {
    let other = started("other", "--join");
    let arguments =
        ["--server", &other, "--shapes", "w16", "--duration", "400ms", "--warmup", "50ms"];
    // A busy machine may not bring 1,000 subscribers everything in time.
    let whole = (0..5).map(|_| compare("shapes", &arguments)).find(|(output, ..)| {
        let errors = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() || errors.contains("FAULT: "), "{errors}");
        output.status.success()
    });
    let (output, record, _) = whole.expect("one of five is whole");
    assert_eq!(record["servers"], serde_json::json!(["bare", "bare-join", "other"]));
    assert_eq!(record["cases"][0]["baseline"], "bare-join");
    let text = String::from_utf8(output.stdout).expect("text");
    let row = text.lines().find(|line| line.starts_with("| 1 x 1,000 x 128 B, window 16 |"));
    assert!(row.is_some_and(|row| row.matches(", x ").count() == 1), "{text}");
}

#[test]
fn a_fault_of_one_server_is_told_and_fails_the_comparison() {
    let (output, record, page) = compare(
        "faults",
        &[
            "--server",
            &started("whole", ""),
            "--server",
            &started("lossy", "--fault drop=7"),
            "--server",
            "absent=false",
            "--scenario",
            "storm --topics 2 --subscribers 5 --drain 1s",
        ],
    );
    assert_eq!(output.status.code(), Some(1), "{record:#}");
    let text = String::from_utf8(output.stdout).expect("text");
    for told in ["FAULT: lossy, storm", "lost", "FAULT: absent, storm"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(!text.contains("FAULT: whole"), "{text}");
    assert!(page.contains("lossy, storm"));
}

#[test]
fn a_comparison_of_one_is_refused() {
    let output = Command::new(PROGRAM)
        .args(["compare", "--scenario", "storm", "--server", &started("one", "")])
        .output()
        .expect("the tester starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at least two servers"));
}
