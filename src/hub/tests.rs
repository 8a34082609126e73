//! Order, recovery and forgetting, against the words of the contract.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Admission, CatchUp, Derive, Draft, Epoch, Hub, HubParts, IDEMPOTENCY_TTL, INBOX_LEN_MAX, Inbox,
    Joined, Payload, PayloadKind, Publication, Publish, PublishError, Published, Since, Start,
    TopicName, Variant, VariantId, Variants,
};
use crate::id::WorkerId;
use crate::limits::TopicRule;
use crate::metrics::{Memory, MemoryKind};
use crate::time::Stamp;

const WORKER: WorkerId = WorkerId(0);

fn hub(rule: TopicRule, workers: usize) -> Hub {
    hub_with_memory(rule, workers, Memory::new(u64::MAX))
}

fn hub_with_memory(rule: TopicRule, workers: usize, memory: Memory) -> Hub {
    let memory = Arc::new(memory);
    let inbox = || Arc::new(Inbox::new(Arc::clone(&memory), || {}));
    let native = Variant::new("native", |one, _| one.payload().framed().clone());
    Hub::new(HubParts {
        rules: vec![rule],
        meta_ttl: Duration::from_mins(1),
        inboxes: (0..workers).map(|_| inbox()).collect(),
        variants: Arc::new(Variants::new([native])),
        memory: Arc::clone(&memory),
    })
}

fn name(name: &str) -> TopicName {
    TopicName::new(name, 255).expect("a topic name")
}

fn draft(data: &[u8]) -> Draft {
    let payload = Payload::from_framed(Bytes::copy_from_slice(data), 0, PayloadKind::Binary);
    Draft { payload, session: None, publisher: None }
}

fn publish_with(
    hub: &Hub,
    topic: &str,
    len: usize,
    idempotency_key: Option<&str>,
) -> Result<Published, PublishError> {
    let options = Publish { now: Stamp::now(), admission: Admission::IfRoom, idempotency_key };
    hub.publish(&name(topic), &draft(&vec![0; len]), options)
}

/// Publishes and returns the offset; 0 where none is shown.
fn publish(hub: &Hub, topic: &str, len: usize) -> u64 {
    let published = publish_with(hub, topic, len, None).expect("there is room");
    published.position.map_or(0, |position| position.offset)
}

fn subscribe(hub: &Hub, topic: &str, start: Start) -> Joined {
    let (topic, joined) = hub.subscribe(&name(topic), WORKER, start, |_| 0);
    topic.unsubscribe(WORKER);
    joined
}

fn epoch_of(hub: &Hub, topic: &str) -> Option<Epoch> {
    hub.page(&name(topic), None, 0).map(|page| page.top.epoch)
}

#[test]
fn a_position_is_recovered_iff_everything_after_it_is_still_there() {
    let hub = hub(TopicRule { history_size: 3, ..TopicRule::default() }, 1);
    for offset in 1..=5 {
        assert_eq!(publish(&hub, "a", 1), offset);
    }
    let epoch = epoch_of(&hub, "a");
    let other = Epoch::parse("other");
    let since = |epoch, offset| Start::Since(Since { epoch, offset });
    for (start, next, recovered) in [
        (Start::Live, 6, None),
        (Start::Unknown, 6, Some(false)),
        (Start::Last(0), 6, None),
        (Start::Last(2), 4, None),
        (Start::Last(99), 3, None),
        (since(epoch, 5), 6, Some(true)),
        (since(epoch, 3), 4, Some(true)),
        (since(epoch, 2), 3, Some(true)),
        (since(epoch, 1), 6, Some(false)),
        (since(epoch, 0), 6, Some(false)),
        (since(epoch, 6), 6, Some(false)),
        (since(epoch, u64::MAX), 6, Some(false)),
        (since(None, 2), 3, Some(true)),
        (since(other, 5), 6, Some(false)),
    ] {
        let joined = subscribe(&hub, "a", start);
        assert_eq!((joined.next, joined.recovered), (next, recovered), "{start:?}");
        assert_eq!(joined.position.map(|position| position.offset), Some(next - 1));
    }
}

#[test]
fn without_history_no_position_is_shown_and_none_is_recovered() {
    let hub = hub(TopicRule { history_size: 0, ..TopicRule::default() }, 1);
    assert_eq!(publish(&hub, "a", 1), 0);
    let since = Start::Since(Since { epoch: None, offset: 1 });
    let joined = subscribe(&hub, "a", since);
    assert_eq!((joined.position, joined.recovered), (None, Some(false)));
}

#[test]
fn history_is_trimmed_by_count_by_bytes_and_by_age() {
    let kept = |rule: TopicRule, lens: &[usize]| {
        let hub = hub(rule, 1);
        for len in lens {
            publish(&hub, "a", *len);
        }
        let page = hub.page(&name("a"), None, 100).expect("the topic is known");
        page.publications.iter().map(|one| one.sequence).collect::<Vec<_>>()
    };
    let rule = TopicRule::default;
    assert_eq!(kept(TopicRule { history_size: 2, ..rule() }, &[1, 1, 1]), [2, 3]);
    assert_eq!(kept(TopicRule { history_bytes_max: 10, ..rule() }, &[4, 6, 4]), [2, 3]);
    assert_eq!(kept(TopicRule { history_bytes_max: 10, ..rule() }, &[4, 11]), [0; 0]);
    assert_eq!(kept(TopicRule { history_ttl: Duration::ZERO, ..rule() }, &[1, 1]), [0; 0]);
}

#[test]
fn catching_up_reads_pieces_until_the_top() {
    let hub = hub(TopicRule { history_size: 3, ..TopicRule::default() }, 1);
    for _ in 0..5 {
        publish(&hub, "a", 10);
    }
    let (topic, _) = hub.subscribe(&name("a"), WORKER, Start::Live, |_| 0);
    let sequences = |next| match topic.catch_up(next, 20) {
        CatchUp::Behind(page) => page.iter().map(|one| one.sequence).collect(),
        CatchUp::Trimmed { oldest } => vec![0, oldest],
        CatchUp::Live => Vec::new(),
    };
    assert_eq!(sequences(3), [3, 4]);
    assert_eq!(sequences(5), [5]);
    assert_eq!(sequences(6), [0; 0]);
    assert_eq!(sequences(2), [0, 3]);
}

#[test]
fn a_repeated_idempotency_key_publishes_nothing() {
    let hub = hub(TopicRule::default(), 1);
    let first = publish_with(&hub, "a", 1, Some("k")).expect("there is room");
    let second = publish_with(&hub, "a", 1, Some("k")).expect("there is room");
    assert_eq!(second, Published { duplicate: true, ..first });
    assert_eq!(publish(&hub, "a", 1), 2);
    assert!(!publish_with(&hub, "b", 1, Some("k")).expect("there is room").duplicate);
}

#[test]
fn a_full_inbox_refuses_before_the_sequence_is_given() {
    let hub = hub(TopicRule::default(), 1);
    let (_, _) = hub.subscribe(&name("a"), WORKER, Start::Live, |_| 7);
    assert_eq!(publish(&hub, "a", INBOX_LEN_MAX), 1);
    assert_eq!(publish_with(&hub, "a", 1, None), Err(PublishError::Overrun));
    assert_eq!(publish(&hub, "b", 1), 1, "nobody of that worker subscribes to it");
    let inbox = hub.inbox(WORKER);
    let arrival = inbox.pop().expect("the first is there");
    assert_eq!(arrival.local, 7);
    assert!(inbox.release(&arrival.publication), "that makes room");
    assert_eq!(publish(&hub, "a", 1), 2);
}

#[test]
fn publishers_on_many_threads_reach_every_inbox_in_one_order() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 500;
    let hub = hub(TopicRule { history_size: 0, ..TopicRule::default() }, 2);
    for worker in [WorkerId(0), WorkerId(1)] {
        hub.subscribe(&name("a"), worker, Start::Live, |_| 0);
    }
    std::thread::scope(|scope| {
        for _ in 0..PUBLISHERS {
            scope.spawn(|| (0..EACH).map(|_| publish(&hub, "a", 1)).sum::<u64>());
        }
    });
    for inbox in hub.inboxes() {
        let sequences = std::iter::from_fn(|| inbox.pop()).map(|one| one.publication.sequence);
        assert!(sequences.eq(1..=(PUBLISHERS * EACH) as u64));
    }
}

#[test]
fn a_forgotten_topic_keeps_its_position_and_an_idle_one_is_forgotten() {
    let ttl = Duration::from_millis(100);
    let hub = hub(TopicRule { history_ttl: ttl, ..TopicRule::default() }, 1);
    publish(&hub, "a", 1);
    publish(&hub, "a", 1);
    let epoch = epoch_of(&hub, "a");
    let (watched, _) = hub.subscribe(&name("watched"), WORKER, Start::Live, |_| 0);
    let later = Instant::now() + Duration::from_secs(20);
    hub.sweep(later);
    assert_eq!(hub.topic_count(), 1, "only the one with a subscriber is left");
    assert!(hub.memory().held(MemoryKind::History) < 200, "only the position is kept");
    let page = hub.page(&name("a"), Some(Since { epoch, offset: 2 }), 10).expect("remembered");
    assert_eq!((page.top.offset, page.recovered), (2, Some(true)));
    let page = hub.page(&name("a"), Some(Since { epoch, offset: 1 }), 10).expect("remembered");
    assert_eq!(page.recovered, Some(false));
    assert_eq!(hub.topic_count(), 1, "reading makes no topic");
    assert_eq!(publish(&hub, "a", 1), 3, "the stream goes on");
    assert_eq!(epoch_of(&hub, "a"), epoch);
    watched.unsubscribe(WORKER);
    hub.sweep(later + Duration::from_mins(2));
    hub.sweep(later + Duration::from_mins(4));
    assert_eq!(hub.topic_count(), 0);
    assert!(hub.page(&name("a"), None, 0).is_none(), "past meta_ttl nothing is known");
}

#[test]
fn keys_are_charged_until_they_expire() {
    let rule = TopicRule { history_size: 0, ..TopicRule::default() };
    let hub = hub(rule, 1);
    let held = || hub.memory().held(MemoryKind::History);
    for number in 0..100 {
        let key = format!("{number:0100}");
        publish_with(&hub, "a", 1, Some(&key)).expect("there is room");
    }
    assert!(held() >= 100 * 100, "{} bytes for 100 keys of 100 bytes", held());
    hub.sweep(Instant::now() + IDEMPOTENCY_TTL + Duration::from_secs(20));
    assert_eq!(held(), 0);
}

#[test]
fn encodings_are_charged_as_long_as_their_publication_lives() {
    let memory = Arc::new(Memory::new(u64::MAX));
    let held = || memory.held(MemoryKind::History);
    let native = Variant::new("native", |one, _| one.payload().framed().clone());
    let short = Variant::new("short", |_, _| Bytes::from_static(&[0; 10]));
    let long = Variant::new("long", |_, _| Bytes::from_static(&[0; 1000]));
    let variants = Variants::new([native, short, long]);
    let publication = Publication::new((1, None), Stamp::now(), draft(b"x"), Arc::clone(&memory));
    for (variant, expected) in [(0, 0), (1, 10), (2, 1010), (1, 1010)] {
        publication.encoded(VariantId::new(variant), &name("a"), &variants);
        assert_eq!(held(), expected, "after variant {variant}");
    }
    drop(publication);
    assert_eq!(held(), 0);
}

/// Keeps the first byte, unless there is but one.
#[derive(Debug)]
struct First;

impl Derive for First {
    fn derive(&self, base: &[u8]) -> Option<Bytes> {
        (base.len() > 1).then(|| Bytes::copy_from_slice(&base[..1]))
    }
}

#[test]
fn a_derived_variant_is_made_once_or_shares_the_bytes_of_its_base() {
    let memory = Arc::new(Memory::new(u64::MAX));
    let held = || memory.held(MemoryKind::History);
    let (long, of_native, of_long) = (VariantId::new(1), VariantId::new(2), VariantId::new(3));
    let variants = Variants::new([
        Variant::new("native", |one, _| one.payload().framed().clone()),
        Variant::new("long", |_, _| Bytes::from_static(b"long")),
        Variant::derived("of_native", VariantId::NATIVE, First),
        Variant::derived("of_long", long, First),
    ]);
    let publication = Publication::new((1, None), Stamp::now(), draft(b"x"), Arc::clone(&memory));
    let encoded = |variant| publication.encoded(variant, &name("a"), &variants);
    let framed = publication.payload().framed();
    for _ in 0..2 {
        assert_eq!(encoded(of_native).as_ptr(), framed.as_ptr(), "not even copied");
    }
    assert_eq!(held(), 0, "and not charged");
    for (variant, expected) in [(of_long, "l"), (long, "long"), (of_native, "x"), (of_long, "l")] {
        assert_eq!(encoded(variant), expected);
    }
    let counts: Vec<_> = variants.encodings().map(|(_, count)| count).collect();
    assert_eq!(counts, [0, 1, 0, 1], "each made once, and counted only when made");
    assert_eq!(held(), 5);
    drop(publication);
    assert_eq!(held(), 0);
}

#[test]
fn at_the_memory_limit_nothing_is_published_and_no_topic_is_made() {
    let hub = hub_with_memory(TopicRule::default(), 1, Memory::new(100_000));
    let (topic, _) = hub.subscribe(&name("a"), WORKER, Start::Live, |_| 0);
    publish(&hub, "a", 100_000);
    assert_eq!(publish_with(&hub, "b", 1, None), Err(PublishError::Memory));
    assert_eq!(hub.topic_count(), 1);
    let (now, admission) = (Stamp::now(), Admission::Always);
    let options = Publish { now, admission, idempotency_key: None };
    let refused = hub.publish_to(&topic, draft(b"x"), options);
    assert_eq!(refused, Err(PublishError::Memory), "however it was received");
}
