//! How many connections may be open, in all and per address; taken at accept, given back at close.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::reason::Refusal;

/// Connections above the limit that still get an answer; above that, sockets close without one.
pub const REFUSED_CONNECTIONS_MAX: usize = 64;

/// The count of open connections.
#[derive(Debug)]
pub struct Admission {
    open: AtomicUsize,
    count_max: usize,
    /// 0 = no cap.
    per_address_max: usize,
    addresses: DashMap<IpAddr, usize>,
}

/// What a new connection may do.
#[derive(Debug)]
pub enum Entrance {
    /// Everything.
    Admitted(Permit),
    /// Be told why not.
    Refused(Permit, Refusal),
    /// Nothing: too many are being told already.
    Shut(Refusal),
}

/// The place of one open connection; dropped, it is free again.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    /// Boxed: few servers cap addresses, and every connection holds a permit.
    address: Option<Box<IpAddr>>,
}

impl Admission {
    /// Nobody is in. `per_address_max` 0 = no cap.
    pub fn new(count_max: usize, per_address_max: usize) -> Self {
        Self { open: AtomicUsize::new(0), count_max, per_address_max, addresses: DashMap::new() }
    }

    /// Lets a connection from `address` in, if there is room.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Entrance {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let mut permit = Permit { admission: Arc::clone(self), address: None };
        if before >= self.count_max + REFUSED_CONNECTIONS_MAX {
            return Entrance::Shut(Refusal::ConnectionsLimit);
        }
        if before >= self.count_max {
            return Entrance::Refused(permit, Refusal::ConnectionsLimit);
        }
        if self.per_address_max > 0 {
            permit.address = Some(Box::new(address));
            let mut count = self.addresses.entry(address).or_insert(0);
            *count += 1;
            if *count > self.per_address_max + REFUSED_CONNECTIONS_MAX {
                return Entrance::Shut(Refusal::AddressLimit);
            }
            if *count > self.per_address_max {
                return Entrance::Refused(permit, Refusal::AddressLimit);
            }
        }
        Entrance::Admitted(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address.take() else { return };
        if let Entry::Occupied(mut count) = self.admission.addresses.entry(*address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::{Admission, Entrance, REFUSED_CONNECTIONS_MAX};
    use crate::reason::Refusal;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn over_the_limit_some_are_told_and_the_rest_shut_out() {
        let admission = Arc::new(Admission::new(2, 0));
        let entrances: Vec<_> =
            (0..3 + REFUSED_CONNECTIONS_MAX).map(|_| admission.enter(HERE)).collect();
        assert!(matches!(entrances[1], Entrance::Admitted(_)));
        assert!(matches!(entrances[2], Entrance::Refused(_, Refusal::ConnectionsLimit)));
        assert!(matches!(entrances.last(), Some(Entrance::Shut(Refusal::ConnectionsLimit))));
        drop(entrances);
        assert!(matches!(admission.enter(HERE), Entrance::Admitted(_)));
    }

    #[test]
    fn an_address_has_its_own_cap() {
        let admission = Arc::new(Admission::new(100, 1));
        let first = admission.enter(HERE);
        assert!(matches!(admission.enter(HERE), Entrance::Refused(_, Refusal::AddressLimit)));
        let there = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        assert!(matches!(admission.enter(there), Entrance::Admitted(_)));
        drop(first);
        assert!(matches!(admission.enter(HERE), Entrance::Admitted(_)));
    }
}
