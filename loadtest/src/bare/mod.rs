//! The bare loop: what it costs to hand every subscriber its bytes, and nothing else.
//!
//! One thread, one `send` per publication and subscriber; with `--join` one per turn and
//! subscriber. It knows no history, no limits and only what the load tester sends, through any of
//! its doors: it is the denominator that makes figures of noisy machines comparable, not a server
//! to use.

mod connection;
mod door;
mod sabotage;
mod server;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
};

use clap::Args;
use mio::net::TcpListener;

pub(crate) use sabotage::Sabotage;

use crate::{load::pool::raise_descriptor_limit, scenario::Verdict, tls};
use server::Server;

/// Options of `bare`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Join the publications of one turn, and send them to each subscriber at once
    #[arg(long)]
    join: bool,
    /// Speak TLS, with these certificates: a file in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<String>,
    /// The key to `--tls-cert`: a file in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<String>,
    /// Make every Nth delivery a fault, to see the tester find it: drop=N, duplicate=N,
    /// reorder=N, corrupt=N, misroute=N
    #[arg(long = "fault", value_name = "KIND=N", hide = true, conflicts_with = "join")]
    sabotage: Option<Sabotage>,
}

/// How publications go out.
#[derive(Debug)]
enum Mode {
    /// Each at once, one `send` per subscriber.
    Each,
    /// Those of a turn together, one `send` per subscriber.
    Join,
    /// As [`Mode::Each`], with faults.
    Sabotaged(Sabotage),
}

/// Serves until it is killed.
///
/// # Errors
/// The port is taken, or the poller fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    raise_descriptor_limit(0)?;
    let mode = match options.sabotage {
        Some(sabotage) => Mode::Sabotaged(sabotage),
        None if options.join => Mode::Join,
        None => Mode::Each,
    };
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, options.port);
    let listener = TcpListener::bind(address.into())?;
    let mut stdout = io::stdout();
    let security = match options.tls_cert.as_ref().zip(options.tls_key.as_ref()) {
        Some((cert, key)) => Some(tls::server(cert, key)?),
        None => None,
    };
    let scheme = if security.is_some() { "https" } else { "http" };
    writeln!(stdout, "listening {scheme}://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Server::new(listener, mode, security)?.serve()
}
