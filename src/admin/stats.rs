//! `/stats`: the numbers as one JSON object, for the console and for scripts.
//!
//! Keys are stable: new ones may come, none changes its meaning. Everything counts since the start
//! of the process, but `connections`, `topics`, `subscriptions`, `outbox_bytes`, `memory_bytes` and
//! `process` tell the present. Objects keyed by a closed set have all its words, but `refusals`,
//! `protocol_errors` and the list `closes` have only what happened.
//!
//! | key | value |
//! | --- | --- |
//! | `version`, `uptime_seconds` | of this process |
//! | `status` | `ready`, `draining` or `engine_unavailable` |
//! | `workers` | how many |
//! | `connections`, `connections_total` | by door |
//! | `topics`, `subscriptions` | how many |
//! | `publications`, `publication_bytes`, `deliveries`, `delivery_bytes` | by door |
//! | `writes`, `deliveries_per_write` | socket writes, and how many deliveries left in one |
//! | `encodings` | by variant |
//! | `outbox_bytes`, `outbox_overflows` | queued now; times full, by delivery class |
//! | `memory_bytes`, `memory_bytes_max` | by kind; the budget of their sum |
//! | `memory_shed` | what was let go because memory was short |
//! | `recoveries` | `recovered`, `not_recovered` |
//! | `tls_handshakes` | `ok`, `failed` |
//! | `refusals`, `protocol_errors` | by word |
//! | `closes` | list of `code`, `reason`, `count` |
//! | `addresses` | client addresses that are counted for now |
//! | `jwks_fetches`, `jwks_keys` | fetches of the key set by result; keys at hand now |
//! | `accept_pauses` | times accepting paused for want of a descriptor |
//! | `process` | the fields of [`Process`]; null without `/proc` |

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::State;
use super::process::Process;
use crate::reason::Refusal;

type Named = BTreeMap<&'static str, u64>;

/// The JSON object; its fields are its keys.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    version: &'static str,
    #[serde(serialize_with = "seconds")]
    uptime_seconds: Duration,
    status: &'static str,
    workers: usize,
    connections: Named,
    connections_total: Named,
    topics: usize,
    subscriptions: u64,
    publications: Named,
    publication_bytes: Named,
    deliveries: Named,
    delivery_bytes: Named,
    writes: u64,
    deliveries_per_write: f64,
    encodings: Named,
    outbox_bytes: u64,
    outbox_overflows: Named,
    memory_bytes: Named,
    memory_bytes_max: u64,
    memory_shed: Named,
    recoveries: Named,
    tls_handshakes: Named,
    refusals: Named,
    protocol_errors: Named,
    closes: Vec<Close>,
    addresses: usize,
    jwks_fetches: Named,
    jwks_keys: usize,
    accept_pauses: u64,
    process: Option<Process>,
}

#[derive(Debug, Serialize)]
struct Close {
    code: &'static str,
    reason: &'static str,
    count: u64,
}

impl Stats {
    /// Reads everything once.
    pub(super) fn read(state: &State) -> Self {
        let deliveries = Named::from(state.by_door(|worker| &worker.deliveries));
        let writes = state.total(|worker| &worker.writes);
        Self {
            version: state.version,
            uptime_seconds: state.started.uptime(),
            status: (state.ready)().map_or_else(Refusal::code, |()| "ready"),
            workers: state.workers.len(),
            connections: state.by_door(|worker| &worker.connections).into(),
            connections_total: state.by_door(|worker| &worker.connections_total).into(),
            topics: (state.topics)(),
            subscriptions: state.total(|worker| &worker.subscriptions),
            publications: state.by_door(|worker| &worker.publications).into(),
            publication_bytes: state.by_door(|worker| &worker.publication_bytes).into(),
            deliveries_per_write: ratio(deliveries.values().sum(), writes),
            deliveries,
            delivery_bytes: state.by_door(|worker| &worker.delivery_bytes).into(),
            writes,
            encodings: state.variants.encodings().collect(),
            outbox_bytes: state.total(|worker| &worker.outbox_bytes),
            outbox_overflows: state.overflows().into(),
            memory_bytes: state.memory_held().into(),
            memory_bytes_max: state.memory.limit(),
            memory_shed: state.memory_shed().into(),
            recoveries: state.recoveries().into(),
            tls_handshakes: state.tls_handshakes().into(),
            refusals: happened(state.refused()).collect(),
            protocol_errors: happened(state.protocol_errors()).collect(),
            closes: happened(state.closes())
                .map(|((code, reason), count)| Close { code, reason, count })
                .collect(),
            addresses: state.admission.address_count(),
            jwks_fetches: Named::from(state.key_fetches()),
            jwks_keys: state.key_count(),
            accept_pauses: state.total(|worker| &worker.accept_pauses),
            process: Process::read().ok(),
        }
    }
}

/// Writes a duration as seconds with a fraction.
pub(super) fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

/// Leaves out what never happened.
fn happened<K>(counts: impl IntoIterator<Item = (K, u64)>) -> impl Iterator<Item = (K, u64)> {
    counts.into_iter().filter(|(_, count)| *count > 0)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is for reading")]
fn ratio(count: u64, per: u64) -> f64 {
    count as f64 / per.max(1) as f64
}
