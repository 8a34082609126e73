//! The operator's door on `admin_listen`: metrics, health, numbers as JSON, and the console.
//!
//! It only reads what the server counts and changes nothing: a scrape cannot disturb a delivery.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | Prometheus text exposition |
//! | `/stats` | the same numbers as one JSON object; its stable keys are listed in `stats.rs` |
//! | `/health/live` | 200 while the process answers at all |
//! | `/health/ready` | 200, or 503 with the reason while no new client should be sent here |
//! | `/` | the console, one page that polls `/stats` |
//!
//! Probes may ask for `/health/*` as they like. All else asks for the password (Basic, any user);
//! without a password the listener is on a loopback address, and a request must name a local host.

mod access;
mod answer;
mod exposition;
mod process;
mod serve;
mod stats;
#[cfg(test)]
mod tests;
mod total;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use exposition::render;
pub use serve::serve;

use crate::admission::Admission;
use crate::auth::{KeySet, Secret};
use crate::hub::Variants;
use crate::metrics::{Memory, WorkerMetrics};
use crate::reason::Refusal;

/// What the server lets the admin door see.
pub struct State {
    /// The counters of each worker.
    pub workers: Arc<[Arc<WorkerMetrics>]>,
    /// The memory account.
    pub memory: Arc<Memory>,
    /// The table of encodings.
    pub variants: Arc<Variants>,
    /// Answers how many topics exist.
    pub topics: Box<dyn Fn() -> usize + Send + Sync>,
    /// Answers how many commands of sessions were refused, by error code.
    pub refused_commands: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    /// Who is counted per address.
    pub admission: Arc<Admission>,
    /// The key set of tokens, where there is one.
    pub keys: Option<Arc<KeySet>>,
    /// Answers whether new clients are welcome; if not, with [`Refusal::Draining`] or
    /// [`Refusal::EngineUnavailable`].
    pub ready: Box<dyn Fn() -> Result<(), Refusal> + Send + Sync>,
    /// `admin_password`; empty only on a loopback address.
    pub password: Secret,
    /// When the server started.
    pub started: Started,
    /// The server's version.
    pub version: &'static str,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("version", &self.version)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// A start on both clocks: one tells the date, the other is never set back.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    date: SystemTime,
    instant: Instant,
}

impl Started {
    /// Takes this moment as the start.
    pub fn now() -> Self {
        Self { date: SystemTime::now(), instant: Instant::now() }
    }

    fn uptime(self) -> Duration {
        self.instant.elapsed()
    }

    fn since_unix_epoch(self) -> Duration {
        self.date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}
