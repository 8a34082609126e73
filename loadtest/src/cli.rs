//! The command line.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::report::{RUNS_MAX, Slo};
use crate::{bare, door, http::Target, proxy, scenario, stamp::STAMP_LEN, tls::Trust};

/// No run is longer.
const DURATION_MAX: Duration = Duration::from_hours(1);
/// Bytes in flight of a closed loop, over all topics.
const IN_FLIGHT_LEN_MAX: u64 = 1 << 30;

/// Sizes WebSocket pub/sub servers honestly.
#[derive(Debug, Parser)]
#[command(name = "fanwire-loadtest", version, about)]
#[command(
    after_help = "Exit status: 0 all delivered, 1 faults, a broken bound or failure, 2 usage."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish to topics and count what every subscriber gets, and what that costs
    Fanout(Fanout),
    /// Hold subscribed connections that do nothing, and weigh them
    Idle(Idle),
    /// Find the highest rate of publications that the server keeps up with
    Ramp(scenario::ramp::Options),
    /// Let some subscribers read too slowly, and see what that costs the others
    Slow(scenario::slow::Options),
    /// Let connections join and leave around a constant population
    Churn(scenario::churn::Options),
    /// Connect all at once, cut all at once, and let all come back for what they missed
    Storm(scenario::storm::Options),
    /// Chat in many small rooms: every member sends, all of its room receive
    Rooms(scenario::rooms::Options),
    /// Serve a bare `send` loop: the price of the kernel, to divide others by
    Bare(bare::Options),
    /// Stand between clients and a server as a bad network: late, slow, in pieces, broken off
    Proxy(proxy::Options),
    /// Measure servers against each other in interleaved rounds, and print a table
    Compare(scenario::compare::Options),
    /// Put the records of runs side by side, with ratios to the first
    Report(Report),
}

/// Which server to measure, and what to tell about it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// The server: http://, ws://, https:// or wss://; with a path if its topics are elsewhere than
    /// the door expects them, as in `ws://localhost:9000/chat/{topic}`
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Trust this certificate, and those it signed: a file in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// Trust any certificate; on this machine's loopback only
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Allow a server that is not on this machine's loopback
    #[arg(long)]
    i_own_this_host: bool,
    /// The door that subscribers come through
    #[arg(long, value_enum, default_value_t = door::Name::Plain)]
    pub(crate) door: door::Name,
    /// Process of the server, to report its CPU and memory; may be repeated
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
    /// Write the report as JSON to this file; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<String>,
    /// Also write the report as a page with charts to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<String>,
    /// Fail unless these bounds hold, such as `p99=50ms,lost=0,rate=1000`: p50, p90, p99, p999, max
    /// (durations), lost, duplicated, reordered, corrupted, misrouted, closed, unacknowledged
    /// (counts), rate (least deliveries per second)
    #[arg(long, value_name = "BOUNDS")]
    pub(crate) slo: Option<Slo>,
}

impl Server {
    /// Refuses another door, for scenarios that speak only the plain one.
    ///
    /// # Errors
    /// Another door was asked for.
    pub(crate) fn require_plain(&self) -> anyhow::Result<()> {
        if self.door != door::Name::Plain {
            bail!("this scenario speaks the plain door only: leave out --door");
        }
        Ok(())
    }

    /// Where the server is.
    ///
    /// # Errors
    /// The URL is bad, or leads to a machine that nobody claimed to own or that nobody vouches for.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        let anyone = self.insecure.then_some(Trust::Anyone);
        let trust = self.ca.as_deref().map(Trust::Authority).or(anyone);
        let target = Target::parse(&self.url, trust)?;
        if !target.address.ip().is_loopback() && !self.i_own_this_host {
            bail!(
                "{} is not this machine: a load test looks like an attack to whoever owns it; \
                 if that is you, add --i-own-this-host",
                self.url
            );
        }
        if !target.address.ip().is_loopback() && self.insecure {
            bail!("{}: another machine needs --ca: --insecure is for this one", self.url);
        }
        Ok(target)
    }
}

/// Options of `fanout`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pace").args(["window", "rate"]))]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Topics, each with a publisher of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) topics: u32,
    /// Subscribers of each topic
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: u32,
    /// Bytes of each payload
    #[arg(long, default_value_t = 128, value_parser = payload_len)]
    pub(crate) payload: usize,
    /// Closed loop: at most this many publications per topic that not all subscribers have yet
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) window: u32,
    /// Open loop: publications per second over all topics, latency from the time each is due
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// Open loop: begin with the publications of so much time at once, as after a stall
    #[arg(long, default_value = "0s", value_parser = duration, requires = "rate", conflicts_with = "window")]
    pub(crate) stall: Duration,
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long to run before that
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// How long to wait, after publishing, for what is still to come
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) drain: Duration,
}

impl Fanout {
    /// An open loop over `shape`.
    pub(crate) fn open_loop(server: &Server, shape: &Shape, rate: u64, duration: Duration) -> Self {
        Self {
            server: server.clone(),
            topics: shape.topics,
            subscribers: shape.subscribers,
            payload: shape.payload,
            window: 1,
            rate: Some(rate),
            stall: Duration::ZERO,
            duration,
            warmup: Duration::from_millis(300),
            drain: Duration::from_secs(10),
        }
    }

    /// Checks what single options cannot tell, and returns the number of connections.
    ///
    /// # Errors
    /// The shape is too large.
    pub(crate) fn connection_count(&self) -> anyhow::Result<usize> {
        let in_flight = u64::from(self.topics) * u64::from(self.window) * self.payload as u64;
        if self.rate.is_none() && in_flight > IN_FLIGHT_LEN_MAX {
            bail!("{in_flight} bytes in flight: topics x window x payload may be 1 GiB at most");
        }
        let count = u64::from(self.topics) * (u64::from(self.subscribers) + 1);
        usize::try_from(count).context("too many connections")
    }
}

/// Options of `report`.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// What `--json` wrote, up to 6 files
    #[arg(required = true, num_args = 1..=RUNS_MAX, value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// Also write a page with charts to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<String>,
}

/// What is published, and to how many.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Topics, each with a publisher of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) topics: u32,
    /// Subscribers of each topic
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: u32,
    /// Bytes of each payload
    #[arg(long, default_value_t = 128, value_parser = payload_len)]
    pub(crate) payload: usize,
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Connections, each subscribed to one topic
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) connections: u32,
    /// Topics that the connections are spread over
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) topics: u32,
    /// How long to hold them
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) hold: Duration,
    /// Then publish so many messages on each topic, one after the other
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) messages: u32,
    /// Spread the connections over so many threads, each with a descriptor table of its own: for
    /// more connections than the hard limit of open files
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) tables: u32,
}

/// Bytes of a payload that has room for its stamp.
pub(crate) fn payload_len(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(len @ STAMP_LEN..=16_777_216) => Ok(len),
        _ => Err(format!("{STAMP_LEN} to 16777216 bytes: each carries a stamp")),
    }
}

/// A span of time such as `5s`, an hour at most.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration > DURATION_MAX {
        return Err("an hour at most".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn fanout(arguments: &str) -> Result<Fanout, String> {
        let line = format!("fanwire-loadtest fanout {arguments}");
        match Cli::try_parse_from(line.split_whitespace())
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Fanout(fanout) => Ok(fanout),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn other_machines_are_refused_unless_claimed() {
        let refused = fanout("--url http://192.0.2.1:80").expect("parses").server.target();
        assert!(refused.expect_err("not ours").to_string().contains("--i-own-this-host"));
        let claimed = fanout("--url http://192.0.2.1:80 --i-own-this-host").expect("parses");
        assert!(claimed.server.target().is_ok());
        assert!(fanout("--url http://127.9.9.9:80").expect("parses").server.target().is_ok());
        let credulous = "--url https://192.0.2.1 --i-own-this-host --insecure";
        let refused = fanout(credulous).expect("parses").server.target();
        assert!(refused.expect_err("not loopback").to_string().contains("--ca"));
    }

    #[test]
    fn runs_are_bounded() {
        for bad in
            ["--payload 31", "--duration 2h", "--window 0", "--window 1 --rate 5", "--topics 0"]
        {
            assert!(fanout(bad).is_err(), "{bad}");
        }
        let large = fanout("--topics 1000 --window 64 --payload 65536").expect("parses");
        assert!(large.connection_count().is_err());
    }
}
