//! The table of keys: the one place that knows a key's name, range, meaning and field.

use std::time::Duration;

use toml::de::DeValue;

use super::Config;
use super::value::{
    ANONYMOUS, DELIVERY, LOG_FORMAT, LOG_LEVEL, Refused, Show as _, address, address_or_off,
    boolean, duration, integer, origins, path, pattern, secret, secrets, word,
};
use crate::limits::TopicRule;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const COUNT_MAX: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(24 * 365);

/// One key of a `T`, which is the configuration or a topic rule.
pub(super) struct Key<T: 'static> {
    /// Name with its section: `limits.message_bytes_max`.
    pub(super) path: &'static str,
    /// Its meaning, for the default file.
    pub(super) doc: &'static str,
    /// Reads a value into its field.
    pub(super) read: fn(&mut T, &DeValue<'_>) -> Result<(), Refused>,
    /// The field as TOML; `None` for a key that is known only to be refused.
    pub(super) show: Option<fn(&T) -> String>,
}

impl<T> Key<T> {
    /// The section, empty at the top, and the name in it.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

/// A key with its field: `key!("path", field, reader(arguments), "meaning")`.
macro_rules! key {
    ($path:literal, $($field:ident).+, $reader:ident($($argument:expr),*), $doc:literal) => {
        Key {
            path: $path,
            doc: $doc,
            read: |target, value| {
                target.$($field).+ = $reader(value, $($argument),*)?;
                Ok(())
            },
            show: Some(|target| target.$($field).+.show()),
        }
    };
}

/// A key of a feature that this build lacks: `lacking!("path", reader(feature), shown, "meaning")`.
macro_rules! lacking {
    ($path:literal, $reader:ident($feature:literal), $show:expr, $doc:literal) => {
        Key { path: $path, doc: $doc, read: |_, value| $reader(value, $feature), show: $show }
    };
}

/// Every key outside `[[topic]]`, in the order of the default file.
pub(super) const KEYS: &[Key<Config>] = &[
    key!(
        "listen",
        listen,
        address(),
        "Client port: IP:PORT or localhost:PORT; port 0 takes a free one."
    ),
    key!(
        "admin_listen",
        admin_listen,
        address_or_off(),
        "Metrics, health, stats and console; \"\" = off."
    ),
    key!(
        "admin_password",
        admin_password,
        secret(),
        "Password of the admin port (Basic, any user). Needed beyond loopback; /health/* is exempt."
    ),
    key!(
        "workers",
        workers,
        integer(0..=1024),
        "Threads that serve connections; 0 = one per core."
    ),
    key!(
        "private_fd_tables",
        private_fd_tables,
        boolean(),
        "One descriptor table per worker, where the hard descriptor limit is too low."
    ),
    key!(
        "log.format",
        log.format,
        word(LOG_FORMAT),
        "\"text\" or \"json\", one line per event on standard error."
    ),
    key!(
        "log.level",
        log.level,
        word(LOG_LEVEL),
        "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"."
    ),
    key!(
        "limits.message_bytes_max",
        limits.message_bytes_max,
        integer(1..=GIB),
        "Longest message, whole, after reassembly and inflation."
    ),
    key!(
        "limits.fragments_max",
        limits.fragments_max,
        integer(1..=16 * MIB),
        "Frames that one message may come in."
    ),
    key!(
        "limits.outbox_bytes_max",
        limits.outbox_bytes_max,
        integer(1..=4 * GIB),
        "Bytes queued for one connection. Must exceed message_bytes_max + 65536."
    ),
    key!(
        "limits.request_head_bytes_max",
        limits.request_head_bytes_max,
        integer(8192..=MIB),
        "Longest request line with headers; at least 8192."
    ),
    key!(
        "limits.handshake_timeout",
        limits.handshake_timeout,
        duration(10 * MINUTE),
        "Time to the end of the request head."
    ),
    key!(
        "limits.http_idle_timeout",
        limits.http_idle_timeout,
        duration(DAY),
        "Time between requests on a kept connection."
    ),
    key!(
        "limits.write_timeout",
        limits.write_timeout,
        duration(HOUR),
        "A connection that takes nothing for that long is closed."
    ),
    key!(
        "limits.ping_interval",
        limits.ping_interval,
        duration(DAY),
        "Time since the last byte received after which a client is pinged."
    ),
    key!("limits.pong_timeout", limits.pong_timeout, duration(HOUR), "Time to answer a ping."),
    key!(
        "limits.topics_per_session_max",
        limits.topics_per_session_max,
        integer(1..=COUNT_MAX),
        "Topics that one session may subscribe to."
    ),
    key!(
        "limits.topic_name_bytes_max",
        limits.topic_name_bytes_max,
        integer(1..=255),
        "Longest topic name, at most 255."
    ),
    key!(
        "limits.publish_rate_max",
        limits.publish_rate_max,
        integer(0..=COUNT_MAX),
        "Publications per second and connection; 0 = no limit."
    ),
    key!(
        "limits.connections_max",
        limits.connections_max,
        integer(0..=COUNT_MAX),
        "Connections in all; 0 = from the descriptor limit."
    ),
    key!(
        "limits.connections_per_address_max",
        limits.connections_per_address_max,
        integer(0..=COUNT_MAX),
        "Connections per client address; 0 = no cap."
    ),
    key!(
        "limits.memory_bytes_max",
        limits.memory_bytes_max,
        integer(0..=1 << 50),
        "Memory for connections and history; 0 = 80 % of the machine or cgroup."
    ),
    lacking!("limits.trusted_proxies", lacks("trusting a proxy's Forwarded headers"), None, ""),
    lacking!(
        "websocket.compression",
        lacks_unless_false("permessage-deflate"),
        Some(|_| false.show()),
        "permessage-deflate; each publication is deflated once. Not in this build."
    ),
    key!(
        "websocket.compression_min_bytes",
        websocket.compression_min_bytes,
        integer(0..=GIB),
        "Shorter publications are not deflated."
    ),
    key!(
        "websocket.allowed_origins",
        websocket.allowed_origins,
        origins(),
        "Web pages that may connect: empty = same host, \"*\" = any, else exact origins."
    ),
    key!(
        "auth.anonymous",
        auth.anonymous,
        word(ANONYMOUS),
        "Without a credential: \"loopback\" = all while on loopback, \"subscribe\", \"all\" or \"none\"."
    ),
    key!(
        "auth.api_keys",
        auth.api_keys,
        secrets(),
        "Keys that may do everything (header X-API-Key)."
    ),
    lacking!(
        "auth.jwt_hmac_secret",
        lacks_unless_empty("JWT authentication"),
        Some(|_| String::new().show()),
        "Key of HS256, HS384 and HS512 tokens. Not in this build."
    ),
    lacking!("auth.jwt_public_key_file", lacks_unless_empty("JWT authentication"), None, ""),
    lacking!("auth.jwks_url", lacks_unless_empty("JWT authentication"), None, ""),
    key!(
        "history.meta_ttl",
        history_meta_ttl,
        duration(YEAR),
        "A forgotten topic keeps its position this long, 1,000,000 topics at most."
    ),
    key!(
        "tls.cert_file",
        tls.cert_file,
        path(),
        "Certificate chain in PEM: with it and its key, `listen` speaks https and wss."
    ),
    key!("tls.key_file", tls.key_file, path(), "Private key in PEM."),
    lacking!(
        "engine.kind",
        lacks_unless_memory("an engine other than \"memory\""),
        Some(|_| "memory".to_owned().show()),
        "Where topics live; this build has \"memory\" only."
    ),
    lacking!("engine.url", lacks("the Redis engine"), None, ""),
    lacking!("engine.prefix", lacks("the Redis engine"), None, ""),
    key!(
        "drain.window",
        drain_window,
        duration(HOUR),
        "On SIGTERM, sessions are asked to leave evenly over this time."
    ),
];

/// Every key of a `[[topic]]` rule, in the order of the default file.
pub(super) const TOPIC_KEYS: &[Key<TopicRule>] = &[
    key!(
        "match",
        pattern,
        pattern(),
        "Pattern over the whole name; \"*\" = any run of characters, nothing else is special."
    ),
    key!(
        "history_size",
        history_size,
        integer(0..=COUNT_MAX),
        "Publications kept; 0 = no history."
    ),
    key!(
        "history_bytes_max",
        history_bytes_max,
        integer(1..=1 << 40),
        "Bytes of publications kept."
    ),
    key!("history_ttl", history_ttl, duration(YEAR), "How long a publication is kept."),
    lacking!(
        "presence",
        lacks_unless_false("presence"),
        Some(|_| false.show()),
        "Who is subscribed. Not in this build."
    ),
    key!(
        "delivery",
        delivery,
        word(DELIVERY),
        "At a full outbox: \"reliable\" = close, \"latest\" = newest only, \"lossy\" = drop oldest."
    ),
];

fn lacks(_: &DeValue<'_>, feature: &str) -> Result<(), Refused> {
    Err(format!("this build lacks {feature}: remove the key"))
}

fn lacks_unless_false(value: &DeValue<'_>, feature: &str) -> Result<(), Refused> {
    if boolean(value)? {
        return Err(format!("this build lacks {feature}: set it to false"));
    }
    Ok(())
}

fn lacks_unless_empty(value: &DeValue<'_>, feature: &str) -> Result<(), Refused> {
    match value.as_str() {
        Some("") => Ok(()),
        _ => lacks(value, feature),
    }
}

fn lacks_unless_memory(value: &DeValue<'_>, feature: &str) -> Result<(), Refused> {
    match value.as_str() {
        Some("memory") => Ok(()),
        _ => Err(format!("this build lacks {feature}: set it to \"memory\"")),
    }
}
