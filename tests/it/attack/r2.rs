//! R2: peers that vanish without a word (a cable is cut: nothing arrives, in either direction).

use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};

use crate::harness::{Server, WebSocket, eventually, figure};

const COUNT: usize = 10;

/// Runs `test` with a network of its own: this thread's, and that of every process it starts.
fn with_own_network(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let has_tools = run("nft", &["--version"]).is_ok() && run("ip", &["-V"]).is_ok();
            assert!(has_tools, "R2 needs `nft` and `ip`: apt-get install nftables iproute2");
            let own = unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string());
            let up = own.and_then(|()| run("ip", &["link", "set", "lo", "up"]));
            assert!(up.is_ok(), "R2 needs root, for a network namespace: {up:?}");
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(stderr) }
}

/// Drops every packet between the sockets and the server's port. Other connections may be given
/// the same ports of this side.
fn cut(sockets: &[WebSocket], server: u16) {
    let ports: Vec<_> = sockets.iter().map(|socket| socket.wire.port().to_string()).collect();
    let ports = format!("{{ {} }}", ports.join(", "));
    let rules = format!(
        "add table inet cut; add chain inet cut in {{ type filter hook input priority 0; }}; \
         add rule inet cut in tcp sport {ports} tcp dport {server} drop; \
         add rule inet cut in tcp sport {server} tcp dport {ports} drop"
    );
    run("nft", &[&rules]).expect("nftables takes the rules");
}

/// Opens connections beside one that stays, cuts them off, does `then`, and waits until the server
/// has noticed: they are counted with `reason`, and their descriptors are free.
fn check(config: &str, then: impl FnOnce(&Server), (code, reason): (&str, &str)) {
    let server = Server::start(config);
    let mut stays = server.websocket("/topics/a");
    let fd_count = server.fd_count();
    let gone: Vec<_> = (0..COUNT).map(|_| server.websocket("/topics/a")).collect();
    cut(&gone, server.addr.port());
    let begun = Instant::now();
    then(&server);
    let labels = [("code", code), ("reason", reason)];
    let closes = || server.metric("fanwire_closes_total", &labels);
    eventually("all are found out", || {
        // Whoever is there answers pings.
        stays.text("still here");
        assert_eq!(stays.message().payload.len(), 10);
        (closes() == COUNT as u64).then_some(())
    });
    figure(
        "R2",
        format_args!("{COUNT} vanished peers found after {:?} ({reason})", begun.elapsed()),
    );
    server.await_metric("fanwire_subscriptions", &[], 1);
    eventually("descriptors are given back", || (server.fd_count() <= fd_count).then_some(()));
}

#[test]
fn silent_peers_that_vanish_are_found_by_the_ping() {
    with_own_network(|| {
        let config = "[limits]\nping_interval = \"400ms\"\npong_timeout = \"400ms\"\n";
        check(config, |_| {}, ("1011", "pong_timeout"));
    });
}

#[test]
fn peers_that_vanish_are_found_by_what_they_do_not_acknowledge() {
    with_own_network(|| {
        let config = "[limits]\nping_interval = \"1h\"\nwrite_timeout = \"1s\"\n";
        check(config, |server| drop(server.publish("a", "0123456789")), ("1013", "write_timeout"));
    });
}
