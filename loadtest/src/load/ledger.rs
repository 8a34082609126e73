//! What was published and what each subscriber received: counts, latencies, faults.

use std::ops::Range;

use hdrhistogram::Histogram;

use super::echo::{self, Echo, Known, Place, Way};
use crate::{
    door::{Door, Topic as TopicName},
    fault::{Faults, Order},
    pace::Window,
    report::{Latency, watch::Look},
    stamp::{COMPARED_LEN_MAX, Filler, Stamp},
};

#[derive(Debug)]
struct Topic {
    published: u32,
    echo: Echo,
    /// Under a closed loop.
    window: Option<Window>,
    /// Whether it stands in [`Ledger::credited`].
    credited: bool,
}

impl Topic {
    /// One subscriber is done with `settled`; calls `credit` when that lets the topic publish again.
    #[inline]
    fn settle(&mut self, settled: Range<u32>, credit: impl FnOnce()) {
        let Some(window) = &mut self.window else { return };
        window.settle(settled);
        if !self.credited && window.credit(self.published) > 0 {
            self.credited = true;
            credit();
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    topic: u32,
    order: Order,
    way: Way,
}

/// What has been received of a message that is not at its end yet.
#[derive(Debug)]
struct Message {
    /// When its publications were sent.
    times: Vec<u64>,
    /// Whether they are all there is in it, and came in order.
    is_clean: bool,
}

/// The books of a run. Subscriber `n` follows topic `n` modulo the number of topics.
#[derive(Debug)]
pub(crate) struct Ledger {
    filler: Filler,
    topics: Vec<Topic>,
    subscribers: Vec<Subscriber>,
    /// Bytes kept of each topic.
    echo_len_max: usize,
    message: Message,
    /// Topics that may publish again.
    credited: Vec<u32>,
    /// Publications stamped within count for the latency.
    pub(crate) measured: Range<u64>,
    pub(crate) latency: Histogram<u64>,
    pub(crate) faults: Faults,
    pub(crate) published: u64,
    pub(crate) received: u64,
    /// By publishers, of their own.
    pub(crate) heard: u64,
    settled: u64,
}

impl Ledger {
    /// For `topics` with `subscribers` each, and payloads of `payload_len` bytes.
    pub(crate) fn new(topics: u32, subscribers: u32, payload_len: usize) -> Self {
        let topic =
            |_| Topic { published: 0, echo: Echo::default(), window: None, credited: false };
        let subscriber =
            |index| Subscriber { topic: index % topics, order: Order::new(), way: Way::default() };
        // A single subscriber hears nothing twice, and long payloads are compared in samples.
        let is_echoed = subscribers > 1 && payload_len <= COMPARED_LEN_MAX;
        Self {
            filler: Filler::new(payload_len),
            topics: (0..topics).map(topic).collect(),
            subscribers: (0..topics * subscribers).map(subscriber).collect(),
            echo_len_max: if is_echoed { echo::len_max(topics as usize) } else { 0 },
            message: Message { times: Vec::new(), is_clean: true },
            credited: Vec::new(),
            measured: 0..0,
            latency: Latency::histogram(),
            faults: Faults::default(),
            published: 0,
            received: 0,
            heard: 0,
            settled: 0,
        }
    }

    /// Runs every topic as a closed loop of `window` publications; each may begin.
    pub(crate) fn close_loop(&mut self, window: u32) {
        let subscribers = self.subscribers_per_topic();
        self.credited = (0..self.topic_count()).collect();
        for topic in &mut self.topics {
            topic.window = Some(Window::new(window, subscribers));
            topic.credited = true;
        }
    }

    /// Takes a topic that may publish again, and how many publications.
    #[inline]
    pub(crate) fn take_credit(&mut self) -> Option<(u32, u32)> {
        let index = self.credited.pop()?;
        let topic = &mut self.topics[index as usize];
        topic.credited = false;
        let credit = topic.window.as_ref().map_or(0, |window| window.credit(topic.published));
        Some((index, credit))
    }

    /// Books the next publication of `topic`, stamped `time`, and appends it to `out`.
    pub(crate) fn publish<D: Door>(&mut self, door: &D, topic: u32, time: u64, out: &mut Vec<u8>) {
        let Topic { published, .. } = &mut self.topics[topic as usize];
        *published += 1;
        self.published += 1;
        let stamp = Stamp { topic, seq: *published, time };
        door.encode(out, TopicName(topic), self.filler.payload_len(), |out| {
            self.filler.push(stamp, out);
        });
    }

    /// Books what another subscriber received before `index` did, byte for byte. Returns how many of
    /// the `bytes` that were, which begin with a message.
    #[inline]
    pub(crate) fn recall(&mut self, index: u32, now: u64, bytes: &[u8]) -> usize {
        let Self { subscribers, topics, latency, .. } = self;
        let Subscriber { topic: number, order, way } = &mut subscribers[index as usize];
        let topic = &mut topics[*number as usize];
        let Some(known) = topic.echo.find(way, order.next(), bytes) else { return 0 };
        let Known { len, seqs, places } = known;
        order.advance_to(seqs.end);
        self.received += places.len() as u64;
        self.settled += places.len() as u64;
        record(latency, &self.measured, now, places);
        topic.settle(seqs, || self.credited.push(*number));
        len
    }

    /// Notes that what subscriber `index` received since the last call was all that is in `message`
    /// (`None` = there was more), to recall it when others get the same.
    #[inline]
    pub(crate) fn learn(&mut self, index: u32, message: Option<&[u8]>) {
        let Message { times, is_clean } = &mut self.message;
        let count = u32::try_from(times.len()).expect("a message is no longer");
        let is_clean = std::mem::replace(is_clean, true) && count > 0 && self.echo_len_max > 0;
        if let (Some(message), true) = (message, is_clean) {
            let Subscriber { topic, order, way } = &mut self.subscribers[index as usize];
            let echo = &mut self.topics[*topic as usize].echo;
            echo.keep(way, order.next() - count, (message, times), self.echo_len_max);
        }
        times.clear();
    }

    /// Books what the publisher of `topic` received: its own publication, from a server that sends
    /// them back, or what was not for it.
    #[cold]
    pub(crate) fn hear(&mut self, topic: usize, payload: &[u8]) {
        if Stamp::read(payload).is_some_and(|stamp| stamp.topic as usize == topic) {
            self.heard += 1;
        } else {
            self.faults.misrouted += 1;
        }
    }

    /// Books what subscriber `index` received at `now`.
    #[inline]
    pub(crate) fn receive(&mut self, index: u32, now: u64, payload: &[u8]) {
        self.received += 1;
        let Some(stamp) = self.read(index, payload) else {
            self.message.is_clean = false;
            return;
        };
        let order = &mut self.subscribers[index as usize].order;
        self.message.is_clean &= stamp.seq == order.next();
        self.message.times.push(stamp.time);
        let settled = order.accept(stamp.seq, &mut self.faults);
        self.settle(stamp.topic, settled, stamp.time, now);
    }

    /// The stamp of a publication that is subscriber `index`'s own and whole.
    #[inline]
    fn read(&mut self, index: u32, payload: &[u8]) -> Option<Stamp> {
        let stamp = Stamp::read(payload);
        let is_known = |stamp: &Stamp| {
            let topic = self.topics.get(stamp.topic as usize);
            topic.is_some_and(|topic| (1..=topic.published).contains(&stamp.seq))
        };
        let known = stamp.filter(is_known);
        let Some(stamp) = known.filter(|stamp| self.filler.check(*stamp, payload, index)) else {
            self.faults.corrupted += 1;
            return None;
        };
        if stamp.topic != self.subscribers[index as usize].topic {
            self.faults.misrouted += 1;
            return None;
        }
        Some(stamp)
    }

    /// Books that one subscriber of topic `number` is done with the sequences `settled`, the last
    /// of them stamped `time`.
    #[inline]
    fn settle(&mut self, number: u32, settled: Range<u32>, time: u64, now: u64) {
        self.settled += settled.len() as u64;
        if self.measured.contains(&time) {
            self.latency.saturating_record(now.saturating_sub(time));
        }
        self.topics[number as usize].settle(settled, || self.credited.push(number));
    }

    /// The run as it is at `time`, with `connections` opened.
    pub(crate) fn look(&self, time: u64, connections: usize) -> Look<'_> {
        let closed = usize::try_from(self.faults.closed).unwrap_or(usize::MAX);
        Look {
            time,
            connected: connections.saturating_sub(closed),
            received: self.received,
            latency: &self.latency,
            errors: self.faults.total(),
        }
    }

    /// Deliveries that are still to come, if nothing is lost.
    pub(crate) fn outstanding(&self) -> u64 {
        (self.published * u64::from(self.subscribers_per_topic())).saturating_sub(self.settled)
    }

    /// Closes the books at `now` while deliveries are still flowing: the latency of those to come
    /// is at least what it is by now. Leaving them out would flatter the slowest servers most.
    /// `due` tells the time of a topic's sequence.
    pub(crate) fn cut_off(&mut self, now: u64, due: impl Fn(u32, u32) -> u64) {
        let mut nexts = vec![Vec::new(); self.topics.len()];
        for subscriber in &self.subscribers {
            nexts[subscriber.topic as usize].push(subscriber.order.next());
        }
        for (index, nexts) in (0..).zip(&mut nexts) {
            nexts.sort_unstable();
            let published = self.topics[index as usize].published;
            let mut waiting = 0;
            for seq in nexts[0]..=published {
                waiting += nexts[waiting..].iter().take_while(|next| **next <= seq).count();
                let time = due(index, seq);
                if self.measured.contains(&time) {
                    let latency = now.saturating_sub(time);
                    self.latency.saturating_record_n(latency, waiting as u64);
                }
            }
        }
    }

    /// Closes the books: what has not come by now is lost.
    pub(crate) fn finish(&mut self) {
        for subscriber in &self.subscribers {
            let published = self.topics[subscriber.topic as usize].published;
            subscriber.order.finish(published, &mut self.faults);
        }
    }

    fn topic_count(&self) -> u32 {
        u32::try_from(self.topics.len()).expect("made from a u32")
    }

    fn subscribers_per_topic(&self) -> u32 {
        u32::try_from(self.subscribers.len() / self.topics.len()).expect("made from a u32")
    }
}

/// Takes down the latency of what stands at `places` and was received at `now`.
#[inline]
fn record(latency: &mut Histogram<u64>, measured: &Range<u64>, now: u64, places: &[Place]) {
    let mut rest = places;
    while let Some(Place { time, .. }) = rest.first() {
        let mut count = 1;
        if measured.contains(time) {
            let value = now.saturating_sub(*time);
            // Those behind are younger: many of them count as the same.
            let since = now.saturating_sub(latency.lowest_equivalent(value)).min(measured.end - 1);
            count = rest.iter().take_while(|place| place.time <= since).count().max(1);
            latency.saturating_record_n(value, count as u64);
        }
        rest = &rest[count..];
    }
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use super::*;
    use crate::{
        door::{Chunked, Coding, Cutter, Found, Next, Plain, Receiver},
        frame::{PING, Sender, TEXT, push_head},
    };

    /// Publishes `count` on each of 2 topics with 2 subscribers; the payloads by topic.
    fn published(ledger: &mut Ledger, count: u32) -> [Vec<Vec<u8>>; 2] {
        [0, 1].map(|topic| published_on(ledger, topic, count))
    }

    fn published_on(ledger: &mut Ledger, topic: u32, count: u32) -> Vec<Vec<u8>> {
        let payload = |seq| {
            let mut out = Vec::new();
            ledger.publish(&Plain, topic, u64::from(seq) * 1_000, &mut out);
            out.split_off(out.len() - 64)
        };
        (0..count).map(payload).collect()
    }

    #[test]
    fn a_faultless_run_settles_everything_and_measures_its_window() {
        let mut ledger = Ledger::new(2, 2, 64);
        ledger.measured = 1_000..3_000;
        let payloads = published(&mut ledger, 4);
        for (index, topic) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
            for payload in &payloads[topic] {
                ledger.receive(index, 50_000, payload);
            }
        }
        assert_eq!((ledger.outstanding(), ledger.received), (0, 16));
        ledger.finish();
        assert_eq!(ledger.faults, Faults::default());
        assert_eq!(ledger.latency.len(), 8, "two of the four stamps, for four subscribers");
    }

    #[test]
    fn what_another_got_before_is_booked_as_if_it_were_looked_at() {
        let mut ledger = Ledger::new(1, 3, 64);
        ledger.close_loop(4);
        ledger.measured = 0..u64::MAX;
        let payloads = published_on(&mut ledger, 0, 4);
        let bytes = payloads.concat();
        assert_eq!(ledger.recall(0, 50, &bytes), 0, "nobody got it yet");
        for payload in &payloads {
            ledger.receive(0, 50, payload);
        }
        ledger.learn(0, Some(&bytes));
        let more = [&bytes[..], b"more"].concat();
        assert_eq!(ledger.recall(1, 60, &more), bytes.len());
        let mut changed = bytes.clone();
        changed[100] ^= 1;
        assert_eq!(ledger.recall(2, 60, &changed), 0);
        assert_eq!(ledger.recall(1, 60, &bytes), 0, "it waits for what comes next");
        assert_eq!((ledger.received, ledger.outstanding(), ledger.latency.len()), (8, 4, 8));
        assert_eq!(ledger.take_credit(), Some((0, 0)), "as the loop began");
        assert_eq!(ledger.recall(2, 70, &bytes), bytes.len());
        assert_eq!(ledger.take_credit(), Some((0, 4)), "all are done with the window");
        ledger.finish();
        assert_eq!((ledger.faults, ledger.outstanding()), (Faults::default(), 0));
    }

    #[test]
    fn what_was_not_right_is_not_learned() {
        for wrong in [vec![0, 0, 2], vec![1, 0], vec![0, 2, 3]] {
            let mut ledger = Ledger::new(1, 2, 64);
            ledger.measured = 0..u64::MAX;
            let payloads = published_on(&mut ledger, 0, 4);
            let bytes: Vec<u8> = wrong.iter().flat_map(|at| payloads[*at].clone()).collect();
            assert_eq!(ledger.recall(0, 50, &bytes), 0);
            for at in &wrong {
                ledger.receive(0, 50, &payloads[*at]);
            }
            ledger.learn(0, Some(&bytes));
            assert_eq!(ledger.recall(1, 50, &bytes), 0, "{wrong:?}");
        }
    }

    /// One subscriber's reads, as a pool passes them on.
    struct Intake<'a> {
        ledger: &'a mut Ledger,
        index: u32,
        now: u64,
        is_plain: bool,
        /// Bytes.
        recalled: usize,
    }

    impl Receiver for Intake<'_> {
        fn take(&mut self, found: Found<'_>) {
            match found {
                Found::Publication(payload) => self.ledger.receive(self.index, self.now, payload),
                _ => self.is_plain = false,
            }
        }

        fn recall(&mut self, bytes: &[u8]) -> usize {
            let len = self.ledger.recall(self.index, self.now, bytes);
            self.recalled += len;
            len
        }

        fn end(&mut self, message: Option<&[u8]>) {
            self.ledger.learn(self.index, message.filter(|_| self.is_plain));
            self.is_plain = true;
        }
    }

    /// What a server that does wrong now and then makes of `payloads`.
    fn sabotaged(payloads: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        let mut stream = Vec::new();
        let mut push = |payload: &[u8], opcode| {
            let mut frame = Vec::new();
            push_head(&mut frame, opcode, payload.len(), Sender::Server);
            frame.extend_from_slice(payload);
            stream.push(frame);
        };
        for (index, payload) in payloads.iter().enumerate() {
            match random.u8(0..40) {
                0 => {}
                1 => [payload, payload].into_iter().for_each(|payload| push(payload, TEXT)),
                2 => {
                    let mut changed = payload.clone();
                    changed[random.usize(0..payload.len())] ^= 1 << random.u8(0..8);
                    push(&changed, TEXT);
                }
                3 => push(&payloads[random.usize(0..=index)], TEXT),
                4 => [(&b"hi"[..], PING), (payload, TEXT)]
                    .into_iter()
                    .for_each(|(payload, opcode)| push(payload, opcode)),
                _ => push(payload, TEXT),
            }
        }
        stream
    }

    /// A chunk for each frame, now and then two.
    fn chunked(frames: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            let cut = if random.u8(0..20) == 0 { random.usize(0..frame.len()) } else { 0 };
            let (first, second) = frame.split_at(cut);
            for chunk in [first, second].into_iter().filter(|chunk| !chunk.is_empty()) {
                stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                stream.extend_from_slice(chunk);
                stream.extend_from_slice(b"\r\n");
            }
        }
        stream
    }

    #[test]
    fn books_are_the_same_whether_looked_at_or_recalled() {
        let (mut recalled, mut received) = (0, 0);
        for seed in 0..200 {
            let random = &mut fastrand::Rng::with_seed(seed);
            // Without an echo, everything is looked at.
            let (mut echoing, mut plain) = (Ledger::new(2, 4, 64), Ledger::new(2, 4, 64));
            plain.echo_len_max = 0;
            echoing.echo_len_max = 1 << random.u8(8..16);
            let mut streams: Vec<(u32, Vec<u8>)> = Vec::new();
            for ledger in [&mut plain, &mut echoing] {
                ledger.measured = 5_000..90_000;
                let payloads = published(ledger, 100);
                if streams.is_empty() {
                    streams = (0..8)
                        .map(|index| {
                            let frames = sabotaged(&payloads[index as usize % 2], random);
                            let is_bare = seed % 2 == 0;
                            let stream =
                                if is_bare { frames.concat() } else { chunked(&frames, random) };
                            (index, stream)
                        })
                        .collect();
                }
            }
            let cutter = || match seed % 2 {
                0 => Cutter::default(),
                _ => Cutter::new(Coding::Chunked(Chunked::default())),
            };
            let mut cutters: [[Cutter; 8]; 2] = from_fn(|_| from_fn(|_| cutter()));
            let mut now = 100_000;
            while !streams.is_empty() {
                let at = random.usize(0..streams.len());
                let (index, stream) = &mut streams[at];
                let len = random.usize(1..=3_000).min(stream.len());
                let read: Vec<u8> = stream.drain(..len).collect();
                now += random.u64(0..50_000);
                for (ledger, cutters) in [&mut plain, &mut echoing].into_iter().zip(&mut cutters) {
                    let mut intake =
                        Intake { ledger, index: *index, now, is_plain: true, recalled: 0 };
                    let fed = cutters[*index as usize].feed(&Plain, &read, &mut intake);
                    assert_eq!(fed, Ok(()));
                    recalled += intake.recalled;
                }
                if stream.is_empty() {
                    streams.swap_remove(at);
                }
            }
            for ledger in [&mut plain, &mut echoing] {
                ledger.finish();
            }
            let books = |ledger: &Ledger| (ledger.faults, ledger.received, ledger.settled);
            assert_eq!(books(&plain), books(&echoing), "seed {seed}");
            assert_eq!(plain.latency, echoing.latency, "seed {seed}");
            received += usize::try_from(plain.received).expect("a few") * 66;
        }
        assert!(recalled > received / 10, "{recalled} bytes of {received}");
    }

    #[test]
    fn what_is_not_ones_own_or_not_whole_is_a_fault() {
        let mut ledger = Ledger::new(2, 2, 64);
        let payloads = published(&mut ledger, 2);
        ledger.receive(0, 0, &payloads[1][0]);
        assert_eq!(ledger.faults.misrouted, 1);
        let mut changed = payloads[0][0].clone();
        changed[63] ^= 1;
        let never_published = {
            let mut bytes = Vec::new();
            Filler::new(64).push(Stamp { topic: 0, seq: 3, time: 0 }, &mut bytes);
            bytes
        };
        for (count, bad) in
            [&changed[..], &never_published, &changed[..40], b"", b"hello"].into_iter().enumerate()
        {
            ledger.receive(0, 0, bad);
            assert_eq!(ledger.faults.corrupted, count as u64 + 1);
        }
        ledger.finish();
        assert_eq!(ledger.faults.lost, 8, "nobody received anything good");
    }

    #[test]
    fn a_closed_loop_goes_on_over_a_lost_publication() {
        let mut ledger = Ledger::new(1, 1, 32);
        ledger.close_loop(2);
        let payload = |ledger: &mut Ledger| {
            let mut out = Vec::new();
            ledger.publish(&Plain, 0, 0, &mut out);
            out.split_off(out.len() - 32)
        };
        assert_eq!(ledger.take_credit(), Some((0, 2)));
        let (_lost, second) = (payload(&mut ledger), payload(&mut ledger));
        ledger.receive(0, 0, &second);
        assert_eq!(ledger.take_credit(), Some((0, 2)));
        assert_eq!(ledger.take_credit(), None);
        assert_eq!(ledger.faults.lost, 1);
    }

    #[test]
    fn deliveries_cut_off_count_with_the_latency_they_have_by_then() {
        let mut ledger = Ledger::new(2, 2, 64);
        ledger.measured = 2_000..10_000;
        let payloads = published(&mut ledger, 4);
        // Of topic 0 one subscriber has everything, the other only the first.
        for payload in &payloads[0] {
            ledger.receive(0, 5_000, payload);
        }
        ledger.receive(2, 5_000, &payloads[0][0]);
        for payload in &payloads[1] {
            ledger.receive(1, 5_000, payload);
            ledger.receive(3, 5_000, payload);
        }
        assert_eq!(ledger.latency.len(), 6);
        ledger.cut_off(1_000_000, |_, seq| u64::from(seq - 1) * 1_000);
        assert_eq!(ledger.latency.len(), 8, "the two that are due within the window");
        assert!(ledger.latency.max() > 990_000);
        assert_eq!(ledger.faults, Faults::default());
    }

    #[test]
    fn what_is_sent_is_a_masked_text_frame() {
        let mut ledger = Ledger::new(1, 1, 200);
        let mut out = Vec::new();
        ledger.publish(&Plain, 0, 0, &mut out);
        assert_eq!(&out[..8], [0x81, 0xFE, 0, 200, 0, 0, 0, 0]);
        assert_eq!(out.len(), 208);
        let next = Plain.next(&out, &mut |_| ());
        assert!(matches!(next, Next::End(_)), "no server may send it back as it is");
    }
}
