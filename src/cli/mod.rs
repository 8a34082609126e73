//! The command line: what each command does with the library, and the exit codes.
//!
//! Owns standard output and the words on standard error; logs of the server are `log`'s.
//! Exit codes: 0 ok, 1 failure at run time, 2 usage, 78 bad configuration.

mod argument;
mod backoff;
mod check;
mod client;
mod output;
mod publish;
mod serve;
mod subscribe;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Problems, default_file};
use crate::log::one_line;
use argument::{Arguments, Command, ConfigCommand};
use output::{Output, OutputError};

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits.
const EXIT_CONFIG: u8 = 78;

/// A command line that parses but makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// A configuration that is well-formed, but lacks what a command needs.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct ConfigError(anyhow::Error);

/// Runs the command that `arguments` ask for, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that cannot be shown is no failure of its own.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn dispatch(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        None => serve::run(arguments.serve),
        Some(Command::Serve(arguments)) => serve::run(arguments),
        Some(Command::Pub(arguments)) => publish::run(arguments),
        Some(Command::Sub(arguments)) => subscribe::run(arguments),
        Some(Command::Token(arguments)) => token::run(arguments),
        Some(Command::Check(arguments)) => check::run(arguments),
        Some(Command::Config(ConfigCommand::Default)) => show(&default_file()),
        Some(Command::Config(ConfigCommand::Print(arguments))) => {
            show(&arguments.load()?.config.to_toml())
        }
    }
}

fn show(text: &str) -> anyhow::Result<ExitCode> {
    let mut output = Output::new();
    output.write(text.as_bytes())?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Tells the error on standard error, in one line each, and finds its exit code.
fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(OutputError::Closed) = error.downcast_ref() {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    if let Some(problems) = error.downcast_ref::<Problems>() {
        for problem in problems.iter() {
            eprintln!("fanwire: error: {problem}");
        }
        return ExitCode::from(EXIT_CONFIG);
    }
    eprintln!("fanwire: error: {}", one_line(&format!("{error:#}")));
    ExitCode::from(if error.is::<UsageError>() {
        EXIT_USAGE
    } else if error.is::<ConfigError>() {
        EXIT_CONFIG
    } else {
        EXIT_FAILURE
    })
}

/// Tells something odd on standard error, in one line.
fn warn(text: &str) {
    eprintln!("fanwire: warning: {}", one_line(text));
}

/// A runtime for a client command, on this thread.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
