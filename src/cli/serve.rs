//! `fanwire serve`: configuration, log, then the server until it has drained.

use std::process::ExitCode;

use anyhow::Context as _;

use super::argument::ServeArguments;
use crate::{log, server};

pub(super) fn run(arguments: ServeArguments) -> anyhow::Result<ExitCode> {
    let loaded = arguments.load()?;
    let guard = log::start(loaded.config.log).context("cannot start the log")?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let served = server::run(loaded.config);
    // What is logged comes before the error that ends the process.
    drop(guard);
    served?;
    Ok(ExitCode::SUCCESS)
}
