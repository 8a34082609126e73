//! SIGTERM: what was accepted is delivered, everybody is told, the process ends with 0.

use std::net::TcpStream;
use std::thread;

use crate::harness::{CLOSE, Request, Server, WebSocket, Wire, eventually};
use crate::invariant::{Checker, Position};

#[test]
fn what_was_acknowledged_under_load_is_delivered_before_the_close() {
    let mut server = Server::start_with("[drain]\nwindow = \"500ms\"\n", &["--workers", "2"]);
    let mut sockets: Vec<_> = (0..8).map(|_| server.websocket("/topics/a?format=json")).collect();
    let mut checker = Checker::default();
    for (index, socket) in sockets.iter_mut().enumerate() {
        let start = Position::of(&socket.json()["subscribed"]);
        checker.starts((&index.to_string(), "a"), &start);
    }
    let acknowledged = thread::scope(|scope| {
        let server = &server;
        let publishers =
            ["x", "y"].map(|name| scope.spawn(move || post_until_refused(server, name)));
        eventually("publishing is under way", || {
            (server.metric("fanwire_publications_total", &[]) > 200).then_some(())
        });
        server.process.signal("TERM");
        publishers.map(|publisher| publisher.join().unwrap()).concat()
    });
    for (position, payload) in &acknowledged {
        checker.acknowledged("a", position, payload).unwrap();
    }
    for (index, socket) in sockets.iter_mut().enumerate() {
        read_to_draining(&mut checker, &index.to_string(), socket);
    }
    checker.finish().unwrap();
    assert_eq!(server.process.exit_code(), Some(0));
}

/// Posts over one connection until the server refuses; gives what was acknowledged.
fn post_until_refused(server: &Server, name: &str) -> Vec<(Position, String)> {
    let (mut wire, mut acknowledged) = (server.wire(), Vec::new());
    for number in 0.. {
        let payload = format!("{name}{number}");
        let response = wire.request(&Request::post("/topics/a", &payload));
        if response.status != 200 {
            response.assert_refused(503, "draining");
            break;
        }
        acknowledged.push((Position::of(&response.json()), payload));
    }
    acknowledged
}

fn read_to_draining(checker: &mut Checker, subscriber: &str, socket: &mut WebSocket) {
    let (frames, close) = socket.drain();
    assert_eq!(close, [&1012_u16.to_be_bytes()[..], b"draining"].concat());
    for frame in frames {
        let object: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
        let payload = object["data"].as_str().unwrap();
        let position = Position::of(&object);
        checker.delivered((subscriber, "a"), &position, payload).unwrap();
    }
}

#[test]
fn requests_on_live_connections_get_503_and_the_connection_closes() {
    let server = Server::start("[drain]\nwindow = \"1h\"\n");
    let _sessions: Vec<_> = (0..5).map(|_| server.websocket("/topics/a")).collect();
    let requests = [
        Request::get("/topics/a/history"),
        Request::post("/topics/a", "x"),
        Request::handshake("/topics/a"),
        Request::sse("/topics/a"),
    ];
    let mut wires = requests.each_ref().map(|_| server.wire());
    for wire in &mut wires {
        assert_eq!(wire.request(&Request::get("/topics/a/history")).status, 200);
    }
    server.begin_drain();
    for (wire, request) in wires.iter_mut().zip(&requests) {
        let response = wire.request(request);
        response.assert_refused(503, "draining");
        let connection = response.header("connection").unwrap_or_default();
        assert!(connection.eq_ignore_ascii_case("close"), "{connection}");
        assert!(response.header("retry-after").is_some());
        assert_eq!(wire.rest(), b"");
    }
}

#[test]
fn a_draining_server_is_live_but_not_ready_and_takes_no_connections() {
    let server = Server::start("[drain]\nwindow = \"1h\"\n");
    let _sessions: Vec<_> = (0..5).map(|_| server.websocket("/topics/a")).collect();
    server.begin_drain();
    assert_eq!(server.admin_get("/health/live").status, 200);
    assert_eq!(server.admin_get("/health/ready").status, 503);
    eventually("the port is closed", || TcpStream::connect(server.addr).err());
}

#[test]
fn sessions_are_closed_over_the_window_and_counted() {
    let server = Server::start("[drain]\nwindow = \"1h\"\n");
    let sessions: Vec<_> = (0..100).map(|_| server.websocket("/topics/a")).collect();
    server.begin_drain();
    let left = server.metric("fanwire_connections", &[("door", "plain")]);
    assert!(left > 0, "not all at once");
    drop(sessions);
}

#[test]
fn streams_end_with_their_last_publication() {
    let mut server = Server::start("[drain]\nwindow = \"200ms\"\n");
    let mut lines = server.ndjson("/topics/a");
    let mut events = server.sse("/topics/a");
    server.publish("a", "last");
    server.process.signal("TERM");
    lines.json();
    assert_eq!(lines.json()["data"], "last");
    while lines.line().is_some() {}
    assert_eq!(events.event().data.as_deref(), Some("last"));
    while events.try_block().is_some() {}
    assert_eq!(server.process.exit_code(), Some(0));
}

#[test]
fn what_a_publisher_sent_before_its_close_is_a_prefix_for_everybody() {
    let mut server = Server::start("[drain]\nwindow = \"200ms\"\n");
    let mut subscriber = server.websocket("/topics/a");
    let mut publisher = server.websocket("/topics/a?echo=false");
    for number in 0..500 {
        publisher.text(&number.to_string());
    }
    server.process.signal("TERM");
    let (frames, close) = subscriber.drain();
    assert_eq!(close[..2], 1012_u16.to_be_bytes());
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(frame.payload, number.to_string().as_bytes());
    }
    publisher.assert_closed(1012, "draining");
    assert_eq!(server.process.exit_code(), Some(0));
}

#[test]
fn a_session_that_does_not_answer_its_close_does_not_hold_the_process() {
    let mut server = Server::start("[drain]\nwindow = \"100ms\"\n");
    let _silent: Vec<_> = (0..3).map(|_| server.websocket("/topics/a")).collect();
    let _idle = server.wire();
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), Some(0));
}

#[test]
fn a_single_session_leaves_at_once_however_long_the_window() {
    let mut server = Server::start("[drain]\nwindow = \"1h\"\n");
    let mut session = server.websocket("/topics/a");
    server.process.signal("TERM");
    session.assert_closed(1012, "draining");
    drop(session);
    assert_eq!(server.process.exit_code(), Some(0));
}

#[test]
fn an_idle_connection_is_told_while_sessions_leave() {
    let server = Server::start_with("[drain]\nwindow = \"1h\"\n", &["--workers", "1"]);
    let mut sessions = [(); 3].map(|()| server.websocket("/topics/a"));
    let mut idle = server.wire();
    let history = Request::get("/topics/a/history");
    assert_eq!(idle.request(&history).status, 200);
    server.process.signal("TERM");
    // The first leaves at once, the others much later.
    assert_eq!(sessions[0].frame().opcode, CLOSE);
    idle.request(&history).assert_refused(503, "draining");
    assert_eq!(idle.rest(), b"");
}

#[test]
fn connections_that_wait_to_be_accepted_are_all_answered() {
    let mut server = Server::start("[drain]\nwindow = \"2s\"\n");
    // Stopped, the server accepts nothing: the kernel holds them all.
    server.process.signal("STOP");
    let request = Request::get("/topics/a/history");
    let connect = |_| {
        let mut wire = server.wire();
        wire.send(&request.to_bytes());
        wire
    };
    let wires: Vec<Wire> = (0..400).map(connect).collect();
    server.process.signal("TERM");
    server.process.signal("CONT");
    for mut wire in wires {
        let answer = wire.response();
        if answer.status != 200 {
            answer.assert_refused(503, "draining");
        }
    }
    assert_eq!(server.process.exit_code(), Some(0));
}
