//! How many connections may be open, in all and per address; taken at accept, given back at close.

mod address;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

pub use address::ADDRESSES_COUNT_MAX;

use crate::limits::Limits;
use crate::reason::Refusal;
use address::{Addresses, Counted};

/// Connections above the limit that still get an answer; above that, sockets close without one.
pub const REFUSED_CONNECTIONS_MAX: usize = 64;

/// The count of open connections.
#[derive(Debug)]
pub struct Admission {
    open: AtomicUsize,
    count_max: usize,
    addresses: Arc<Addresses>,
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
    address: Option<AddressPermit>,
}

// Boxed: few servers cap addresses, and every connection has room for one.
/// The place of one client among those of its address; dropped, it is free again.
#[derive(Debug)]
pub struct AddressPermit(#[expect(dead_code, reason = "held for its drop")] Box<Counted>);

impl Admission {
    /// Nobody is in. `count_max` is what `limits` come to on this machine.
    pub fn new(count_max: usize, limits: &Limits) -> Self {
        let rate = limits.handshake_rate_per_address_max;
        let addresses = Arc::new(Addresses::new(limits.connections_per_address_max, rate));
        Self { open: AtomicUsize::new(0), count_max, addresses }
    }

    /// Lets a connection in, if there is room. `address` is its client's; `None` = a trusted proxy's,
    /// whose clients are counted as they show ([`Admission::enter_address`]).
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Entrance {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let mut permit = Permit { admission: Arc::clone(self), address: None };
        if before >= self.count_max + REFUSED_CONNECTIONS_MAX {
            return Entrance::Shut(Refusal::ConnectionsLimit);
        }
        if before >= self.count_max {
            return Entrance::Refused(permit, Refusal::ConnectionsLimit);
        }
        let counted = address.and_then(|address| self.addresses.enter(address));
        let Some((counted, excess)) = counted else { return Entrance::Admitted(permit) };
        if excess > REFUSED_CONNECTIONS_MAX {
            return Entrance::Shut(Refusal::AddressLimit);
        }
        permit.address = Some(AddressPermit(Box::new(counted)));
        match excess {
            0 => Entrance::Admitted(permit),
            _ => Entrance::Refused(permit, Refusal::AddressLimit),
        }
    }

    /// Counts a client of a trusted proxy in. `None` = there is no cap.
    ///
    /// # Errors
    /// [`Refusal::AddressLimit`] where its address has as many as it may.
    pub fn enter_address(&self, address: IpAddr) -> Result<Option<AddressPermit>, Refusal> {
        match self.addresses.enter(address) {
            None => Ok(None),
            Some((counted, 0)) => Ok(Some(AddressPermit(Box::new(counted)))),
            Some(_) => Err(Refusal::AddressLimit),
        }
    }

    /// Whether the address may make one more handshake in this second.
    #[must_use]
    pub fn take_handshake(&self, address: IpAddr, now: Instant) -> bool {
        self.addresses.take_handshake(address, now)
    }

    /// Forgets addresses that nothing is known of any more; to be called about once a second.
    pub fn sweep(&self, now: Instant) {
        self.addresses.sweep(now);
    }

    /// Addresses that something is known of.
    pub fn address_count(&self) -> usize {
        self.addresses.count()
    }

    /// Handshakes that were let pass because too many addresses were known already.
    pub fn untracked_count(&self) -> u64 {
        self.addresses.untracked()
    }
}

impl Permit {
    /// Keeps the place of the client that the connection now belongs to.
    pub fn hold(&mut self, address: Option<AddressPermit>) {
        if address.is_some() {
            self.address = address;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::{Admission, Entrance, REFUSED_CONNECTIONS_MAX};
    use crate::limits::Limits;
    use crate::reason::Refusal;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn admission(count_max: usize, connections_per_address_max: usize) -> Arc<Admission> {
        let limits = Limits { connections_per_address_max, ..Limits::default() };
        Arc::new(Admission::new(count_max, &limits))
    }

    #[test]
    fn over_the_limit_some_are_told_and_the_rest_shut_out() {
        let admission = admission(2, 0);
        let entrances: Vec<_> =
            (0..3 + REFUSED_CONNECTIONS_MAX).map(|_| admission.enter(Some(HERE))).collect();
        assert!(matches!(entrances[1], Entrance::Admitted(_)));
        assert!(matches!(entrances[2], Entrance::Refused(_, Refusal::ConnectionsLimit)));
        assert!(matches!(entrances.last(), Some(Entrance::Shut(Refusal::ConnectionsLimit))));
        drop(entrances);
        assert!(matches!(admission.enter(Some(HERE)), Entrance::Admitted(_)));
    }

    #[test]
    fn an_address_has_its_own_cap() {
        let admission = admission(100, 1);
        let first = admission.enter(Some(HERE));
        assert!(matches!(admission.enter(Some(HERE)), Entrance::Refused(_, Refusal::AddressLimit)));
        let there = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        assert!(matches!(admission.enter(Some(there)), Entrance::Admitted(_)));
        drop(first);
        assert!(matches!(admission.enter(Some(HERE)), Entrance::Admitted(_)));
    }

    #[test]
    fn clients_of_a_proxy_are_counted_as_they_show() {
        let admission = admission(100, 1);
        let Entrance::Admitted(mut first) = admission.enter(None) else { panic!("there is room") };
        assert!(matches!(admission.enter(None), Entrance::Admitted(_)), "it may have many clients");
        let client = admission.enter_address(HERE).expect("it is the first");
        assert_eq!(admission.enter_address(HERE).err(), Some(Refusal::AddressLimit));
        first.hold(client);
        first.hold(None);
        assert_eq!(admission.enter_address(HERE).err(), Some(Refusal::AddressLimit));
        assert!(matches!(admission.enter(Some(HERE)), Entrance::Refused(_, Refusal::AddressLimit)));
        drop(first);
        assert!(admission.enter_address(HERE).is_ok());
        assert_eq!(admission.address_count(), 0);
    }
}
