//! What several benches need: a hub with one worker's inbox, and something to publish.

use std::sync::Arc;
use std::time::Duration;

use fanwire::hub::{Admission, Draft, Hub, HubParts, Inbox, PayloadKind, Publish, TopicName};
use fanwire::limits::TopicRule;
use fanwire::metrics::Memory;
use fanwire::protocol;
use fanwire::time::Stamp;

/// A hub whose topics keep `history_size` publications.
pub(crate) fn hub(history_size: usize) -> Hub {
    let memory = Arc::new(Memory::new(u64::MAX));
    Hub::new(HubParts {
        rules: vec![TopicRule { history_size, ..TopicRule::default() }],
        meta_ttl: Duration::ZERO,
        inboxes: vec![Arc::new(Inbox::new(Arc::clone(&memory), || {}))],
        variants: Arc::new(protocol::variants(None)),
        memory,
    })
}

/// A checked name.
///
/// # Panics
/// When `text` is no topic name.
pub(crate) fn name(text: &str) -> TopicName {
    TopicName::new(text, 255).expect("a topic name")
}

/// A text publication of 128 bytes.
pub(crate) fn draft() -> Draft {
    let payload = protocol::plain::payload(PayloadKind::Text, &[b'x'; 128]);
    Draft::new(payload)
}

/// Publishes one `draft` as a WebSocket session does.
///
/// # Panics
/// Never: such a publication is always accepted.
pub(crate) fn publish(hub: &Hub, topic: &TopicName, draft: &Draft) {
    let options = Publish::new(Stamp::now(), Admission::Always);
    hub.publish(topic, draft, options).expect("accepted");
}
