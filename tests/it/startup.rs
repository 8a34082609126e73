//! Starting and ending: start-up lines, exit codes, sources of the configuration, signals.

use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;

use crate::harness::{Process, Server, eventually, fanwire};

/// Runs `serve` with a configuration that must be refused; gives exit code and standard error.
fn refused(config: &str) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fanwire.toml");
    fs::write(&path, config).unwrap();
    let command = fanwire(&["serve", "--config", path.to_str().unwrap()]);
    let (code, stdout, stderr) = Process::start(command).finish();
    assert_eq!(stdout, "", "nothing is served");
    (code, stderr)
}

fn names_line(stderr: &str, line: usize) -> bool {
    let forms = [format!("line {line}"), format!(":{line}:")];
    forms.iter().any(|form| stderr.contains(form))
}

#[test]
fn start_up_lines_name_the_real_ports() {
    let server = Server::start("");
    assert_ne!(server.addr.port(), server.admin.port());
    assert_eq!(server.post("/topics/a", "x").status, 200);
    assert_eq!(server.admin_get("/health/live").status, 200);
}

#[test]
fn the_tour_follows_with_commands_for_the_real_port() {
    let mut server = Server::start("");
    let address = server.addr.to_string();
    loop {
        let line = server.process.line();
        if line.contains(&address) && line.contains("/topics/") {
            return;
        }
    }
}

#[test]
fn flags_alone_are_enough() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let server = Server::run(fanwire(&args), TempDir::new().unwrap());
    assert_eq!(server.publish("a", "x").offset, 1);
}

#[test]
fn without_a_command_it_serves_and_the_environment_sets_it_up() {
    let mut command = fanwire(&[]);
    command
        .env("FANWIRE_LISTEN", "127.0.0.1:0")
        .env("FANWIRE_ADMIN_LISTEN", "127.0.0.1:0")
        .env("FANWIRE_LIMITS__MESSAGE_BYTES_MAX", "10");
    let server = Server::run(command, TempDir::new().unwrap());
    assert_eq!(server.post("/topics/a", "0123456789").status, 200);
    assert_eq!(server.post("/topics/a", "0123456789+").status, 413);
}

#[test]
fn flags_beat_the_environment_and_the_environment_beats_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fanwire.toml");
    let file = "listen = \"192.0.2.1:1\"\nadmin_listen = \"192.0.2.1:1\"\n";
    fs::write(&path, file).unwrap();
    let mut command = fanwire(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("FANWIRE_CONFIG", &path)
        .env("FANWIRE_LISTEN", "192.0.2.2:1")
        .env("FANWIRE_ADMIN_LISTEN", "127.0.0.1:0");
    let server = Server::run(command, folder);
    assert_eq!(server.admin_get("/health/ready").status, 200);
}

#[test]
fn an_unknown_variable_of_the_environment_is_a_warning() {
    let mut command = fanwire(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("FANWIRE_ADMIN_LISTEN", "127.0.0.1:0")
        .env("FANWIRE_PORT_8080_TCP", "tcp://192.0.2.1:8080");
    let server = Server::run(command, TempDir::new().unwrap());
    assert_eq!(server.admin_get("/health/ready").status, 200);
    eventually("the warning", || {
        let stderr = server.process.stderr();
        stderr.contains("FANWIRE_PORT_8080_TCP").then_some(())
    });
}

#[test]
fn a_taken_port_is_exit_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let command = fanwire(&["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    let (code, stdout, stderr) = Process::start(command).finish();
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stdout, "");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn a_second_server_does_not_share_the_port_of_the_first() {
    let first = Server::start("");
    let address = first.addr.to_string();
    let command = fanwire(&["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    let (code, _, stderr) = Process::start(command).finish();
    assert_eq!(code, Some(1), "{stderr}");
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once_with_their_lines() {
    let config = "listen = \"127.0.0.1:0\"\n\
        lisden = \"127.0.0.1:0\"\n\
        workers = \"many\"\n\
        [limits]\n\
        ping_interval = \"soon\"\n\
        message_bytes_maximum = 1\n";
    let (code, stderr) = refused(config);
    assert_eq!(code, Some(78), "{stderr}");
    for (line, word) in
        [(2, "lisden"), (3, "workers"), (5, "ping_interval"), (6, "message_bytes_maximum")]
    {
        assert!(stderr.contains(word), "{word}: {stderr}");
        assert!(names_line(&stderr, line), "line {line}: {stderr}");
    }
}

#[test]
fn configurations_that_cannot_work_are_exit_78() {
    for config in [
        "listen = ",
        "listen = \"nowhere\"",
        "[limits]\nrequest_head_bytes_max = 8191",
        "[limits]\noutbox_bytes_max = 131072",
        "[limits]\ntopic_name_bytes_max = 256",
        "[[topic]]\nmatch = \"*\"\ndelivery = \"eventually\"",
        "[auth]\nanonymous = \"some\"",
        "admin_listen = \"0.0.0.0:0\"",
    ] {
        let listen = "listen = \"127.0.0.1:0\"\n";
        let config = if config.starts_with("listen") {
            config.to_owned()
        } else {
            format!("{listen}{config}")
        };
        let (code, stderr) = refused(&config);
        assert_eq!(code, Some(78), "{config}: {stderr}");
        assert!(!stderr.is_empty(), "{config}");
    }
}

#[test]
fn a_missing_configuration_file_is_exit_78() {
    let command = fanwire(&["serve", "--config", "/nonexistent/fanwire.toml"]);
    let (code, _, stderr) = Process::start(command).finish();
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("/nonexistent/fanwire.toml"), "{stderr}");
}

#[test]
fn usage_errors_are_exit_2() {
    for args in [
        &["serve", "--nonsense"][..],
        &["frobnicate"],
        &["pub"],
        &["sub"],
        &["serve", "--workers", "many"],
    ] {
        let (code, _, stderr) = Process::start(fanwire(args)).finish();
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
    }
}

#[test]
fn an_idle_server_ends_with_0_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start("");
        server.process.signal(signal);
        assert_eq!(server.process.exit_code(), Some(0), "{signal}");
    }
}
