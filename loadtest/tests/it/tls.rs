//! The tester and its bare loop over TLS: the same counts, and nobody trusted who should not be.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use crate::harness::{PROGRAM, Scratch, Served, delivers, faults};

/// A certificate for 127.0.0.1, and its key.
struct Certified {
    cert: Scratch,
    key: Scratch,
}

impl Certified {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        let [cert, key] = ["cert", "key"].map(|part| Scratch::new(&format!("{name}-{part}.pem")));
        fs::write(&cert.0, made.cert.pem()).expect("a temporary file");
        fs::write(&key.0, made.signing_key.serialize_pem()).expect("a temporary file");
        Self { cert, key }
    }

    fn bare(&self, options: &[&str]) -> Served {
        let tls = ["--tls-cert", self.cert.path(), "--tls-key", self.key.path()];
        let served = Served::bare(&[&tls, options].concat());
        assert!(served.url.starts_with("https://127.0.0.1:"), "{}", served.url);
        served
    }
}

const SHORT: &str = "--warmup 50ms --drain 5s";

#[test]
fn every_door_is_whole_over_tls() {
    let certified = Certified::new("doors");
    let served = certified.bare(&["--join"]);
    let trust = format!("--ca {}", certified.cert.path());
    for (door, shape) in [
        ("plain", "--topics 7 --subscribers 3 --window 5"),
        ("plain", "--subscribers 20 --window 4 --payload 100000"),
        ("plain", "--topics 3 --subscribers 20 --rate 1000"),
        ("sse", "--topics 2 --subscribers 20 --window 64"),
        ("centrifugo", "--topics 2 --subscribers 20 --window 64"),
    ] {
        let (output, report) =
            served.tester_until(&format!("fanout {trust} --door {door} {shape} {SHORT}"), delivers);
        assert_eq!(output.status.code(), Some(0), "{door} {shape}: {report:#}");
        assert!(delivers(&report), "{door} {shape}: {report:#}");
    }
    for scenario in [
        "idle --connections 20 --hold 50ms --messages 1",
        "rooms --rooms 5 --members 4 --interval 50ms --duration 300ms",
        "churn --population 20 --rate 100 --publish-rate 200 --duration 300ms --rest 50ms",
        "storm --topics 3 --subscribers 20 --drain 1s",
    ] {
        let (output, report) = served.tester(&format!("{scenario} {trust}"));
        assert_eq!(output.status.code(), Some(0), "{scenario}: {report:#}");
    }
}

#[test]
fn a_fault_is_found_over_tls_too() {
    let served = Certified::new("fault").bare(&["--fault", "drop=97"]);
    let line = format!("fanout --insecure --topics 2 --subscribers 5 --window 8 {SHORT}");
    let (output, report) = served.tester_until(&line, |report| faults(report, "lost") > 0);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "lost") > 0, "{report:#}");
}

#[test]
fn nobody_is_trusted_unless_named() {
    let (certified, other) = (Certified::new("named"), Certified::new("other"));
    let served = certified.bare(&[]);
    for (trust, told) in [
        (&[][..], "name the certificate to trust with --ca"),
        (&["--ca", other.cert.path()], "invalid peer certificate"),
        (&["--ca", certified.key.path()], "holds no certificate"),
    ] {
        let output = Command::new(PROGRAM)
            .args(["fanout", "--subscribers", "1", "--url", &served.url])
            .args(trust)
            .output()
            .expect("the tester starts");
        assert_eq!(output.status.code(), Some(1), "{trust:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(told), "{trust:?}: {errors}");
    }
}

#[test]
fn the_bare_loop_says_nothing_to_who_speaks_no_tls() {
    let served = Certified::new("plain").bare(&[]);
    let address = served.url.strip_prefix("https://").expect("checked");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /topics/a HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n").expect("open");
    let mut answer = Vec::new();
    // An alert at most, then the end.
    stream.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
