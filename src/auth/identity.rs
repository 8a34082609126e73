//! What one client may do.

use std::sync::Arc;

use crate::hub::TopicName;
use crate::reason::{Refusal, Refused};

/// One thing that a client can be allowed to do on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Receive publications as they come, and those asked for by position.
    Subscribe,
    /// Send publications.
    Publish,
    /// Read what is kept.
    History,
    /// See who is subscribed.
    Presence,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::History, Self::Presence];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn denied(self) -> &'static str {
        match self {
            Self::Subscribe => "this client may not subscribe to this topic",
            Self::Publish => "this client may not publish to this topic",
            Self::History => "this client may not read the history of this topic",
            Self::Presence => "this client may not see the presence of this topic",
        }
    }
}

/// The rights of one client, on every topic; one byte, as each connection keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// One bit per [`Right`].
    rights: u8,
}

impl Identity {
    /// May do everything, on every topic.
    pub const ALL: Self = Self { rights: (1 << Right::ALL.len()) - 1 };

    /// May do these things, on every topic.
    pub fn with(rights: &[Right]) -> Self {
        Self { rights: rights.iter().fold(0, |bits, right| bits | right.bit()) }
    }

    /// Whether the client may do that on `topic`. Every check of a right is made here.
    pub fn may(self, right: Right, _topic: &TopicName) -> bool {
        self.rights & right.bit() != 0
    }

    /// As [`Identity::may`], for callers that refuse.
    ///
    /// # Errors
    /// [`Refusal::PermissionDenied`] where the client may not.
    pub fn require(self, right: Right, topic: &TopicName) -> Result<(), Refused> {
        if self.may(right, topic) {
            return Ok(());
        }
        Err(Refusal::PermissionDenied.because(right.denied()))
    }

    /// Who the client is: nobody yet, as no credential of this build names a user.
    pub fn user(self) -> Option<Arc<str>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Right};
    use crate::hub::TopicName;
    use crate::reason::Refusal;

    #[test]
    fn an_identity_may_what_it_was_given_and_nothing_else() {
        let topic = TopicName::new("a", 255).expect("a name");
        for given in Right::ALL {
            let identity = Identity::with(&[given]);
            for asked in Right::ALL {
                assert_eq!(identity.may(asked, &topic), asked == given);
                assert_eq!(
                    identity.require(asked, &topic).err().map(|refused| refused.refusal),
                    (asked != given).then_some(Refusal::PermissionDenied),
                );
            }
        }
    }

    #[test]
    fn all_rights_are_each_right() {
        assert_eq!(Identity::with(&Right::ALL), Identity::ALL);
    }

    #[test]
    fn an_identity_fits_a_connection() {
        assert!(size_of::<Identity>() <= 8);
    }
}
