//! `fanwire-loadtest`: what a pub/sub server delivers, what it costs, and whether it is all there.
//!
//! It never links the server's code: it is a stranger that speaks the protocol.

mod bare;
mod cli;
mod clock;
mod door;
mod fault;
mod figure;
mod frame;
mod http;
mod load;
mod machine;
mod pace;
mod process;
mod proxy;
mod report;
mod scenario;
mod stamp;
mod tls;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Fanout(options) => scenario::fanout::run(&options),
        Command::Idle(options) => scenario::idle::run(&options),
        Command::Ramp(options) => scenario::ramp::run(&options),
        Command::Slow(options) => scenario::slow::run(&options),
        Command::Churn(options) => scenario::churn::run(&options),
        Command::Storm(options) => scenario::storm::run(&options),
        Command::Rooms(options) => scenario::rooms::run(&options),
        Command::Bare(options) => bare::run(&options),
        Command::Proxy(options) => proxy::run(&options),
        Command::Compare(options) => scenario::compare::run(&options),
        Command::Report(options) => report::run(&options).map(|()| scenario::Verdict::Good),
    };
    match done {
        Ok(scenario::Verdict::Good) => ExitCode::SUCCESS,
        Ok(scenario::Verdict::Faulty) => ExitCode::FAILURE,
        Err(error) => {
            writeln!(std::io::stderr(), "fanwire-loadtest: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}
