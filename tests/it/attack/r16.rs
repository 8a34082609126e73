//! R16: signals twice, and those that mean nothing here.

use crate::harness::Server;

#[test]
fn a_second_signal_forces_the_end() {
    let mut server = Server::start("[drain]\nwindow = \"1h\"\n");
    let _sessions: Vec<_> = (0..5).map(|_| server.websocket("/topics/a")).collect();
    server.begin_drain();
    server.process.signal("TERM");
    server.process.exit_code();
}

#[test]
fn a_hangup_disturbs_nobody() {
    let mut server = Server::start("");
    let mut session = server.websocket("/topics/a");
    for number in 0..200 {
        if number % 20 == 0 {
            server.process.signal("HUP");
        }
        let text = number.to_string();
        session.text(&text);
        assert_eq!(session.next_text(), text);
    }
    assert_eq!(server.post("/topics/a", "x").status, 200);
    drop(session);
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), Some(0));
}
