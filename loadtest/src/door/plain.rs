//! The plain door: a WebSocket on `/topics/{topic}`, one frame per publication.

use super::{Door, Found, Next, Opening, Role, websocket::frame};
use crate::http::{self, Site};

/// The plain door. Publishers ask not to hear themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

/// What is asked for.
pub(super) fn path(site: &Site, topic: &str, role: Role) -> String {
    let query = match role {
        Role::Publisher => "?echo=false",
        Role::Subscriber => "",
    };
    site.path(topic, || format!("/topics/{topic}{query}"))
}

impl Door for Plain {
    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        Opening::single(http::handshake(site, &path(site, topic, role), None))
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        frame(received, on, |payload, on| {
            on(Found::Publication(payload));
            Ok(())
        })
    }
}
