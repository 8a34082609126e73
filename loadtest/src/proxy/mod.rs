//! `proxy`: a bad network between a client and a server, for machines that have no `netem`.
//!
//! One thread forwards every connection through two lines that delay, throttle, split and break
//! what passes. It never changes, drops or reorders bytes of a connection: TCP does not either.

mod connection;
mod line;
mod server;
mod unit;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use mio::net::TcpListener;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use crate::{cli::duration, load::pool::raise_descriptor_limit, scenario::Verdict};
use connection::Breaks;
use line::{Pieces, Shape};
use server::{Plan, Server};
use unit::{After, Rate};

/// Options of `proxy`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen: SocketAddr,
    /// The server
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    to: SocketAddr,
    /// Allow addresses that are not on this machine's loopback
    #[arg(long)]
    i_own_this_host: bool,
    /// Every byte arrives so much later, in each direction
    #[arg(long, default_value = "0s", value_parser = duration)]
    delay: Duration,
    /// Random time on top of the delay, up to this; the order stays
    #[arg(long, default_value = "0s", value_parser = duration)]
    jitter: Duration,
    /// Bytes per second and direction of each connection: 64kbit, 1mbit, 100KB, 2MB
    #[arg(long, value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// Forward in writes of 1 to 7 bytes
    #[arg(long)]
    split: bool,
    /// Reset each connection after so many bytes in one direction (64KB), or a time (5s)
    #[arg(long, value_name = "AFTER", value_parser = After::parse)]
    reset_after: Option<After>,
    /// Close each connection cleanly after so many bytes, or a time
    #[arg(long, value_name = "AFTER", value_parser = After::parse)]
    close_after: Option<After>,
    /// Forward nothing more, and tell nobody, after so many bytes, or a time
    #[arg(long, value_name = "AFTER", value_parser = After::parse)]
    stall_after: Option<After>,
    /// What all randomness comes from
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Options {
    /// # Errors
    /// An address is one of a machine that nobody claimed to own.
    fn plan(&self) -> anyhow::Result<Plan> {
        for address in [self.listen, self.to] {
            if !address.ip().is_loopback() && !self.i_own_this_host {
                bail!("{address} is not this machine alone; if it is yours, add --i-own-this-host");
            }
        }
        Ok(Plan {
            to: self.to,
            shape: Shape {
                delay: self.delay,
                jitter: self.jitter,
                rate: self.rate,
                pieces: if self.split { Pieces::Split } else { Pieces::AsRead },
            },
            breaks: Breaks {
                reset: self.reset_after,
                close: self.close_after,
                stall: self.stall_after,
            },
            seed: self.seed,
        })
    }
}

/// Forwards until SIGTERM or SIGINT.
///
/// # Errors
/// The address is taken or not ours, or the poller fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    let plan = options.plan()?;
    raise_descriptor_limit(0)?;
    // Before the line is printed: who reads it may stop us at once.
    let mut stops = SigSet::empty();
    stops.add(Signal::SIGTERM);
    stops.add(Signal::SIGINT);
    stops.thread_block()?;
    let stops = SignalFd::with_flags(&stops, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("listening on {}", options.listen))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Server::new(listener, plan)?.serve(&stops)?;
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn plan(arguments: &str) -> anyhow::Result<Plan> {
        let line = format!("proxy {arguments}");
        Line::try_parse_from(line.split_whitespace())?.options.plan()
    }

    #[test]
    fn other_machines_are_refused_unless_claimed() {
        for other in ["--to 192.0.2.1:80", "--listen 0.0.0.0:0"] {
            let refused = plan(other).expect_err("not ours").to_string();
            assert!(refused.contains("--i-own-this-host"), "{refused}");
            assert!(plan(&format!("{other} --i-own-this-host")).is_ok());
        }
        assert!(plan("--to [::1]:80 --listen 127.0.0.9:0").is_ok());
    }

    #[test]
    fn wrong_units_are_usage_errors() {
        for bad in ["--rate 5", "--delay 50", "--reset-after 64", "--close-after soon"] {
            assert!(plan(bad).is_err(), "{bad}");
        }
    }
}
