//! What the kernel says about this process: `process_*` of `/metrics`.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;

/// One reading.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    #[serde(serialize_with = "super::stats::seconds")]
    pub(super) cpu_seconds: Duration,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
    pub(super) threads: u64,
}

impl Process {
    /// Reads `/proc/self` and the resource limits. Linear in descriptors only before Linux 6.2.
    ///
    /// # Errors
    /// When `/proc` is not mounted or does not have what Linux promises.
    pub(super) fn read() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Self {
            cpu_seconds: duration(usage.user_time()) + duration(usage.system_time()),
            resident_bytes: number(&status, "VmRSS:")? * 1024,
            virtual_bytes: number(&status, "VmSize:")? * 1024,
            open_fds: open_fds()?,
            max_fds: getrlimit(Resource::RLIMIT_NOFILE)?.0,
            threads: number(&status, "Threads:")?,
        })
    }
}

/// Descriptors of the main thread's table; a worker with a private table has its own.
fn open_fds() -> io::Result<u64> {
    // Since Linux 6.2 the directory's size is the count; listing a million entries is slow.
    match fs::metadata("/proc/self/fd")?.len() {
        // The listing itself holds one descriptor.
        0 => Ok((fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1)),
        count => Ok(count),
    }
}

/// The number behind `key` in `/proc/self/status`; sizes are in KiB there.
fn number(status: &str, key: &str) -> io::Result<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/self/status has no {key}")))
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn the_kernel_tells_all_about_this_process() {
        let process = Process::read().expect("/proc is mounted");
        assert!(process.resident_bytes > 100_000);
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds >= 3 && process.open_fds <= process.max_fds);
        assert!(process.threads >= 1);
    }
}
