//! The fault proxy through real sockets: what it breaks, and that it breaks nothing else.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::harness::PROGRAM;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy that runs until this is dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(to: SocketAddr, options: &str) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["proxy", "--listen", "127.0.0.1:0", "--to", &to.to_string()])
            .args(options.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tester starts");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("stdout is text");
        let address = line.strip_prefix("listening http://").expect("the listening line").trim();
        Self { child, address: address.parse().expect("an address") }
    }

    fn echo(options: &str) -> Self {
        Self::start(echo_server(), options)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the proxy listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends back what it gets, and ends when its client does. Lives as long as the test's process.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut from, mut to) = (&stream, &stream);
                std::io::copy(&mut from, &mut to).ok();
            });
        }
    });
    address
}

fn letters(len: usize) -> Vec<u8> {
    // The period is prime: no shift by a power of two goes unnoticed.
    (0..len).map(|index| u8::try_from(index % 251).expect("small")).collect()
}

/// Sends `bytes` and a clean end, and returns all that comes back.
fn round_trip(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let stream = proxy.connect();
    let mut back = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(bytes).expect("the proxy reads");
            stream.shutdown(std::net::Shutdown::Write).expect("open");
        });
        (&stream).read_to_end(&mut back).expect("a clean end");
    });
    back
}

fn check_intact(options: &str, len: usize) {
    let proxy = Proxy::echo(options);
    let bytes = letters(len);
    for _ in 0..2 {
        let back = round_trip(&proxy, &bytes);
        assert!(back == bytes, "{options}: {} of {len} bytes", back.len());
    }
}

#[test]
fn bytes_and_ends_pass_unchanged_whatever_slows_them() {
    check_intact("", 0);
    check_intact("", 5_000_000);
    check_intact("--delay 20ms --jitter 20ms", 3_000_000);
    check_intact("--rate 200KB", 60_000);
    check_intact("--split", 200_000);
    check_intact("--split --delay 5ms --jitter 5ms --rate 1mbit --seed 9", 20_000);
    check_intact("--stall-after 1h --close-after 1h --reset-after 100MB", 100_000);
}

#[test]
fn many_connections_do_not_mix() {
    let proxy = Proxy::echo("--delay 5ms --jitter 5ms --split");
    thread::scope(|scope| {
        for client in 0..20 {
            let proxy = &proxy;
            scope.spawn(move || {
                let bytes = vec![client; 5_000];
                assert!(round_trip(proxy, &bytes) == bytes, "client {client}");
            });
        }
    });
}

#[test]
fn a_round_trip_takes_the_delay_twice() {
    let proxy = Proxy::echo("--delay 40ms --jitter 5ms");
    let mut stream = proxy.connect();
    let mut back = [0; 5];
    for _ in 0..5 {
        let begun = Instant::now();
        stream.write_all(b"hello").expect("open");
        stream.read_exact(&mut back).expect("an echo");
        assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_delay_keeps_many_messages_on_their_way_at_once() {
    let proxy = Proxy::echo("--delay 100ms");
    let mut stream = proxy.connect();
    let begun = Instant::now();
    for _ in 0..50 {
        stream.write_all(&[7; 100]).expect("open");
        thread::sleep(Duration::from_millis(1));
    }
    stream.read_exact(&mut [0; 5_000]).expect("an echo");
    // One after the other they would take ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_rate_is_never_exceeded() {
    let proxy = Proxy::echo("--rate 100KB");
    let bytes = letters(60_000);
    let mut stream = proxy.connect();
    let begun = Instant::now();
    stream.write_all(&bytes).expect("socket buffers take it");
    let (mut got, mut buf) = (0, [0; 4_096]);
    while got < bytes.len() {
        got += stream.read(&mut buf).expect("open");
        let allowed = 100 * begun.elapsed().as_millis() + 3_000 + 100;
        assert!(got as u128 <= allowed, "{got} bytes after {:?}", begun.elapsed());
    }
}

#[test]
fn a_reader_that_stops_holds_the_sender_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let proxy = Proxy::start(listener.local_addr().expect("bound"), "");
    let mut stream = proxy.connect();
    let (_unread, _) = listener.accept().expect("the proxy connects");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let mut sent = 0;
    let piece = vec![0; 65_536];
    while let Ok(len) = stream.write(&piece) {
        sent += len;
        assert!(sent < 100_000_000, "somebody buffers without bound");
    }
}

/// Reads to the end of the stream: how many bytes, and how it ended.
fn read_out(mut stream: TcpStream) -> (usize, Result<(), ErrorKind>) {
    let mut back = Vec::new();
    let result = stream.read_to_end(&mut back).map(drop).map_err(|error| error.kind());
    (back.len(), result)
}

#[test]
fn connections_break_as_told() {
    for (options, end) in [
        ("--reset-after 10KB", Err(ErrorKind::ConnectionReset)),
        ("--close-after 10KB", Ok(())),
        ("--reset-after 10KB --split --delay 2ms", Err(ErrorKind::ConnectionReset)),
    ] {
        let proxy = Proxy::echo(options);
        let mut stream = proxy.connect();
        // The break may come before all is written.
        stream.write_all(&letters(30_000)).ok();
        let (len, result) = read_out(stream);
        assert_eq!(result, end, "{options}");
        assert!(len <= 10_000, "{options}: {len}");
    }
    for (options, end) in [
        ("--reset-after 100ms", Err(ErrorKind::ConnectionReset)),
        ("--close-after 100ms", Ok(())),
        ("--stall-after 0B --reset-after 100ms", Err(ErrorKind::ConnectionReset)),
        ("--stall-after 10ms --close-after 100ms", Ok(())),
    ] {
        let proxy = Proxy::echo(options);
        let begun = Instant::now();
        let (len, result) = read_out(proxy.connect());
        assert_eq!((len, result), (0, end), "{options}");
        assert!(begun.elapsed() >= Duration::from_millis(100), "{options}");
    }
}

#[test]
fn a_stall_stops_everything_and_ends_nothing() {
    let proxy = Proxy::echo("--stall-after 5KB");
    let mut stream = proxy.connect();
    stream.write_all(&letters(5_000)).expect("open");
    stream.write_all(&letters(5_000)).expect("open");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let (len, result) = read_out(stream);
    assert_eq!(result, Err(ErrorKind::WouldBlock));
    assert!(len <= 5_000, "{len}");
    assert!(proxy.connect().write_all(b"others may still come").is_ok());
}

#[test]
fn the_servers_reset_and_its_absence_reach_the_client_as_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let proxy = Proxy::start(address, "--delay 30ms");
    let begun = Instant::now();
    let stream = proxy.connect();
    let (server, _) = listener.accept().expect("the proxy connects");
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(server);
    assert_eq!(read_out(stream).1, Err(ErrorKind::ConnectionReset));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    drop(listener);
    let mut stream = TcpStream::connect(proxy.address).expect("the proxy listens");
    let result = stream.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(result, Err(ErrorKind::ConnectionReset));
}

#[test]
fn it_ends_on_either_signal_also_while_it_forwards() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut proxy = Proxy::echo("--delay 10s");
        proxy.connect().write_all(b"on its way").expect("open");
        let pid = i32::try_from(proxy.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
        assert_eq!(proxy.child.wait().expect("a child").code(), Some(0), "{signal}");
    }
}

#[test]
fn other_machines_are_refused() {
    let output = Command::new(PROGRAM).args(["proxy", "--to", "192.0.2.1:80"]).output();
    let output = output.expect("the tester starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--i-own-this-host"));
}
