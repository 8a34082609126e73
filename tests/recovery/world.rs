//! What all clients of a run share: the server's address, its topics, and how far the run is.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One server and its topics.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) addr: SocketAddr,
    /// The offset of each topic that every client is to reach, once that is known.
    targets: [OnceLock<u64>; Self::TOPICS.len()],
    is_calm: AtomicBool,
    breaks: AtomicUsize,
}

impl World {
    pub(crate) const TOPICS: [&str; 4] = ["deep-a", "deep-b", "deep-c", "short"];

    /// The one that keeps too little for those who stay away.
    pub(crate) const SHORT: usize = 3;

    /// What it keeps.
    pub(crate) const SHORT_COUNT: u64 = 8;

    /// Connections that break at least while publishers publish.
    pub(crate) const BREAKS: usize = 1500;

    /// Publications of each publisher.
    const PUBLICATIONS_MIN: usize = 100;
    const PUBLICATIONS_MAX: usize = 1000;

    pub(crate) const CONFIG: &str = "[[topic]]\nmatch = \"short\"\nhistory_size = 8\n\
        [[topic]]\nmatch = \"*\"\nhistory_size = 100000\nhistory_bytes_max = 100000000\n\
        presence = true\njoin_leave = \"off\"\n";

    pub(crate) fn new(addr: SocketAddr) -> Self {
        let targets = std::array::from_fn(|_| OnceLock::new());
        Self { addr, targets, is_calm: AtomicBool::new(false), breaks: AtomicUsize::new(0) }
    }

    pub(crate) fn target(&self, topic: usize) -> Option<u64> {
        self.targets[topic].get().copied()
    }

    /// Nothing is cut any more that opens from now on, and each topic is to be had up to here.
    pub(crate) fn calm_down(&self, targets: [u64; Self::TOPICS.len()]) {
        self.is_calm.store(true, Ordering::Relaxed);
        for (slot, target) in self.targets.iter().zip(targets) {
            slot.set(target).expect("once");
        }
    }

    /// One more connection broke.
    pub(crate) fn count_break(&self) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the publisher that has published `count` goes on.
    pub(crate) fn needs_more(&self, count: usize) -> bool {
        let is_enough = self.breaks.load(Ordering::Relaxed) >= Self::BREAKS;
        count < Self::PUBLICATIONS_MAX && (count < Self::PUBLICATIONS_MIN || !is_enough)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }
}
