//! What the kernel says about this host; nothing is changed.

use std::fs;
use std::num::NonZero;

use nix::sys::resource::{Resource, getrlimit};

use crate::server;

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
            memory: server::host::memory(),
        }
    }
}

/// The numbers of a sysctl.
fn numbers(name: &str) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    let words = text.split_whitespace();
    words.map_while(|word| word.parse().ok()).collect()
}
