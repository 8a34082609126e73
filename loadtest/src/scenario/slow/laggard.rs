//! Subscribers that read too slowly, each on a socket of its own.
//!
//! A server that gives one up cannot tell it: the close frame stands behind all that was not read.
//! So the time is taken from the kernel's list of sockets, where the server's end changes its
//! state, and the code from what is read at the very end.

use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    door::{Cutter, Door as _, Found, Plain, Role},
    http::{Answer, Target},
};

/// What the kernel may keep for one: little, or a phase would end before the server notices.
const RECEIVE_BUFFER_LEN: usize = 16 * 1024;
const READ_LEN: usize = 64 * 1024;
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all together may read what is left.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(10);
/// One that gets nothing for so long at the end is still connected.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(300);
/// `TCP_ESTABLISHED` in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// How much a slow one reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Stopped,
    PerSecond(u64),
}

impl Reading {
    pub(super) fn text(self) -> String {
        match self {
            Self::Stopped => "that read nothing".to_owned(),
            Self::PerSecond(rate) => format!("that read {rate} B/s"),
        }
    }

    /// Bytes that may have been read `elapsed` after the opening.
    fn allowance(self, elapsed: Duration) -> u64 {
        match self {
            Self::Stopped => 0,
            Self::PerSecond(rate) => {
                let read = u128::from(rate) * elapsed.as_millis() / 1_000;
                u64::try_from(read).unwrap_or(u64::MAX)
            }
        }
    }
}

/// What became of one.
#[derive(Debug)]
pub(super) struct Ending {
    /// The server's words, or the kernel's; `None` = still connected.
    pub(super) reason: Option<String>,
    pub(super) after: Option<Duration>,
}

#[derive(Debug)]
struct Laggard {
    stream: TcpStream,
    cutter: Cutter,
    read: u64,
    ending: Ending,
}

#[derive(Debug)]
pub(super) struct Laggards {
    server: SocketAddr,
    reading: Reading,
    opened: Instant,
    all: Vec<Laggard>,
}

impl Laggards {
    /// Opens one for each topic.
    ///
    /// # Errors
    /// The server refuses one.
    pub(super) fn open(
        target: &Target,
        topics: impl Iterator<Item = String>,
        reading: Reading,
    ) -> anyhow::Result<Self> {
        let all = topics
            .map(|topic| Laggard::open(target, &topic).context("opening a slow subscriber"))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { server: target.address, reading, opened: Instant::now(), all })
    }

    /// Lets each read what it may by now, and looks whether the server has given it up.
    pub(super) fn look(&mut self) {
        let elapsed = self.opened.elapsed();
        let allowance = self.reading.allowance(elapsed);
        let mut buf = vec![0; READ_LEN];
        for laggard in &mut self.all {
            laggard.read_up_to(allowance, &mut buf);
        }
        let states = states(&fs::read_to_string("/proc/net/tcp").unwrap_or_default(), self.server);
        for laggard in self.all.iter_mut().filter(|laggard| laggard.ending.after.is_none()) {
            let port = laggard.stream.local_addr().map_or(0, |address| address.port());
            let given_up = states.get(&port).is_none_or(|state| state != ESTABLISHED);
            if laggard.ending.reason.is_some() || (given_up && !states.is_empty()) {
                laggard.ending.after = Some(elapsed);
            }
        }
    }

    /// Reads all that is left, as fast as it comes.
    pub(super) fn end(mut self) -> Vec<Ending> {
        self.look();
        let deadline = Instant::now() + LAST_WORDS_TIMEOUT;
        let mut buf = vec![0; READ_LEN];
        let mut progress = Instant::now();
        while progress.elapsed() < LAST_WORDS_PAUSE && Instant::now() < deadline {
            let before: u64 = self.all.iter().map(|laggard| laggard.read).sum();
            for laggard in &mut self.all {
                laggard.read_up_to(u64::MAX, &mut buf);
            }
            if self.all.iter().map(|laggard| laggard.read).sum::<u64>() > before {
                progress = Instant::now();
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.all.into_iter().map(|laggard| laggard.ending).collect()
    }
}

impl Laggard {
    fn open(target: &Target, topic: &str) -> anyhow::Result<Self> {
        let address = target.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN)?;
        socket.connect_timeout(&address.into(), OPENING_TIMEOUT)?;
        socket.set_read_timeout(Some(OPENING_TIMEOUT))?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(&Plain.open(&target.site, topic, Role::Subscriber).request)?;
        let mut answer = Vec::new();
        // Byte by byte: what follows is read slowly.
        while Plain.answer(&answer) == Answer::Partial {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if let Answer::Refused(reason) = Plain.answer(&answer) {
            bail!(reason);
        }
        stream.set_nonblocking(true)?;
        let ending = Ending { reason: None, after: None };
        Ok(Self { stream, cutter: Cutter::default(), read: 0, ending })
    }

    /// Reads until `allowance` bytes have been read in all, or nothing is there.
    fn read_up_to(&mut self, allowance: u64, buf: &mut [u8]) {
        while self.ending.reason.is_none() && self.read < allowance {
            let room = usize::try_from(allowance - self.read).unwrap_or(usize::MAX).min(buf.len());
            match self.stream.read(&mut buf[..room]) {
                Ok(0) => self.ending.reason = Some("ended without a close frame".to_owned()),
                Ok(len) => {
                    self.read += len as u64;
                    self.ending.reason =
                        self.cutter.feed(&Plain, &buf[..len], &mut |_: Found<'_>| ()).err();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.ending.reason = Some(error.to_string()),
            }
        }
    }
}

/// State of each of `server`'s connections, by the other side's port; empty if the table does not
/// show them, because the server is elsewhere or IPv6.
fn states(table: &str, server: SocketAddr) -> HashMap<u16, String> {
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            (port(local)? == server.port()).then_some((port(remote)?, state.to_owned()))
        })
        // Listeners.
        .filter(|(port, _)| *port != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_grows_with_time_and_never_for_the_stopped() {
        let second = Duration::from_secs(1);
        assert_eq!(Reading::PerSecond(1_000).allowance(second * 3), 3_000);
        assert_eq!(Reading::PerSecond(1_000).allowance(Duration::from_millis(100)), 100);
        assert_eq!(Reading::Stopped.allowance(second), 0);
    }

    #[test]
    fn the_servers_ends_are_found_in_the_kernels_list() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
             1: 0100007F:1F90 0100007F:C350 01 00000000:00000000\n\
             2: 0100007F:1F90 0100007F:C351 04 00000000:00000000\n\
             3: 0100007F:C350 0100007F:1F90 01 00000000:00000000\n";
        let states = states(table, "127.0.0.1:8080".parse().expect("an address"));
        assert_eq!(states.len(), 2);
        assert_eq!(states[&50_000], ESTABLISHED);
        assert_ne!(states[&50_001], ESTABLISHED);
    }
}
