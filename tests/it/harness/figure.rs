//! Figures that a test prints beside what it asserts.

use std::fmt::Arguments;
use std::io::Write;
use std::time::Duration;

/// Writes a line that is shown although the test passes. Nothing is asserted about figures.
pub(crate) fn figure(id: &str, text: Arguments<'_>) {
    let line = format!("{id}: {text}\n");
    // Whoever closed our standard error does not want to see it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The time that `percent` of `times` did not exceed.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or_default()
}

#[test]
fn a_percentile_is_one_of_the_times() {
    let mut times: Vec<_> = (1..=100).rev().map(Duration::from_secs).collect();
    assert_eq!(percentile(&mut times, 50), Duration::from_secs(51));
    assert_eq!(percentile(&mut times, 99), Duration::from_secs(100));
    assert_eq!(percentile(&mut times[..1], 99), Duration::from_secs(1));
}
