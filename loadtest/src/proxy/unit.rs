//! Rates and thresholds as the command line writes them. All units are decimal.

use std::time::Duration;

use crate::cli::duration;

/// Higher rates and thresholds are typing errors.
const BYTES_MAX: u64 = 1 << 40;

/// Bytes per second, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(u64);

impl Rate {
    /// Reads `1mbit`, `64kbit`, `100KB` or `2MB`, each per second.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bits = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
        let rate = match number_in(text, &bits) {
            Some(bits) => Some(bits / 8),
            None => bytes(text),
        };
        match rate {
            Some(rate @ 1..=BYTES_MAX) => Ok(Self(rate)),
            _ => Err("a rate is a whole number with kbit, mbit, gbit, KB or MB".to_owned()),
        }
    }

    /// How long `len` bytes take.
    pub(super) fn time_of(self, len: usize) -> Duration {
        let nanos = len as u128 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes `time` is good for.
    pub(super) fn len_in(self, time: Duration) -> usize {
        let len = time.as_nanos() * u128::from(self.0) / 1_000_000_000;
        usize::try_from(len).unwrap_or(usize::MAX)
    }
}

/// When a connection meets its fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// This many bytes were forwarded in one of the directions.
    Bytes(u64),
    /// So long after it was accepted.
    Time(Duration),
}

impl After {
    /// Reads `64KB`, `10B` or `5s`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match bytes(text) {
            Some(count @ 0..=BYTES_MAX) => Ok(Self::Bytes(count)),
            Some(_) => Err(format!("{BYTES_MAX} bytes at most")),
            None => duration(text).map(Self::Time),
        }
    }
}

fn bytes(text: &str) -> Option<u64> {
    number_in(text, &[("KB", 1_000), ("MB", 1_000_000), ("B", 1)])
}

/// The number before the first of `units` that `text` ends with, times that unit.
fn number_in(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bits_or_bytes_per_second() {
        for (text, per_second) in [
            ("1mbit", 125_000),
            ("64kbit", 8_000),
            ("1gbit", 125_000_000),
            ("100KB", 100_000),
            ("2MB", 2_000_000),
            ("1B", 1),
        ] {
            assert_eq!(Rate::parse(text), Ok(Rate(per_second)), "{text}");
        }
        for bad in ["", "0KB", "mbit", "1.5mbit", "-1KB", "5", "5s", "1Mbit", "99999999999999MB"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_turns_bytes_into_time_and_back() {
        let rate = Rate(125_000);
        assert_eq!(rate.time_of(125), Duration::from_millis(1));
        assert_eq!(rate.len_in(Duration::from_secs(2)), 250_000);
        assert_eq!(Rate(1).len_in(Duration::from_millis(999)), 0);
    }

    #[test]
    fn thresholds_are_bytes_or_a_time() {
        for (text, after) in [
            ("64KB", After::Bytes(64_000)),
            ("0B", After::Bytes(0)),
            ("1MB", After::Bytes(1_000_000)),
            ("5s", After::Time(Duration::from_secs(5))),
            ("1m 250ms", After::Time(Duration::from_millis(60_250))),
        ] {
            assert_eq!(After::parse(text), Ok(after), "{text}");
        }
        for bad in ["", "64", "KB", "-1KB", "2h", "64 KB"] {
            assert!(After::parse(bad).is_err(), "{bad}");
        }
    }
}
