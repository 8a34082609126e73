//! The key set of `auth.jwks_url`: fetched by a task of its own, looked up by workers.
//!
//! No worker ever waits in a lock for the network: a request whose key is not there awaits the next
//! fetch, if one is due, and others go on. While the address is away, the keys at hand stay.

mod fetch;
mod set;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

pub use fetch::{FetchError, UrlError};
pub use set::KEYS_COUNT_MAX;

use super::token::PublicKey;
use fetch::Source;
use set::Set;

/// When to fetch.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Time between two fetches while nothing is missing: keys that were withdrawn go within it.
    refresh: Duration,
    /// Time after a fetch that failed.
    retry: Duration,
    /// Time between two fetches at least, whoever asks: tokens with made-up key ids must not become
    /// a flood of requests to somebody else.
    least: Duration,
}

const PACE: Pace = Pace {
    refresh: Duration::from_mins(10),
    retry: Duration::from_secs(15),
    least: Duration::from_secs(5),
};

/// The keys of one address, by key id and algorithm.
#[derive(Debug)]
pub struct KeySet {
    source: Source,
    pace: Pace,
    set: Mutex<Option<Arc<Set>>>,
    schedule: Mutex<Schedule>,
    /// Somebody misses a key.
    asked: Notify,
    /// How many fetches are done.
    done: watch::Sender<u64>,
    results: [AtomicU64; FetchResult::ALL.len()],
}

#[derive(Debug)]
struct Schedule {
    is_fetching: bool,
    /// Before this, nobody's missing key brings about a fetch.
    earliest: Instant,
}

/// What a fetch came to; the label `result` of `fanwire_jwks_fetches_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchResult {
    /// There are keys.
    Ok,
    /// No connection, no certificate, or no answer in time.
    Unreachable,
    /// An answer other than 200.
    Status,
    /// No key set, one without keys of ours, or too long.
    Invalid,
}

impl FetchResult {
    /// Every result, by index.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Unreachable, Self::Status, Self::Invalid];

    /// Metric label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::Invalid => "invalid",
        }
    }
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Here it is.
    Found(Arc<PublicKey>),
    /// The set does not have it.
    Unknown,
    /// There is no set yet.
    Away,
}

impl KeySet {
    /// A set that is not fetched yet.
    ///
    /// # Errors
    /// [`UrlError`] for an address that cannot be one of keys.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self {
            source: Source::new(url)?,
            pace: PACE,
            set: Mutex::default(),
            // The first fetch is as good as begun.
            schedule: Mutex::new(Schedule { is_fetching: true, earliest: Instant::now() }),
            asked: Notify::new(),
            done: watch::Sender::new(0),
            results: Default::default(),
        })
    }

    /// The key for a token of `algorithm` with that key id. A token without one gets the only key
    /// of its algorithm, if there is but one.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Lookup {
        let set = self.set.lock().clone();
        match set {
            None => Lookup::Away,
            Some(set) => set.find(kid, algorithm).map_or(Lookup::Unknown, Lookup::Found),
        }
    }

    /// Awaits the fetch under way, or one that is begun for it if the last is long enough ago.
    pub(super) async fn refresh(&self) {
        let Some(mut done) = self.ask() else { return };
        // One that takes too long, or whose end nobody tells any more, has brought nothing.
        let _ended = timeout(fetch::TIMEOUT, done.changed()).await;
    }

    /// Begins a fetch if none is under way and the last is long enough ago. Gives what tells its
    /// end; `None` = what is at hand is all there is for now.
    pub(super) fn ask(&self) -> Option<watch::Receiver<u64>> {
        let mut schedule = self.schedule.lock();
        if !schedule.is_fetching {
            if Instant::now() < schedule.earliest {
                return None;
            }
            schedule.is_fetching = true;
            self.asked.notify_one();
        }
        // Under the lock, so that the end of that fetch is still to come.
        Some(self.done.subscribe())
    }

    /// Keeps the keys current until it is dropped; one task runs it.
    pub async fn run(&self) {
        loop {
            let pause = match self.fetch().await {
                Ok(_) => self.pace.refresh,
                Err(_) => self.pace.retry,
            };
            // A notification may be left from before the fetch that served it.
            while !self.schedule.lock().is_fetching {
                // Both arms are cancel safe: a notification stays stored.
                tokio::select! {
                    () = tokio::time::sleep(pause) => self.schedule.lock().is_fetching = true,
                    () = self.asked.notified() => {}
                }
            }
        }
    }

    /// Fetches now, and tells who waits for it. Returns the number of keys.
    ///
    /// # Errors
    /// [`FetchError`]; the keys at hand stay.
    pub async fn fetch(&self) -> Result<usize, FetchError> {
        let fetched = self.source.fetch().await.and_then(|body| Set::parse(&body));
        let result = match &fetched {
            Ok(set) => {
                tracing::debug!(keys = set.count(), "key set fetched");
                FetchResult::Ok
            }
            Err(error) => {
                let (cause, url) = (error.cause(), self.source.shown());
                tracing::warn!(%error, cause, url, "cannot fetch the keys of auth.jwks_url");
                error.result()
            }
        };
        if let Some(count) = self.results.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let count = fetched.map(|set| {
            let count = set.count();
            *self.set.lock() = Some(Arc::new(set));
            count
        });
        let mut schedule = self.schedule.lock();
        let now = Instant::now();
        let earliest = now.checked_add(self.pace.least).unwrap_or(now);
        *schedule = Schedule { is_fetching: false, earliest };
        self.done.send_modify(|count| *count = count.wrapping_add(1));
        drop(schedule);
        count
    }

    /// Whether whoever is between here and there could change the keys.
    pub fn is_exposed(&self) -> bool {
        self.source.is_exposed()
    }

    /// Keys at hand.
    pub fn count(&self) -> usize {
        self.set.lock().as_ref().map_or(0, |set| set.count())
    }

    /// How many fetches came to that.
    pub fn result_count(&self, result: FetchResult) -> u64 {
        let count = self.results.get(result as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
