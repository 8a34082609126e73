//! Whose connections these are: an index by user, of connections whose user is known.
//!
//! It is touched when a session begins and ends, never on delivery; clients without a name are not
//! in it and cost nothing.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Worker;
use super::connection::ConnectionKey;
use crate::metrics::MemoryKind;

/// What a connection is charged for its place in the index, the user's share included.
const PLACE_COST: usize = 96;

/// The connections of each user, in the order in which they came.
///
/// Invariant: no user is without a connection.
#[derive(Debug, Default)]
pub(super) struct Users(HashMap<Arc<str>, SmallVec<[ConnectionKey; 2]>>);

impl Users {
    fn add(&mut self, user: &Arc<str>, key: ConnectionKey) {
        self.0.entry(Arc::clone(user)).or_default().push(key);
    }

    /// Takes a connection out. Returns whether it was there. Linear in the user's connections.
    fn remove(&mut self, user: &str, key: ConnectionKey) -> bool {
        let Some(keys) = self.0.get_mut(user) else { return false };
        let Some(at) = keys.iter().position(|one| *one == key) else { return false };
        keys.remove(at);
        if keys.is_empty() {
            self.0.remove(user);
        }
        true
    }

    /// The connections of `user`.
    pub(super) fn of(&self, user: &str) -> Vec<ConnectionKey> {
        self.0.get(user).map(|keys| keys.to_vec()).unwrap_or_default()
    }

    /// All users, each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }
}

impl Worker {
    /// Notes whose a connection is, if anybody knows.
    pub(super) fn add_user(&mut self, key: ConnectionKey) {
        if let Some(user) = self.connections[key.index as usize].user() {
            self.users.add(user, key);
            self.output.memory.charge(MemoryKind::Connections, PLACE_COST);
        }
    }

    /// Forgets whose a connection is.
    pub(super) fn remove_user(&mut self, index: u32) {
        let connection = &self.connections[index as usize];
        if let Some(user) = connection.user()
            && self.users.remove(user, connection.key(index))
        {
            self.output.memory.release(MemoryKind::Connections, PLACE_COST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ConnectionKey, Users};

    #[test]
    fn a_user_is_there_for_as_long_as_a_connection_is() {
        let mut users = Users::default();
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let keys: Vec<_> = (0..4).map(|index| ConnectionKey::new(index, 7)).collect();
        for key in &keys[..3] {
            users.add(&ann, *key);
        }
        users.add(&bob, keys[3]);
        assert_eq!(users.of("ann"), keys[..3]);
        assert!(users.remove("ann", keys[0]));
        assert!(!users.remove("ann", keys[0]), "it is out already");
        assert!(!users.remove("ann", keys[3]), "it is another's");
        assert!(!users.remove("carol", keys[3]));
        assert_eq!(users.of("ann"), keys[1..3]);
        assert!(users.remove("ann", keys[2]) && users.remove("ann", keys[1]));
        assert_eq!(users.iter().collect::<Vec<_>>(), [&bob]);
        assert_eq!(users.of("ann"), []);
    }
}
