//! What a client's messages mean: protocol state over one connection, no I/O.

use crate::auth::{Right, Rights};
use crate::reason::CloseReason;

/// The state of one session of the plain door.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// What it may do on its topic.
    rights: Rights,
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
    /// A session that has these rights on its topic.
    pub fn new(rights: Rights) -> Self {
        Self { rights }
    }

    /// Every data message of the plain door is a publication, if the client may publish.
    pub fn on_message(self) -> Action {
        if self.rights.has(Right::Publish) {
            Action::Publish
        } else {
            Action::Close(CloseReason::PermissionDenied)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Session};
    use crate::auth::{Right, Rights};
    use crate::reason::CloseReason;

    #[test]
    fn a_message_without_the_right_to_publish_closes() {
        let denied = Action::Close(CloseReason::PermissionDenied);
        for (rights, expected) in [
            (&[Right::Subscribe, Right::Publish][..], Action::Publish),
            (&[Right::Subscribe][..], denied),
        ] {
            let rights: Rights = rights.iter().copied().collect();
            assert_eq!(Session::new(rights).on_message(), expected);
        }
    }
}
