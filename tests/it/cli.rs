//! The command line as a client and as a tool.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{BINARY, CutProxy, Process, Server, fanwire};
use crate::invariant::{Checker, Position};

/// A client command for `server`.
fn client(server: &Server, args: &[&str]) -> Process {
    let mut command = fanwire(args);
    command.env("FANWIRE_URL", format!("http://{}", server.addr));
    Process::start(command)
}

fn await_subscribers(server: &Server, count: u64) {
    server.await_metric("fanwire_subscriptions", &[], count);
}

/// The next publication that `sub --json` prints; control objects may stand between.
fn next_publication(process: &mut Process) -> Value {
    loop {
        let object: Value = serde_json::from_str(&process.line()).unwrap();
        if object.get("data").is_some() {
            return object;
        }
    }
}

#[test]
fn pub_publishes_its_argument() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a%2Fb%20c");
    let (code, _, stderr) = client(&server, &["pub", "a/b c", "hello"]).finish();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(subscriber.next_text(), "hello");
}

#[test]
fn pub_takes_the_server_from_the_command_line_too() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let url = format!("http://{}", server.addr);
    let (code, _, stderr) = Process::start(fanwire(&["pub", "a", "x", "--url", &url])).finish();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(subscriber.next_text(), "x");
}

#[test]
fn pub_publishes_standard_input_as_one() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let mut process = client(&server, &["pub", "a"]);
    process.feed(b"two\nlines\n");
    let (code, _, stderr) = process.finish();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(subscriber.message().payload, b"two\nlines\n");
}

#[test]
fn pub_publishes_binary_input_as_binary() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let mut process = client(&server, &["pub", "a"]);
    process.feed(&[0, 0xFF, 0xFE]);
    assert_eq!(process.finish().0, Some(0));
    let got = subscriber.message();
    assert_eq!((got.opcode, got.payload), (BINARY, vec![0, 0xFF, 0xFE]));
}

#[test]
fn pub_lines_publishes_each_line() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let mut process = client(&server, &["pub", "a", "--lines"]);
    process.feed(b"one\ntwo\n\nlast without end");
    assert_eq!(process.finish().0, Some(0));
    for line in ["one", "two"] {
        assert_eq!(subscriber.next_text(), line);
    }
    // Whether an empty line is a publication is for the command to say; the last line always is.
    while subscriber.next_text() != "last without end" {}
}

#[test]
fn pub_without_a_server_is_exit_1() {
    let args = ["pub", "a", "x", "--url", "http://127.0.0.1:1"];
    let (code, _, stderr) = Process::start(fanwire(&args)).finish();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
}

#[test]
fn pub_that_is_refused_is_exit_1_and_says_why() {
    let server = Server::start("[auth]\nanonymous = \"none\"\n");
    let (code, _, stderr) = client(&server, &["pub", "a", "x"]).finish();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("token_required"), "{stderr}");
}

#[test]
fn sub_prints_publications() {
    let server = Server::start("");
    let mut process = client(&server, &["sub", "a"]);
    await_subscribers(&server, 1);
    for text in ["one", "two"] {
        server.publish("a", text);
        assert!(process.line().contains(text));
    }
}

#[test]
fn sub_takes_several_topics() {
    let server = Server::start("");
    let mut process = client(&server, &["sub", "a", "b"]);
    await_subscribers(&server, 2);
    for topic in ["a", "b"] {
        server.publish(topic, "text");
        assert!(process.line().contains("text"));
    }
}

#[test]
fn sub_json_prints_publication_objects() {
    let server = Server::start("");
    let mut process = client(&server, &["sub", "a", "--json"]);
    await_subscribers(&server, 1);
    let position = server.publish("a", "two\nlines");
    let object = next_publication(&mut process);
    assert_eq!(object["data"], "two\nlines");
    assert_eq!(Position::of(&object), position);
}

#[test]
fn sub_since_prints_what_was_missed() {
    let server = Server::start("");
    let first = server.publish("a", "one");
    server.publish("a", "two");
    let mut process = client(&server, &["sub", "a", "--since", &first.to_string()]);
    assert!(process.line().contains("two"));
}

#[test]
fn sub_since_with_several_topics_is_a_usage_error() {
    let (code, _, stderr) = Process::start(fanwire(&["sub", "a", "b", "--since", "e:1"])).finish();
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn sub_ends_with_0_when_nobody_reads_it() {
    let server = Server::start("");
    let mut process = client(&server, &["sub", "a"]);
    await_subscribers(&server, 1);
    server.publish("a", "read");
    process.line();
    process.close_stdout();
    let code = loop {
        server.publish("a", "unread");
        if server.metric("fanwire_subscriptions", &[]) == 0 {
            break process.exit_code();
        }
    };
    assert_eq!(code, Some(0), "{}", process.stderr());
}

#[test]
fn sub_reconnects_and_recovers_what_it_missed() {
    let server = Server::start("");
    let proxy = CutProxy::to(server.addr);
    let mut command = fanwire(&["sub", "a", "--json"]);
    command.env("FANWIRE_URL", format!("http://{}", proxy.addr));
    let mut process = Process::start(command);
    await_subscribers(&server, 1);
    let mut checker = Checker::default();
    let mut top = Position { offset: 0, ..server.publish("a", "0") };
    checker.starts(("sub", "a"), &top);
    for cut in 0..2 {
        while checker.top(("sub", "a")) < 1 + cut * 6 {
            read(&mut checker, &mut process);
        }
        proxy.cut();
        for _ in 0..6 {
            top = server.publish("a", "missed or live");
        }
    }
    while checker.top(("sub", "a")) < top.offset {
        read(&mut checker, &mut process);
    }
}

fn read(checker: &mut Checker, process: &mut Process) {
    let object = next_publication(process);
    let payload = object["data"].as_str().unwrap();
    checker.delivered(("sub", "a"), &Position::of(&object), payload).unwrap();
}

/// Runs a command about the configuration `text`.
fn with_config(text: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fanwire.toml");
    fs::write(&path, text).unwrap();
    let mut command = fanwire(args);
    command.env("FANWIRE_CONFIG", &path);
    Process::start(command).finish()
}

#[test]
fn the_default_configuration_is_valid_and_has_every_key() {
    let (code, text, _) = Process::start(fanwire(&["config", "default"])).finish();
    assert_eq!(code, Some(0));
    for key in ["message_bytes_max", "allowed_origins", "history_ttl", "meta_ttl", "window"] {
        assert!(text.contains(key), "{key}");
    }
    let port = |text: &str, port| text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
    let free_ports = port(&port(&text, 8080), 8081);
    let (code, stdout, stderr) = with_config(&free_ports, &["check"]);
    // 1 would be a fault of this machine, 78 one of the file.
    assert!(matches!(code, Some(0 | 1)), "{code:?}: {stdout}{stderr}");
}

#[test]
fn check_names_what_is_wrong_with_a_configuration() {
    let (code, stdout, stderr) = with_config("workerz = 1\n", &["check"]);
    assert_eq!(code, Some(78));
    assert!((stdout + &stderr).contains("workerz"));
}

#[test]
fn config_print_shows_what_is_in_force_but_no_secrets() {
    let secret = "a-secret-that-must-not-show-0123456789";
    let text = format!(
        "admin_password = \"{secret}\"\n[limits]\nfragments_max = 4321\n\
         [auth]\napi_keys = [\"{secret}\"]\n"
    );
    let (code, stdout, stderr) = with_config(&text, &["config", "print"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("4321"), "{stdout}");
    assert!(stdout.contains("message_bytes_max = 65536"), "{stdout}");
    assert!(!(stdout + &stderr).contains(secret));
}
