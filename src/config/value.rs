//! Single values: read from TOML within their range, shown as TOML.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use crate::auth::{Anonymous, KeyFile, KeySet, Secret};
use crate::limits::{Audience, Delivery, JoinLeave};
use crate::log::{LogFormat, LogLevel};

/// What `config print` shows instead of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// Words of `auth.anonymous`.
pub(super) const ANONYMOUS: &[(&str, Anonymous)] = &[
    ("loopback", Anonymous::Loopback),
    ("subscribe", Anonymous::Subscribe),
    ("all", Anonymous::All),
    ("none", Anonymous::None),
];

/// Words of a topic's `subscribe` and `publish`.
pub(super) const AUDIENCE: &[(&str, Audience)] = &[
    ("anyone", Audience::Anyone),
    ("authenticated", Audience::Authenticated),
    ("token", Audience::Token),
    ("server", Audience::Server),
];

/// Words of a topic's `join_leave`.
pub(super) const JOIN_LEAVE: &[(&str, JoinLeave)] =
    &[("all", JoinLeave::All), ("asked", JoinLeave::Asked), ("off", JoinLeave::Off)];

/// Words of a topic's `delivery`.
pub(super) const DELIVERY: &[(&str, Delivery)] =
    &[("reliable", Delivery::Reliable), ("latest", Delivery::Latest), ("lossy", Delivery::Lossy)];

/// Words of `log.format`.
pub(super) const LOG_FORMAT: &[(&str, LogFormat)] =
    &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// Words of `log.level`.
pub(super) const LOG_LEVEL: &[(&str, LogLevel)] = &[
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Units of a duration, largest first, in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The shortest duration that any key takes.
const DURATION_MIN: Duration = Duration::from_millis(1);

/// Why a value is refused, for a person; never holds a secret.
pub(super) type Refused = String;

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| expected("true or false", value))
}

pub(super) fn integer<N: TryFrom<u64>>(
    value: &DeValue<'_>,
    range: RangeInclusive<u64>,
) -> Result<N, Refused> {
    let integer = value.as_integer().ok_or_else(|| expected("an integer", value))?;
    u64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|number| range.contains(number))
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| {
            let (min, max) = (range.start(), range.end());
            format!("{integer} is out of range: {min} to {max}")
        })
}

/// A duration like `25s`, from 1 ms to `max`.
pub(super) fn duration(value: &DeValue<'_>, max: Duration) -> Result<Duration, Refused> {
    let text = value.as_str().ok_or_else(|| expected("a duration like \"25s\"", value))?;
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration: write 200ms, 25s, 5m or 24h"))?;
    if duration < DURATION_MIN || duration > max {
        let (min, max) = (show_duration(DURATION_MIN), show_duration(max));
        return Err(format!("{text:?} is out of range: {min} to {max}"));
    }
    Ok(duration)
}

/// As [`duration`], or none at all.
pub(super) fn duration_or_none(value: &DeValue<'_>, max: Duration) -> Result<Duration, Refused> {
    let is_none = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    if is_none.is_some_and(|duration| duration.is_zero()) {
        Ok(Duration::ZERO)
    } else {
        duration(value, max)
    }
}

pub(super) fn secret(value: &DeValue<'_>) -> Result<Secret, Refused> {
    text(value).map(|text| Secret::new(text.to_owned()))
}

pub(super) fn string(value: &DeValue<'_>) -> Result<String, Refused> {
    text(value).map(str::to_owned)
}

/// A file of public keys, read here: one that is not usable is a problem of its line.
pub(super) fn key_file(value: &DeValue<'_>) -> Result<Option<KeyFile>, Refused> {
    match text(value)? {
        "" => Ok(None),
        path => KeyFile::read(path.as_ref()).map(Some).map_err(|error| format!("{path:?} {error}")),
    }
}

/// The address of a key set.
pub(super) fn keys_url(value: &DeValue<'_>) -> Result<String, Refused> {
    let text = text(value)?;
    if !text.is_empty() {
        // What was written is not shown: it may hold a password.
        KeySet::new(text).map_err(|error| format!("this {error}"))?;
    }
    Ok(text.to_owned())
}

/// Networks as `ADDRESS/BITS`, or single addresses.
pub(super) fn networks(value: &DeValue<'_>) -> Result<Vec<IpNet>, Refused> {
    let network = |item: &str| {
        let network = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            format!("{item:?} is not a network: write 10.0.0.0/8, 192.0.2.1 or fd00::/8")
        })?;
        if network.prefix_len() == 0 {
            return Err(format!(
                "{item:?} is everybody: list your proxies only, or any client can claim any address"
            ));
        }
        Ok(network.trunc())
    };
    list(value, network)
}

/// Keys that fit into a header: visible ASCII, not empty.
pub(super) fn secrets(value: &DeValue<'_>) -> Result<Vec<Secret>, Refused> {
    let key = |item: &str| {
        if item.is_empty() || !item.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a key is not empty and has visible ASCII characters only".to_owned());
        }
        Ok(Secret::new(item.to_owned()))
    };
    list(value, key)
}

/// Origins that are compared exactly, `*` or `null`.
pub(super) fn origins(value: &DeValue<'_>) -> Result<Vec<String>, Refused> {
    let origin = |item: &str| {
        let is_origin = item.split_once("://").is_some_and(|(scheme, authority)| {
            !scheme.is_empty()
                && !authority.is_empty()
                && !authority.contains(['/', '?', '#', '@', '*'])
                && item.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if is_origin || matches!(item, "*" | "null") {
            return Ok(item.to_owned());
        }
        Err(format!(
            "{item:?} is not an origin: write scheme://host[:port] without a path, \"*\" or \"null\""
        ))
    };
    list(value, origin)
}

/// A path, relative to where the server is started; empty = none.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, Refused> {
    text(value).map(PathBuf::from)
}

/// A pattern over topic names.
pub(super) fn pattern(value: &DeValue<'_>) -> Result<String, Refused> {
    match text(value)? {
        "" => Err("an empty pattern matches no topic".to_owned()),
        pattern => Ok(pattern.to_owned()),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Refused> {
    let text = text(value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    Err(format!("{text:?} is not one of: {}", words.join(", ")))
}

/// An address to listen on: `IP:PORT` or `localhost:PORT`.
pub(super) fn address(value: &DeValue<'_>) -> Result<SocketAddr, Refused> {
    parse_address(text(value)?)
}

/// As [`address`]; an empty text means off.
pub(super) fn address_or_off(value: &DeValue<'_>) -> Result<Option<SocketAddr>, Refused> {
    match text(value)? {
        "" => Ok(None),
        text => parse_address(text).map(Some),
    }
}

/// Parses `IP:PORT` or `localhost:PORT`; the latter prefers IPv4.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, Refused> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = port {
        let addresses = ("localhost", port).to_socket_addrs().into_iter().flatten();
        return Ok(addresses
            .min_by_key(SocketAddr::is_ipv6)
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port))));
    }
    Err(format!(
        "{text:?} is not an address: write IP:PORT like 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:80"
    ))
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Refused> {
    value.as_str().ok_or_else(|| expected("a string", value))
}

fn list<T>(
    value: &DeValue<'_>,
    item: impl Fn(&str) -> Result<T, Refused>,
) -> Result<Vec<T>, Refused> {
    let strings = || expected("a list of strings like [\"a\", \"b\"]", value);
    value
        .as_array()
        .ok_or_else(strings)?
        .iter()
        .map(|value| item(value.get_ref().as_str().ok_or_else(strings)?))
        .collect()
}

/// Names the kind that was found, not the value: it may be a secret.
fn expected(what: &str, value: &DeValue<'_>) -> Refused {
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("expected {what}, found {found}")
}

/// A value as TOML.
pub(super) trait Show {
    /// The text after the equals sign.
    fn show(&self) -> String;
}

macro_rules! show_as_is {
    ($($kind:ty),*) => { $(impl Show for $kind {
        fn show(&self) -> String {
            self.to_string()
        }
    })* };
}
show_as_is!(bool, u32, u64, usize);

macro_rules! show_word {
    ($($kind:ty: $words:ident),*) => { $(impl Show for $kind {
        fn show(&self) -> String {
            let found = $words.iter().find(|(_, meaning)| meaning == self);
            found.map_or_else(String::new, |(word, _)| quote(word))
        }
    })* };
}
show_word!(
    Anonymous: ANONYMOUS,
    Audience: AUDIENCE,
    Delivery: DELIVERY,
    JoinLeave: JOIN_LEAVE,
    LogFormat: LOG_FORMAT,
    LogLevel: LOG_LEVEL
);

impl Show for String {
    fn show(&self) -> String {
        quote(self)
    }
}

impl Show for PathBuf {
    fn show(&self) -> String {
        quote(&self.to_string_lossy())
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        quote(&show_duration(*self))
    }
}

impl Show for SocketAddr {
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Show for Option<SocketAddr> {
    fn show(&self) -> String {
        self.map_or_else(|| quote(""), |address| address.show())
    }
}

impl Show for IpNet {
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Show for Option<KeyFile> {
    fn show(&self) -> String {
        let path = self.as_ref().map_or(String::new(), |file| file.path().display().to_string());
        quote(&path)
    }
}

impl Show for Secret {
    fn show(&self) -> String {
        quote(if self.is_empty() { "" } else { REDACTED })
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(Show::show).collect();
        format!("[{}]", items.join(", "))
    }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The duration in the largest unit that divides it.
fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (unit, size) =
        UNITS.into_iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / size)
}
