//! S16: what strangers send does not write into the log.

use serde_json::Value;

use crate::harness::{CLOSE, FIN, Request, Server, TEXT, close_payload, frame};

/// Asks with escapes, line ends and megabytes wherever text is taken.
fn ask(server: &Server) {
    let long = "x".repeat(1_000_000);
    for request in [
        Request::get("/topics/a%0Ab%0D%0A2026-01-01T00:00:00.000Z%20INFO%20forged"),
        Request::get("/topics/%1B%5B2J%1B%5B31mred"),
        Request::get("/topics/a?since=%1B%5B31m%0A%0Aforged"),
        Request::get("/topics/a?%0Aforged=1&%E2%80%AE=2"),
        Request::get("/topics/a/history?limit=%0Aforged"),
        Request::get("/nowhere/%0Aforged"),
        Request::get("/topics/a").header("User-Agent", "\u{1b}[31mred\u{7f}"),
        Request::get("/topics/a").header("User-Agent", "a\rforged"),
        Request::get("/topics/a").header("Authorization", "Bearer \u{9b}31m"),
        Request::get("/topics/a").header("Accept", "text/\u{e9}\u{202e}"),
        Request::get("/topics/a").header("Origin", "http://\u{85}"),
        Request::handshake("/topics/a").replace("Sec-WebSocket-Version", "\u{85}"),
        Request::post("/topics/a", "x").header("Idempotency-Key", &"\u{85}".repeat(100)),
        Request::get("/topics/a").header("User-Agent", &long),
        Request::get(&format!("/topics/{long}")),
    ] {
        let mut wire = server.wire();
        // A head that is too long may be refused before all of it is sent.
        wire.try_send(&request.to_bytes());
        wire.head();
    }
    let mut socket = server.websocket("/topics/a");
    socket.send(CLOSE, &close_payload(4000, "\u{1b}[31m\nforged"));
    socket.drain();
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(&frame(FIN | TEXT, b"\n\xFF"));
    socket.drain();
}

/// What is logged at the most verbose level, once the server has ended.
fn log(format: &str) -> String {
    let config = format!("[log]\nlevel = \"trace\"\nformat = \"{format}\"\n");
    let mut server = Server::start(&config);
    ask(&server);
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), Some(0));
    server.process.stderr()
}

fn has_time(text: &str) -> bool {
    let shape = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    text.chars().take(24).map(shape).eq("0000-00-00T00:00:00.000Z".chars())
}

#[test]
fn a_line_of_the_log_stays_one_line() {
    let text = log("text");
    assert!(text.lines().count() > 10, "{text}");
    for line in text.lines() {
        assert!(has_time(line), "{line:?}");
        assert!(
            !line.contains(|letter: char| letter.is_control() || letter == '\u{202e}'),
            "{line:?}"
        );
        assert!(line.len() < 8192, "{} bytes", line.len());
    }
    let json = log("json");
    for line in json.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        assert!(has_time(object["time"].as_str().unwrap()), "{line:?}");
        assert!(!line.contains(|letter: char| letter.is_control()), "{line:?}");
    }
}
