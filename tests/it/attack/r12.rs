//! R12: descriptors used up.

use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Server, Wire, fanwire, figure, with_files};

/// A server that may open 256 descriptors.
fn start_with_few_descriptors(connections_max: &str) -> Server {
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let serve = fanwire(&args);
    let mut command = with_files(256, &serve);
    command.env("FANWIRE_LIMITS__CONNECTIONS_MAX", connections_max);
    Server::run(command, TempDir::new().unwrap())
}

#[test]
fn a_server_without_descriptors_keeps_its_sessions_and_recovers() {
    // 0 keeps some descriptors back; the other takes more connections than there are descriptors.
    for connections_max in ["0", "10000"] {
        let server = start_with_few_descriptors(connections_max);
        let mut session = server.websocket("/topics/a");
        let crowd: Vec<Wire> = (0..400).map(|_| server.wire()).collect();
        for round in ["one", "two", "three"] {
            session.text(round);
            assert_eq!(session.next_text(), round);
        }
        drop(crowd);
        server.await_metric("fanwire_connections", &[("door", "http")], 0);
        assert_eq!(server.get("/topics/a/history").status, 200);
    }
}

/// Pause of the accept loop when no descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn without_descriptors_the_accept_loop_waits() {
    let server = start_with_few_descriptors("10000");
    let mut session = server.websocket("/topics/a");
    let begun = Instant::now();
    let crowd: Vec<Wire> = (0..400).map(|_| server.wire()).collect();
    let ticks = server.process.cpu_ticks();
    let mut round_trips = 0;
    while begun.elapsed() < 20 * PAUSE {
        session.text("still here");
        assert_eq!(session.next_text(), "still here");
        round_trips += 1;
        // The pace of the session.
        thread::sleep(Duration::from_millis(10));
    }
    let (ticks, starved) = (server.process.cpu_ticks() - ticks, begun.elapsed());
    drop(crowd);
    let recovered = Instant::now();
    assert_eq!(server.get("/topics/a/history").status, 200);
    figure("R12", format_args!("{ticks} ticks of CPU in {starved:?}, {round_trips} round trips"));
    figure("R12", format_args!("{:?} to the next answer", recovered.elapsed()));
    // Asked for only now: a new connection would have found no descriptor.
    let paused = server.metric("fanwire_accept_pauses_total", &[]);
    let workers = thread::available_parallelism().map_or(1, usize::from) as u128;
    let possible = workers * (begun.elapsed().as_millis() / PAUSE.as_millis() + 2);
    assert!((1..=possible).contains(&u128::from(paused)), "{paused} pauses in {starved:?}");
    assert!(u128::from(ticks) <= starved.as_millis() / 20, "half a core: {ticks} in {starved:?}");
}
