//! What the kernel says about this host; nothing is changed.

use std::fs;
use std::num::NonZero;

use nix::sys::resource::{Resource, getrlimit};

/// Unit of `net.ipv4.tcp_mem`; 4 KiB on every machine that Fanwire is built for.
pub(super) const PAGE_LEN: u64 = 4096;

/// The host's limits; `None` = the kernel does not say.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) cores: u64,
    /// Soft and hard limit of descriptors.
    pub(super) descriptors: (u64, u64),
    pub(super) nr_open: Option<u64>,
    pub(super) file_max: Option<u64>,
    pub(super) somaxconn: Option<u64>,
    /// Ports for outgoing connections.
    pub(super) local_ports: Option<u64>,
    /// Bytes that TCP may take at most.
    pub(super) tcp_memory: Option<u64>,
    /// Bytes of the machine or cgroup, whichever is less.
    pub(super) memory: Option<u64>,
}

impl Host {
    pub(super) fn read() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            cores: cores as u64,
            descriptors: getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX)),
            nr_open: numbers("fs/nr_open").first().copied(),
            file_max: numbers("fs/file-max").first().copied(),
            somaxconn: numbers("net/core/somaxconn").first().copied(),
            local_ports: match numbers("net/ipv4/ip_local_port_range")[..] {
                [first, last] => Some(last.saturating_sub(first) + 1),
                _ => None,
            },
            tcp_memory: numbers("net/ipv4/tcp_mem")
                .last()
                .map(|pages| pages.saturating_mul(PAGE_LEN)),
            memory: [machine_memory(), cgroup_memory()].into_iter().flatten().min(),
        }
    }
}

/// The numbers of a sysctl.
fn numbers(name: &str) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    let words = text.split_whitespace();
    words.map_while(|word| word.parse().ok()).collect()
}

fn machine_memory() -> Option<u64> {
    memory_total(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The limit of our cgroup (version 2); `max` is none.
fn cgroup_memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limit = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max"));
    let limit = limit.or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory.max"));
    limit.ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::memory_total;

    #[test]
    fn the_machines_memory_is_in_kib() {
        let meminfo = "MemTotal:       16384 kB\nMemFree:         1 kB\n";
        assert_eq!(memory_total(meminfo), Some(16_777_216));
        assert_eq!(memory_total("MemFree: 1 kB"), None);
    }
}
