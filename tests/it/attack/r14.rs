//! R14: the wall clock jumps. Only what is shown as a time of day may follow it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Server, fanwire, figure};

const HOUR: i64 = 3600;

/// Builds the library that shifts the clock of whoever loads it.
fn build_shift(folder: &Path) -> String {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, include_str!("clock.c")).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output();
    let output = built.expect("R14 needs a C compiler, `cc`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library.to_str().unwrap().to_owned()
}

#[test]
fn jumps_of_the_wall_clock_disconnect_nobody_and_age_nothing() {
    let folder = TempDir::new().unwrap();
    let (library, shift) = (build_shift(folder.path()), folder.path().join("shift"));
    fs::write(&shift, 0_i64.to_ne_bytes()).unwrap();
    let mut command =
        fanwire(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command
        .env("LD_PRELOAD", library)
        .env("FANWIRE_TEST_CLOCK", &shift)
        .env("FANWIRE_LIMITS__PING_INTERVAL", "\"1m\"")
        .env("FANWIRE_LIMITS__HTTP_IDLE_TIMEOUT", "\"1m\"");
    let clock = OpenOptions::new().write(true).open(&shift).unwrap();
    let mut server = Server::run(command, folder);
    let mut socket = server.websocket("/topics/a?format=json");
    socket.json();
    let mut stream = server.ndjson("/topics/a");
    stream.json();
    let mut kept = server.wire();
    let mut times = Vec::new();
    for (number, seconds) in (1_u64..).zip([0, HOUR, -HOUR, 0]) {
        clock.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
        assert_eq!(server.publish("a", "x").offset, number);
        let publication = socket.json();
        assert_eq!(publication["offset"], number);
        assert_eq!(stream.json()["offset"], number);
        times.push(publication["time"].as_i64().unwrap() / 1000);
        let history = kept.request(&crate::harness::Request::get("/topics/a/history"));
        let kept = history.json()["publications"].as_array().unwrap().len();
        assert_eq!(kept as u64, number, "nothing has aged");
    }
    // The test would prove nothing if the clock had not jumped.
    let jumps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (jump, expected) in jumps.iter().zip([HOUR, -2 * HOUR, HOUR]) {
        assert!((jump - expected).abs() < 60, "{jumps:?}");
    }
    let closes = server.metric("fanwire_closes_total", &[]);
    figure("R14", format_args!("{closes} disconnects in jumps of {jumps:?} seconds"));
    assert_eq!(closes, 0);
    drop((socket, stream));
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), Some(0));
}
