//! `fanwire serve`: configuration, log, then the server until it has drained.

use std::process::ExitCode;

use anyhow::Context as _;

use super::EXIT_FAILURE;
use super::argument::ServeArguments;
use crate::server::ServeError;
use crate::{log, server};

pub(super) fn run(arguments: ServeArguments) -> anyhow::Result<ExitCode> {
    let loaded = arguments.load()?;
    let guard = log::start(loaded.config.log).context("cannot start the log")?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let served = server::run(loaded.config);
    if let Err(error @ ServeError::Forced) = &served {
        // Through the log only, which never blocks: whoever forces has waited long enough.
        tracing::warn!("{error}");
    }
    // What is logged comes before the error that ends the process.
    drop(guard);
    match served {
        Err(ServeError::Forced) => Ok(ExitCode::from(EXIT_FAILURE)),
        served => served.map(|()| ExitCode::SUCCESS).map_err(Into::into),
    }
}
