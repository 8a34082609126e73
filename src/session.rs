//! What a client's messages mean: protocol state over one connection, no I/O.

use crate::auth::{Identity, Right};
use crate::hub::TopicName;
use crate::reason::CloseReason;

/// The state of one session of the plain door.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    identity: Identity,
}

/// What the connection's owner is to do with a message.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Publish it to the session's topic.
    Publish,
    /// Close the connection.
    Close(CloseReason),
}

impl Session {
    /// A session with the rights of `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// Who the client is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Every data message of the plain door is a publication, if the client may publish.
    pub fn on_message(&self, topic: &TopicName) -> Action {
        if self.identity.may(Right::Publish, topic) {
            Action::Publish
        } else {
            Action::Close(CloseReason::PermissionDenied)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Session};
    use crate::auth::{Identity, Right};
    use crate::hub::TopicName;
    use crate::reason::CloseReason;

    #[test]
    fn a_message_without_the_right_to_publish_closes() {
        let topic = TopicName::new("a", 255).expect("a name");
        let denied = Action::Close(CloseReason::PermissionDenied);
        for (rights, expected) in [
            (&[Right::Subscribe, Right::Publish][..], Action::Publish),
            (&[Right::Subscribe][..], denied),
        ] {
            assert_eq!(Session::new(Identity::with(rights)).on_message(&topic), expected);
        }
    }
}
