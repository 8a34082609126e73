//! R13: a memory cap of 256 MiB with slow readers (R1) and a storm of publications (R11) at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use tempfile::TempDir;

use super::alone;
use crate::harness::{
    FIN, Request, Server, Stop, TEXT, WebSocket, Wire, eventually, eventually_within, fanwire,
    figure, frame,
};

const CAP: u64 = 256 << 20;
/// What a server makes of that by itself.
const BUDGET: u64 = CAP / 5 * 4;
const SLOW_COUNT: usize = 30;

/// A control group with a memory limit, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Version 2, or else 1; `None` where the system lets us make neither.
    fn new() -> Option<Self> {
        let name = format!("fanwire-test-{}", process::id());
        [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
            .into_iter()
            .find_map(|(root, limit)| {
                let folder = Path::new(root).join(&name);
                fs::create_dir(&folder).ok()?;
                let group = Self(folder);
                // A folder that is no group has no such file: writing may not make one.
                let is_group = group.0.join(limit).exists();
                (is_group && fs::write(group.0.join(limit), CAP.to_string()).is_ok())
                    .then_some(group)
            })
    }

    fn read(&self, files: [&str; 2]) -> String {
        let texts = files.iter().filter_map(|file| fs::read_to_string(self.0.join(file)).ok());
        texts.collect()
    }

    fn peak(&self) -> u64 {
        let text = self.read(["memory.peak", "memory.max_usage_in_bytes"]);
        text.trim().parse().expect("bytes")
    }

    fn oom_kills(&self) -> u64 {
        let text = self.read(["memory.events", "memory.oom_control"]);
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("it is counted").parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It stays if a process is left in it; there is nobody to tell.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A server in `group`, which finds its budget itself; without a group it is told the same budget.
fn start(group: Option<&Group>) -> Server {
    let config = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
        [limits]\nmessage_bytes_max = 200000\noutbox_bytes_max = 16000000\nwrite_timeout = \"1m\"\n\
        [[topic]]\nmatch = \"*\"\nhistory_size = 100000000\nhistory_bytes_max = 50000000\n";
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fanwire.toml");
    fs::write(&path, config).unwrap();
    let serve = fanwire(&["serve", "--config", path.to_str().unwrap()]);
    let mut command = Command::new("sh");
    let enter = match group {
        Some(_) => "echo $$ > \"$GROUP/cgroup.procs\" && exec \"$0\" \"$@\"",
        None => "exec \"$0\" \"$@\"",
    };
    command.args(["-c", enter]).arg(serve.get_program()).args(serve.get_args());
    match group {
        Some(group) => command.env("GROUP", &group.0),
        None => command.env("FANWIRE_LIMITS__MEMORY_BYTES_MAX", BUDGET.to_string()),
    };
    Server::run(command, folder)
}

/// Posts to the slow readers' topics, one after the other, as fast as it is let.
fn post(server: &Server, stop: &Stop, body: &[u8]) {
    let mut wire = server.wire();
    for number in 0.. {
        if stop.is_set() {
            return;
        }
        let topic = number % SLOW_COUNT;
        let answer = wire.request(&Request::post(&format!("/topics/slow{topic}"), body));
        if answer.status != 200 {
            let (_, code) = answer.refusal();
            assert!(["memory_limit", "publisher_overrun"].contains(&code.as_str()), "{code}");
        }
        if answer.header("connection") == Some("close") {
            wire = server.wire();
        }
    }
}

/// Publishes short messages, which cost much more than their bytes; comes back when it is closed.
fn flood(server: &Server, stop: &Stop) {
    let burst = frame(FIN | TEXT, b"short").repeat(10_000);
    while !stop.is_set() {
        let mut wire = server.wire();
        if wire.answer(&Request::handshake("/topics/flood?echo=false")).status == 101 {
            while !stop.is_set() && wire.try_send(&burst) {}
        }
    }
}

fn shed(server: &Server, what: &str) -> u64 {
    server.metric("fanwire_memory_shed_total", &[("what", what)])
}

#[test]
fn under_a_memory_cap_the_server_lets_go_in_time() {
    let _alone = alone();
    let group = Group::new();
    let server = start(group.as_ref());
    assert_eq!(server.metric("fanwire_memory_limit_bytes", &[]), BUDGET);
    let mut good = server.websocket("/topics/good");
    let slow = |number| {
        let handshake = Request::handshake(&format!("/topics/slow{number}"));
        WebSocket::open(Wire::connect_narrow(server.addr, 2048), &handshake)
    };
    let slow: Vec<_> = (0..SLOW_COUNT).map(slow).collect();
    let (stop, body) = (Stop::default(), vec![1; 200_000]);
    let mut peak = 0;
    thread::scope(|scope| {
        let _stop = stop.on_drop();
        (0..2).for_each(|_| drop(scope.spawn(|| post(&server, &stop, &body))));
        scope.spawn(|| flood(&server, &stop));
        let (mut wire, mut number) = (server.wire(), 0);
        eventually_within(6, "history and sessions are let go", || {
            peak = peak.max(server.process.resident_len());
            number += 1;
            let post = Request::post("/topics/good", number.to_string());
            if wire.request(&post).status == 200 {
                assert_eq!(good.next_text(), number.to_string(), "who reads is served on");
            }
            (shed(&server, "publications") > 100_000 && shed(&server, "sessions") > 3).then_some(())
        });
    });
    let [publications, sessions] = ["publications", "sessions"].map(|what| shed(&server, what));
    figure("R13", format_args!("let go of {publications} publications, {sessions} sessions"));
    if let Some(group) = &group {
        let (peak, kills) = (group.peak(), group.oom_kills());
        figure("R13", format_args!("{peak} bytes of {CAP} at most, {kills} OOM kills"));
        assert_eq!(kills, 0);
    } else {
        figure("R13", format_args!("no cgroup can be made here: RSS {peak} of {CAP} at most"));
        assert!(peak < CAP, "{peak}");
    }
    let closes = server.metric("fanwire_closes_total", &[("reason", "memory_limit")]);
    assert!(closes >= sessions, "{closes}: publishers were closed, too");
    drop(slow);
    eventually("there is room again", || {
        (server.post("/topics/good", "back").status == 200).then_some(())
    });
    assert_eq!(good.next_text(), "back");
}
