//! What is counted per client address: open connections, and handshakes in this second.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::time::Instant;

use crate::rate::Bucket;

/// Addresses that are known without an open connection; of more, handshakes are not limited.
pub const ADDRESSES_COUNT_MAX: usize = 65_536;

/// Bits of an IPv6 address that stand for one client: whoever has one has the rest, too.
const PREFIX_IPV6: u32 = 64;

/// All client addresses that something is known of.
#[derive(Debug)]
pub(super) struct Addresses {
    places: DashMap<IpAddr, Place>,
    /// 0 = no cap.
    connections_max: usize,
    /// Handshakes per second; 0 = no limit.
    rate: u32,
    count_max: usize,
    untracked: AtomicU64,
}

#[derive(Debug, Default)]
struct Place {
    connections: usize,
    handshakes: Bucket,
}

/// One open connection of an address; dropped, it is closed.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(connections_max: usize, rate: u32) -> Self {
        let (places, untracked) = (DashMap::new(), AtomicU64::new(0));
        let count_max = ADDRESSES_COUNT_MAX;
        Self { places, connections_max, rate, count_max, untracked }
    }

    /// Counts a connection in. Returns by how many the address is over its cap with it; `None` =
    /// there is no cap.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<(Counted, usize)> {
        if self.connections_max == 0 {
            return None;
        }
        let address = key(address);
        let mut place = self.places.entry(address).or_default();
        place.connections += 1;
        let excess = place.connections.saturating_sub(self.connections_max);
        Some((Counted { addresses: Arc::clone(self), address }, excess))
    }

    /// Whether the address may make one more handshake now.
    pub(super) fn take_handshake(&self, address: IpAddr, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        let address = key(address);
        if let Some(mut place) = self.places.get_mut(&address) {
            return place.handshakes.take(self.rate, now);
        }
        if self.places.len() >= self.count_max {
            // With so many addresses, a limit for each would not help; for all there are others.
            self.untracked.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        self.places.entry(address).or_default().handshakes.take(self.rate, now)
    }

    /// Forgets addresses without connections that have made no handshake of late.
    pub(super) fn sweep(&self, now: Instant) {
        self.places
            .retain(|_, place| place.connections > 0 || !place.handshakes.is_full(self.rate, now));
    }

    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    pub(super) fn untracked(&self) -> u64 {
        self.untracked.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Entry::Occupied(mut place) = self.addresses.places.entry(self.address) else { return };
        place.get_mut().connections -= 1;
        // The sweep forgets the others.
        if place.get().connections == 0 && !place.get().handshakes.is_used() {
            place.remove();
        }
    }
}

/// What an address is counted under.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::MAX << (Ipv6Addr::BITS - PREFIX_IPV6);
            Ipv6Addr::from_bits(address.to_bits() & prefix).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Addresses;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn handshakes_are_counted_by_address_and_network() {
        let addresses = Addresses::new(0, 2);
        let start = Instant::now();
        let take = |address, millis| {
            addresses.take_handshake(ip(address), start + Duration::from_millis(millis))
        };
        for (address, same) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.2", "::ffff:192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:0:0:2"),
            ("2001:db8:0:1::1", "2001:db8:0:1::1"),
        ] {
            assert!(take(address, 0) && take(same, 0), "{address}");
            assert!(!take(address, 0) && !take(same, 499), "{address}");
            assert!(take(same, 1000), "{address}");
        }
        assert_eq!(addresses.count(), 4);
        addresses.sweep(start + Duration::from_millis(1400));
        assert_eq!(addresses.count(), 4, "none has all of its second back");
        addresses.sweep(start + Duration::from_secs(2));
        assert_eq!(addresses.count(), 0);
    }

    #[test]
    fn a_full_table_limits_nobody_new_and_says_so() {
        let addresses = Addresses { count_max: 2, ..Addresses::new(0, 1) };
        let now = Instant::now();
        let take = |last| addresses.take_handshake(Ipv4Addr::new(192, 0, 2, last).into(), now);
        assert!(take(1) && take(2) && !take(1) && !take(2));
        assert!(take(3) && take(3));
        assert_eq!((addresses.count(), addresses.untracked()), (2, 2));
    }

    #[test]
    fn an_address_is_known_while_it_has_a_connection() {
        let addresses = Arc::new(Addresses::new(1, 1));
        let now = Instant::now();
        let first = addresses.enter(ip("::1")).expect("there is a cap");
        let second = addresses.enter(ip("::2")).expect("there is a cap");
        assert_eq!((first.1, second.1), (0, 1), "one network");
        assert!(addresses.take_handshake(ip("::1"), now));
        drop((first, second));
        assert_eq!(addresses.count(), 1);
        addresses.sweep(now + Duration::from_secs(1));
        assert_eq!(addresses.count(), 0);
        drop(addresses.enter(ip("::1")));
        assert_eq!(addresses.count(), 0, "without handshakes there is nothing to remember");
        assert!(Arc::new(Addresses::new(0, 0)).enter(ip("::1")).is_none());
    }
}
