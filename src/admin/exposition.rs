//! `/metrics`: everything the server counts, in the Prometheus text format.
//!
//! Each closed set is written in full, zeros too: a series that appears with its first event has no
//! rate for that event.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::State;
use super::process::Process;
use crate::metrics::FANOUT_BOUNDS;

/// Writes all metrics. Linear in workers times series; touches no lock.
pub fn render(state: &State) -> String {
    let mut page = Page::default();
    page.single(
        "fanwire_build_info",
        "Always 1; the label tells the version.",
        &[("version", state.version)],
        1.0,
    );
    connections(&mut page, state);
    traffic(&mut page, state);
    delivery(&mut page, state);
    memory(&mut page, state);
    access(&mut page, state);
    if let Ok(process) = Process::read() {
        kernel(&mut page, &process);
    }
    page.single(
        "process_start_time_seconds",
        "Start of the process, in seconds since the Unix epoch.",
        &[],
        state.started.since_unix_epoch().as_secs_f64(),
    );
    let mut text = String::new();
    let written = TextEncoder::new().encode_utf8(&page.0, &mut text);
    debug_assert!(written.is_ok(), "families have names and samples");
    text
}

fn connections(page: &mut Page, state: &State) {
    page.labelled(
        "fanwire_connections",
        "Open connections.",
        "door",
        state.by_door(|worker| &worker.connections),
    );
    page.labelled(
        "fanwire_connections_total",
        "Connections opened.",
        "door",
        state.by_door(|worker| &worker.connections_total),
    );
    page.labelled(
        "fanwire_requests_refused_total",
        "Requests answered with an error.",
        "reason",
        state.refused(),
    );
    page.labelled(
        "fanwire_commands_refused_total",
        "Commands of the Centrifugo protocol answered with an error, by its code.",
        "code",
        (state.refused_commands)(),
    );
    page.samples(
        "fanwire_closes_total",
        "WebSocket connections ended, by the close code sent or received.",
        state.closes().map(|((code, reason), count)| {
            (labels(&[("code", code), ("reason", reason)]), number(count))
        }),
    );
    page.labelled(
        "fanwire_protocol_errors_total",
        "Frames that broke RFC 6455.",
        "kind",
        state.protocol_errors(),
    );
    page.labelled(
        "fanwire_tls_handshakes_total",
        "TLS handshakes of clients.",
        "result",
        state.tls_handshakes(),
    );
    page.plain(
        "fanwire_accept_pauses_total",
        "Times a worker stopped accepting because no descriptor was left.",
        state.total(|worker| &worker.accept_pauses),
    );
}

fn traffic(page: &mut Page, state: &State) {
    page.plain("fanwire_topics", "Topics that exist.", (state.topics)() as u64);
    page.plain(
        "fanwire_subscriptions",
        "Sessions in the lists of topics.",
        state.total(|worker| &worker.subscriptions),
    );
    page.labelled(
        "fanwire_publications_total",
        "Publications accepted.",
        "door",
        state.by_door(|worker| &worker.publications),
    );
    page.labelled(
        "fanwire_publication_bytes_total",
        "Payload bytes of accepted publications.",
        "door",
        state.by_door(|worker| &worker.publication_bytes),
    );
    page.labelled(
        "fanwire_deliveries_total",
        "Publications handed to subscribers.",
        "door",
        state.by_door(|worker| &worker.deliveries),
    );
    page.labelled(
        "fanwire_delivery_bytes_total",
        "Encoded bytes handed to subscribers.",
        "door",
        state.by_door(|worker| &worker.delivery_bytes),
    );
    page.labelled(
        "fanwire_encodings_total",
        "Encodings made; each is shared by all subscribers of its variant.",
        "variant",
        state.variants.encodings(),
    );
}

fn delivery(page: &mut Page, state: &State) {
    page.plain(
        "fanwire_writes_total",
        "Writes to sockets of subscribers.",
        state.total(|worker| &worker.writes),
    );
    fanout(page, state);
    page.plain(
        "fanwire_outbox_bytes",
        "Bytes queued for connections that are behind.",
        state.total(|worker| &worker.outbox_bytes),
    );
    page.labelled(
        "fanwire_outbox_overflows_total",
        "Times an outbox was full, by what its topic wants done then.",
        "delivery",
        state.overflows(),
    );
    page.labelled(
        "fanwire_recoveries_total",
        "Subscriptions that asked for a position.",
        "result",
        state.recoveries(),
    );
}

fn fanout(page: &mut Page, state: &State) {
    let mut counts = [0; FANOUT_BOUNDS.len() + 1];
    let mut sum = Duration::ZERO;
    for worker in state.workers.iter() {
        for (total, count) in counts.iter_mut().zip(worker.fanout.buckets()) {
            *total += count;
        }
        sum = sum.saturating_add(worker.fanout.sum());
    }
    let mut cumulative = 0;
    let buckets = FANOUT_BOUNDS.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum.as_secs_f64());
    page.histogram(
        "fanwire_fanout_seconds",
        "From the acceptance of a publication to the last write of it.",
        histogram,
    );
}

fn memory(page: &mut Page, state: &State) {
    page.labelled(
        "fanwire_memory_bytes",
        "Bytes held on behalf of peers.",
        "kind",
        state.memory_held(),
    );
    page.plain(
        "fanwire_memory_limit_bytes",
        "Budget of what is held on behalf of peers.",
        state.memory.limit(),
    );
    page.labelled(
        "fanwire_memory_shed_total",
        "What was let go because memory was short.",
        "what",
        state.memory_shed(),
    );
}

fn access(page: &mut Page, state: &State) {
    page.plain(
        "fanwire_addresses",
        "Client addresses that connections or handshakes are counted for.",
        state.admission.address_count() as u64,
    );
    page.plain(
        "fanwire_handshakes_untracked_total",
        "Handshakes that were not limited because too many addresses were known.",
        state.admission.untracked_count(),
    );
    page.labelled(
        "fanwire_jwks_fetches_total",
        "Fetches of the key set of auth.jwks_url.",
        "result",
        state.key_fetches(),
    );
    page.plain("fanwire_jwks_keys", "Keys of that set that are at hand.", state.key_count() as u64);
}

fn kernel(page: &mut Page, process: &Process) {
    page.single(
        "process_cpu_seconds_total",
        "User and system CPU time spent, in seconds.",
        &[],
        process.cpu_seconds.as_secs_f64(),
    );
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in RAM.", process.resident_bytes),
        ("process_virtual_memory_bytes", "Address space.", process.virtual_bytes),
        ("process_open_fds", "Descriptors of the main thread's table.", process.open_fds),
        ("process_max_fds", "Soft limit of descriptors.", process.max_fds),
        ("process_threads", "Threads.", process.threads),
    ] {
        page.plain(name, help, value);
    }
}

/// The families so far, in the order of the page.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

impl Page {
    /// Adds one number without labels.
    fn plain(&mut self, name: &str, help: &str, value: u64) {
        self.single(name, help, &[], number(value));
    }

    /// Adds one number.
    fn single(&mut self, name: &str, help: &str, pairs: &[(&str, &str)], value: f64) {
        self.samples(name, help, [(labels(pairs), value)]);
    }

    /// Adds one number per value of a label.
    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let samples =
            values.into_iter().map(|(value, count)| (labels(&[(label, value)]), number(count)));
        self.samples(name, help, samples);
    }

    /// Adds a family of counters if its name says so by `_total`, else of gauges.
    fn samples(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<LabelPair>, f64)>,
    ) {
        let kind = if name.ends_with("_total") { MetricType::COUNTER } else { MetricType::GAUGE };
        let metrics =
            samples.into_iter().map(|(labels, value)| metric(kind, labels, value)).collect();
        self.family(kind, name, help, metrics);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: Histogram) {
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.family(MetricType::HISTOGRAM, name, help, vec![metric]);
    }

    fn family(&mut self, kind: MetricType, name: &str, help: &str, metrics: Vec<Metric>) {
        // The encoder takes an empty family for a mistake.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_field_type(kind);
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn metric(kind: MetricType, labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let label = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    };
    pairs.iter().map(label).collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus keeps every sample as a double")]
fn number(count: u64) -> f64 {
    count as f64
}
