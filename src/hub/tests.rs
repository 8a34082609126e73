//! Order, recovery and forgetting, against the words of the contract.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Admission, CatchUp, Derive, Draft, Epoch, Hub, HubParts, IDEMPOTENCY_TTL, INBOX_LEN_MAX, Inbox,
    Joined, Payload, PayloadKind, Publication, Publish, PublishError, Published, Reach, Since,
    Start, TopicName, Variant, VariantId, Variants, Version,
};
use crate::id::WorkerId;
use crate::limits::TopicRule;
use crate::metrics::{Memory, MemoryKind, Shed};
use crate::time::Stamp;

const WORKER: WorkerId = WorkerId(0);

/// What a topic costs beside what it keeps: more than any of these tests' names need.
const TOPIC_COST: usize = 1000;

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
    Draft::new(payload)
}

fn publish_with(
    hub: &Hub,
    topic: &str,
    len: usize,
    idempotency_key: Option<&str>,
) -> Result<Published, PublishError> {
    let options = Publish { idempotency_key, ..Publish::new(Stamp::now(), Admission::IfRoom) };
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
    assert_eq!((first.sequence, second), (1, Published { duplicate: true, ..first }));
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
    let options = Publish::new(now, admission);
    let refused = hub.publish_to(&topic, draft(b"x"), options);
    assert_eq!(refused, Err(PublishError::Memory), "however it was received");
}

#[test]
fn once_the_server_drains_requests_are_refused_under_the_topics_lock() {
    let hub = hub(TopicRule::default(), 1);
    let (topic, _) = hub.subscribe(&name("a"), WORKER, Start::Live, |_| 0);
    publish_with(&hub, "a", 1, Some("key")).expect("it serves");
    hub.drain().begin(Instant::now(), Duration::from_secs(1));
    assert_eq!(publish_with(&hub, "a", 1, None), Err(PublishError::Draining));
    let repeat = publish_with(&hub, "a", 1, Some("key")).expect("an old answer is given again");
    assert!(repeat.duplicate);
    assert_eq!(topic.top(), 1, "who left since then has everything");
    let (now, admission) = (Stamp::now(), Admission::Always);
    let options = Publish::new(now, admission);
    hub.publish_to(&topic, draft(b"x"), options).expect("a session is served until it leaves");
}

/// Offsets that are kept of a topic.
fn kept(hub: &Hub, topic: &str) -> Vec<u64> {
    let page = hub.page(&name(topic), None, 1000);
    page.map_or(Vec::new(), |page| page.publications.iter().map(|one| one.sequence).collect())
}

#[test]
fn removed_history_is_given_back_and_the_order_goes_on() {
    let hub = hub(TopicRule::default(), 1);
    let held = || hub.memory().held(MemoryKind::History);
    hub.remove_history(&name("a"));
    assert_eq!(hub.topic_count(), 0, "nothing is made to be emptied");
    for offset in 1..=3 {
        assert_eq!(publish(&hub, "a", 100), offset);
    }
    let epoch = epoch_of(&hub, "a");
    hub.remove_history(&name("a"));
    assert_eq!((kept(&hub, "a"), held()), (vec![], 0));
    assert_eq!((publish(&hub, "a", 1), kept(&hub, "a")), (4, vec![4]));
    assert_eq!(epoch_of(&hub, "a"), epoch);
}

/// Publishes to those who are there; gives the position.
fn publish_to_present(hub: &Hub, topic: &str, key: Option<&str>) -> Published {
    let now = Publish::new(Stamp::now(), Admission::IfRoom);
    let options = Publish { idempotency_key: key, reach: Reach::Present, ..now };
    hub.publish(&name(topic), &draft(b"x"), options).expect("there is room")
}

#[test]
fn what_is_for_those_present_has_no_place_in_history() {
    let hub = hub(TopicRule { history_size: 3, ..TopicRule::default() }, 1);
    let (topic, _) = hub.subscribe(&name("a"), WORKER, Start::Live, |_| 0);
    for offset in 1..=4 {
        let Published { position, sequence, .. } = publish_to_present(&hub, "a", None);
        assert_eq!((position, sequence), (None, 2 * offset - 1));
        assert_eq!(publish(&hub, "a", 1), offset);
    }
    publish_to_present(&hub, "a", None);
    // Its place in the order, the topic's offset with it, and whether that is shown.
    let arrivals = std::iter::from_fn(|| hub.inbox(WORKER).pop()).map(|one| one.publication);
    let places: Vec<_> =
        arrivals.map(|one| (one.sequence, one.offset, one.epoch.is_some())).collect();
    let pairs = (0..4).flat_map(|n| [(2 * n + 1, n, false), (2 * n + 2, n + 1, true)]);
    assert_eq!(places, pairs.chain([(9, 4, false)]).collect::<Vec<_>>());
    assert_eq!(kept(&hub, "a"), [4, 6, 8], "by their place in the order");
    let page = |offset| {
        let since = Some(Since { epoch: None, offset });
        let page = hub.page(&name("a"), since, 9).expect("it is known");
        let offsets: Vec<_> = page.publications.iter().map(|one| one.offset).collect();
        (page.top.offset, page.recovered, offsets)
    };
    assert_eq!(page(2), (4, Some(true), vec![3, 4]));
    assert_eq!(page(4), (4, Some(true), vec![]));
    assert_eq!(page(0), (4, Some(false), vec![2, 3, 4]));
    assert_eq!(page(5).1, Some(false));
    let since = |offset| Start::Since(Since { epoch: None, offset });
    for (start, next, offset, recovered) in [
        (Start::Live, 10, 4, None),
        (Start::Last(2), 6, 2, None),
        (since(4), 10, 4, Some(true)),
        (since(2), 6, 2, Some(true)),
        (since(1), 4, 1, Some(true)),
        (since(0), 10, 4, Some(false)),
        (since(9), 10, 4, Some(false)),
    ] {
        let joined = subscribe(&hub, "a", start);
        assert_eq!((joined.next, joined.top, joined.recovered), (next, 9, recovered), "{start:?}");
        let offsets = [joined.position, joined.newest].map(|at| at.map(|at| at.offset));
        assert_eq!(offsets, [Some(offset), Some(4)], "{start:?}");
    }
    let sequences = |next| match topic.catch_up(next, 99) {
        CatchUp::Behind(page) => page.iter().map(|one| one.sequence).collect(),
        CatchUp::Trimmed { oldest } => vec![0, oldest],
        CatchUp::Live => Vec::new(),
    };
    for (next, expected) in
        [(2, &[0, 4][..]), (3, &[4, 6, 8]), (5, &[6, 8]), (8, &[8]), (9, &[]), (10, &[])]
    {
        assert_eq!(sequences(next), expected, "from {next} on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_goes_on_where_its_history_ended_whoever_was_present() {
    let ttl = Duration::from_secs(1);
    let hub = hub(TopicRule { history_ttl: ttl, ..TopicRule::default() }, 1);
    assert_eq!(publish(&hub, "a", 1), 1);
    let first = publish_to_present(&hub, "a", Some("key"));
    let again = publish_to_present(&hub, "a", Some("key"));
    assert_eq!((first.position, first.duplicate), (None, false));
    assert_eq!((again.position, again.duplicate), (None, true));
    tokio::time::advance(IDEMPOTENCY_TTL).await;
    hub.sweep(Instant::now());
    assert_eq!(hub.topic_count(), 0, "it is forgotten");
    assert_eq!(publish(&hub, "a", 1), 2);
}

#[test]
fn a_delta_is_of_what_subscribers_got_last() {
    let hub = hub(TopicRule::default(), 1);
    let (topic, _) = hub.subscribe(&name("a"), WORKER, Start::Live, |_| 0);
    topic.begin_deltas();
    publish(&hub, "a", 1);
    publish(&hub, "a", 2);
    publish_to_present(&hub, "a", None);
    publish(&hub, "a", 3);
    publish(&hub, "a", 4);
    let arrivals = std::iter::from_fn(|| hub.inbox(WORKER).pop()).map(|one| one.publication);
    let before = arrivals.map(|one| one.before().map(|before| before.data().len()));
    assert_eq!(before.collect::<Vec<_>>(), [None, Some(1), Some(2), None, Some(3)]);
}

#[test]
fn a_version_is_published_once_and_costs_nothing_when_its_topic_is_gone() {
    let hub = hub(TopicRule { history_size: 0, ..TopicRule::default() }, 1);
    let publish = |number, epoch| {
        let version = Some(Version { number, epoch });
        let options = Publish { version, ..Publish::new(Stamp::now(), Admission::IfRoom) };
        let published = hub.publish(&name("a"), &draft(b"x"), options).expect("there is room");
        !published.duplicate
    };
    for (number, epoch, is_new) in
        [(2, "", true), (2, "", false), (1, "b", true), (1, "", false), (2, "", true)]
    {
        assert_eq!(publish(number, epoch), is_new, "{number} {epoch}");
    }
    assert!(hub.memory().held(MemoryKind::History) > 0);
    hub.sweep(Instant::now() + Duration::from_mins(1));
    assert_eq!((hub.topic_count(), hub.memory().held(MemoryKind::History)), (0, 0));
    assert!(publish(1, "b"), "it is remembered as long as its topic is");
}

#[test]
fn subscribers_of_all_workers_are_counted() {
    let hub = hub(TopicRule::default(), 2);
    let topics =
        [0, 0, 1].map(|worker| hub.subscribe(&name("a"), WorkerId(worker), Start::Live, |_| 0).0);
    assert_eq!(topics[0].subscriber_count(), 3);
    topics[0].unsubscribe(WorkerId(1));
    assert_eq!(topics[0].subscriber_count(), 2);
    assert_eq!(hub.topics().len(), 1);
}

#[test]
fn when_memory_is_short_the_oldest_of_all_topics_go_first() {
    // An eighth has to be free in the end: room for 7 of 8 publications and the topics.
    let len = 100_000;
    let hub = hub_with_memory(TopicRule::default(), 1, Memory::new(8 * len as u64));
    for topic in ["a", "b", "a", "c", "b", "a", "c"] {
        publish(&hub, topic, len);
    }
    hub.sweep(Instant::now());
    let all = |hub: &Hub| [kept(hub, "a"), kept(hub, "b"), kept(hub, "c")];
    assert_eq!(all(&hub), [vec![1, 2, 3], vec![1, 2], vec![1, 2]], "not scarce yet");
    publish(&hub, "c", len - 3 * TOPIC_COST);
    assert!(hub.memory().is_scarce());
    hub.sweep(Instant::now());
    assert_eq!(all(&hub), [vec![2, 3], vec![2], vec![1, 2, 3]], "the first two went");
    assert!(hub.memory().excess().is_none());
    // What was unknown at the last look at all topics is younger than what was known.
    publish(&hub, "d", len);
    publish(&hub, "a", len);
    hub.sweep(Instant::now());
    assert_eq!(all(&hub), [vec![3, 4], vec![2], vec![2, 3]]);
    assert_eq!(kept(&hub, "d"), [1]);
    assert_eq!(hub.memory().shed(Shed::Publications), 4);
    assert_eq!(hub.memory().asked_sessions().0, 0, "history was enough");
}

#[test]
fn what_came_during_the_sweep_may_go_too() {
    let hub = hub_with_memory(TopicRule::default(), 1, Memory::new(100_000));
    let before = Instant::now();
    publish(&hub, "a", 95_000);
    hub.sweep(before);
    assert_eq!(kept(&hub, "a"), [0_u64; 0]);
}

#[test]
fn a_topic_trimmed_to_nothing_is_forgotten_and_then_its_position() {
    let hub = hub_with_memory(TopicRule::default(), 1, Memory::new(1_000_000));
    for topic in 0..3000 {
        if publish_with(&hub, &format!("t{topic}"), 1, None) == Err(PublishError::Memory) {
            break;
        }
    }
    let topics = hub.topic_count();
    for _ in 0..20 {
        hub.sweep(Instant::now());
    }
    assert!(hub.topic_count() < topics * 9 / 10, "{} of {topics}", hub.topic_count());
    assert_eq!(kept(&hub, "t0"), [0_u64; 0]);
    let page = hub.page(&name("t0"), None, 0).expect("its position is remembered");
    assert_eq!(page.top.offset, 1);
    // What can neither be trimmed nor closed takes nearly all.
    hub.memory().charge(MemoryKind::Connections, 860_000);
    for _ in 0..20 {
        hub.sweep(Instant::now());
    }
    assert!(hub.page(&name("t0"), None, 0).is_none(), "forgotten for good");
    assert!(hub.memory().shed(Shed::Positions) > 0);
}

#[test]
fn keys_go_with_the_publications_of_their_time() {
    let rule = TopicRule { history_size: 1, ..TopicRule::default() };
    let hub = hub_with_memory(rule, 1, Memory::new(100_000));
    for number in 0..300 {
        publish_with(&hub, "a", 1, Some(&format!("{number:0100}"))).expect("there is room");
    }
    hub.memory().charge(MemoryKind::Connections, 50_000);
    hub.sweep(Instant::now());
    let is_new = |number: usize| {
        let key = format!("{number:0100}");
        !publish_with(&hub, "a", 1, Some(&key)).expect("there is room").duplicate
    };
    assert!(!is_new(299), "a young key is remembered");
    assert!(is_new(0), "an old one is not");
}

#[test]
fn sessions_are_asked_when_history_is_used_up_the_largest_first() {
    let hub = hub_with_memory(TopicRule::default(), 1, Memory::new(1_600_000));
    publish(&hub, "a", 100_000);
    hub.memory().charge(MemoryKind::Outbox, 1_500_000);
    let now = Instant::now();
    hub.sweep(now);
    assert_eq!(kept(&hub, "a"), [0_u64; 0]);
    let mut asked = vec![hub.memory().asked_sessions()];
    for _ in 0..9 {
        hub.sweep(now);
        asked.push(hub.memory().asked_sessions());
    }
    asked.dedup();
    assert_eq!(asked, [(1, 100_000), (2, 25_000), (3, 6250), (4, 1562), (5, 1024)]);
    hub.sweep(now + Duration::from_secs(1));
    assert_eq!(hub.memory().asked_sessions(), (6, 1024), "after a pause, again");
    hub.memory().release(MemoryKind::Outbox, 1_500_000);
    hub.sweep(now + Duration::from_secs(2));
    assert_eq!(hub.memory().asked_sessions().0, 6, "there is enough");
}
