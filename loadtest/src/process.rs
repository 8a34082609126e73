//! What a process has used, from `/proc`.

use std::{
    fs,
    ops::{AddAssign, Sub},
    time::Duration,
};

use anyhow::Context as _;

/// `USER_HZ`, the unit of `/proc/PID/stat`: 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time and memory of a process, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time of all threads, those that have ended included.
    pub(crate) cpu: Duration,
    /// Time in which its threads could have run, but others had their cores.
    pub(crate) waited: Duration,
    pub(crate) rss_bytes: u64,
    /// The part of `rss_bytes` that no file backs: heap and stacks.
    pub(crate) anonymous_bytes: u64,
}

impl Usage {
    /// Reads the sum of `pids`; `None` without any.
    ///
    /// # Errors
    /// One of them does not run.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Option<Self>> {
        let mut sum = Self::default();
        for pid in pids {
            let read = |name| {
                let path = format!("/proc/{pid}/{name}");
                fs::read_to_string(&path).with_context(|| format!("--pid {pid}: reading {path}"))
            };
            sum += parse(&read("stat")?, &read("status")?)
                .with_context(|| format!("--pid {pid}: /proc says something unknown"))?;
            sum.waited += waited(*pid);
        }
        Ok((!pids.is_empty()).then_some(sum))
    }

    /// Reads this process.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Ok(Self::of(&[std::process::id()])?.unwrap_or_default())
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.waited += other.waited;
        self.rss_bytes += other.rss_bytes;
        self.anonymous_bytes += other.anonymous_bytes;
    }
}

impl Sub for Usage {
    type Output = Self;

    /// The growth; memory that was given back counts as none.
    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            waited: self.waited.saturating_sub(earlier.waited),
            rss_bytes: self.rss_bytes.saturating_sub(earlier.rss_bytes),
            anonymous_bytes: self.anonymous_bytes.saturating_sub(earlier.anonymous_bytes),
        }
    }
}

/// Memory of `pids`, each page by the share of it that is theirs. It walks all their pages, so it is
/// not for a loop; 0 where the system does not tell.
pub(crate) fn pss_bytes(pids: &[u32]) -> u64 {
    let of = |pid: &u32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    pids.iter().filter_map(of).sum()
}

/// The second figure of every thread's `schedstat`; a kernel without it says nothing.
fn waited(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos =
        |path| -> Option<u64> { fs::read_to_string(path).ok()?.split(' ').nth(1)?.parse().ok() };
    Duration::from_nanos(threads.filter_map(|thread| nanos(thread.path().join("schedstat"))).sum())
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Usage {
        cpu: Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND),
        waited: Duration::ZERO,
        rss_bytes: kibibytes("VmRSS:")? * 1_024,
        anonymous_bytes: kibibytes("RssAnon:")? * 1_024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_process_names_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 125 0 0 20 0 1 0 100 0 0";
        let status = "Name:\ta\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\n";
        let usage = parse(stat, status).expect("well-formed");
        assert_eq!(usage.cpu, Duration::from_millis(3_750));
        assert_eq!((usage.rss_bytes, usage.anonymous_bytes), (2 << 20, 1 << 20));
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_named() {
        let rss_bytes = Usage::own().expect("runs").rss_bytes;
        assert!(rss_bytes > 0);
        assert!((1..=rss_bytes * 2).contains(&pss_bytes(&[std::process::id()])));
        assert_eq!(pss_bytes(&[u32::MAX]), 0);
        let error = Usage::of(&[u32::MAX]).expect_err("no such process");
        assert!(error.to_string().contains("4294967295"));
        assert_eq!(Usage::of(&[]).expect("nothing to read"), None);
    }
}
