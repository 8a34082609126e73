//! Performs a seed's steps and writes down what came of them.

use std::time::Duration;

use fastrand::Rng;

use crate::client::{Client, Request};
use crate::invariant::{Baseline, Position};
use crate::record::{Asked, By, Deed, Event, Page, Payload, Post, Record, Session, payload};
use crate::setup::{Door, Echo, Opening, Pace, Setup, Start, Step};
use crate::wire;
use crate::world::{Restless, World};

/// Sessions of one run at most: more would only make it slower.
const SESSIONS_MAX: usize = 14;

/// What the kernel takes ahead of a client, in bytes: the least that it can be asked for.
const SNDBUF: usize = 1;

/// Time that passes between two looks of a client at its socket.
const STRIDE: Duration = Duration::from_millis(500);

/// A longer pause is a machine that slept: everything comes due at once.
const PAUSE_MAX: Duration = Duration::from_mins(2);

/// How long everybody has to read what there is once nothing is in the way, and to leave.
const PATIENCE: Duration = Duration::from_secs(12);

/// Runs the steps from the seed's beginning. The same steps give the same record.
pub(crate) fn run(setup: &Setup, steps: &[Step]) -> Record {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    // Epochs come from the thread's generator.
    fastrand::seed(setup.seed);
    runtime.block_on(async {
        let mut run = Run {
            world: World::new(setup, Rng::with_seed(setup.seed ^ 0x5EED)),
            record: Record::new(setup),
            clients: Vec::new(),
            requests: Vec::new(),
            time: Duration::ZERO,
        };
        let outcome = run.perform(steps).await;
        if let Err(Restless) = outcome {
            run.record.faults.push("a worker never rests".to_owned());
            run.record.clock.push(run.time);
        }
        run.record
    })
}

struct Run {
    world: World,
    record: Record,
    /// As `Record::sessions`.
    clients: Vec<Client>,
    requests: Vec<(Asking, Client)>,
    time: Duration,
}

/// Whose answer a request waits for.
#[derive(Debug, Clone, Copy)]
enum Asking {
    Post(usize),
    Page(usize),
}

impl Run {
    async fn perform(&mut self, steps: &[Step]) -> Result<(), Restless> {
        for topic in 0..self.record.setup.topics.len() {
            if self.record.setup.topics[topic].is_witnessed {
                let (door, start, echo, pace) = (Door::Json, Start::Live, Echo::On, Pace::Prompt);
                self.open(Opening { topic, door, start, echo, pace, worker: topic });
            }
        }
        self.tick().await?;
        for (index, step) in steps.iter().enumerate() {
            self.step(*step);
            match *step {
                Step::Advance { millis } => {
                    // When something was sent must be told to the moment.
                    self.tick().await?;
                    self.pass(Duration::from_millis(millis)).await?;
                }
                Step::AtOnce => {}
                _ if steps.get(index + 1) == Some(&Step::AtOnce) => {}
                _ => self.tick().await?,
            }
        }
        self.heal().await?;
        self.part().await
    }

    /// Nothing is in the way any more: everybody reads all there is.
    async fn heal(&mut self) -> Result<(), Restless> {
        self.world.thaw_all();
        (0..self.clients.len()).for_each(|session| self.set_pace(session, Pace::Prompt));
        self.tick().await?;
        while self.clients.iter().any(Client::has_more) {
            self.clients.iter_mut().for_each(Client::write_all);
            self.tick().await?;
        }
        self.tick().await?;
        self.record.healed = self.record.now() - 1;
        Ok(())
    }

    /// Everybody leaves; what stays is what leaked.
    async fn part(&mut self) -> Result<(), Restless> {
        // Half of the servers end, the others only see their clients go.
        if self.record.setup.seed.is_multiple_of(2) {
            self.drain();
            // Some connect when the workers have been told, and have not looked yet.
            tokio::task::yield_now().await;
            for worker in 0..self.record.setup.workers {
                self.page((0, worker), Start::Live, 1);
            }
            // What they ask comes later.
            self.world.settle().await?;
        } else {
            (0..self.clients.len()).for_each(|session| self.leave(session));
        }
        self.tick().await?;
        self.pass(PATIENCE).await?;
        if self.record.drained.is_some() && !self.world.have_all_ended() {
            self.record.faults.push("a worker is not drained".to_owned());
        }
        (0..self.clients.len()).for_each(|session| self.vanish(session));
        self.requests.clear();
        self.tick().await?;
        // Keys and history are forgotten, then positions.
        for pause in [Duration::from_mins(6), Duration::from_mins(6), Duration::from_hours(25)] {
            self.pass(pause).await?;
        }
        self.record.left_behind = self.world.held();
        self.record.counted = self.world.closes();
        let received = self.record.sessions.iter().flat_map(|session| &session.events);
        let received =
            received.filter(|(_, event)| matches!(event, Event::Publication { .. })).count();
        if self.world.deliveries() < received as u64 {
            self.record.faults.push(format!(
                "{received} publications came, {} are counted",
                self.world.deliveries()
            ));
        }
        Ok(())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(opening) => self.open(opening),
            Step::Send { session, count, len, piece } => {
                if let Some(session) = self.websocket(session) {
                    (0..count).for_each(|_| self.send(session, len, piece));
                }
            }
            Step::Post { topic, worker, len, key } => self.post((topic, worker), len, key),
            Step::History { topic, worker, start, limit } => {
                self.page((topic, worker), start, limit);
            }
            Step::Pace { session, pace } => {
                if let Some(session) = self.session(session) {
                    self.set_pace(session, pace);
                }
            }
            Step::Ping { session, count } => {
                if let Some(session) = self.websocket(session) {
                    self.clients[session].ping(count);
                }
            }
            Step::Close { session, code } => {
                if let Some(session) = self.websocket(session) {
                    self.clients[session].close(code);
                    self.note(session, Deed::Close(code));
                }
            }
            Step::Vanish { session } => {
                if let Some(session) = self.session(session) {
                    self.vanish(session);
                }
            }
            Step::Shut { session } => {
                if let Some(session) = self.session(session) {
                    self.clients[session].shut();
                    self.note(session, Deed::Shut);
                }
            }
            Step::Offend { session, offence } => {
                if let Some(session) = self.websocket(session) {
                    let message_bytes_max = self.record.setup.limits.message_bytes_max;
                    self.clients[session].offend(offence, message_bytes_max);
                    self.note(session, Deed::Offend(offence));
                }
            }
            Step::Advance { .. } | Step::AtOnce => {}
            Step::Freeze { worker } => self.world.freeze(worker),
            Step::Thaw { worker } => self.world.thaw(worker),
            Step::Drain => self.drain(),
        }
    }

    /// The session of that number whose client is still there, witnesses left out.
    fn session(&self, number: usize) -> Option<usize> {
        let witnesses = self.record.setup.topics.iter().filter(|topic| topic.is_witnessed).count();
        let here: Vec<usize> = (witnesses..self.clients.len())
            .filter(|session| self.clients[*session].is_open())
            .collect();
        here.get(number % here.len().max(1)).copied()
    }

    /// As [`Run::session`], if it can send and has not said that it will not.
    fn websocket(&self, number: usize) -> Option<usize> {
        let is_last_word =
            |deed: &Deed| matches!(deed, Deed::Close(_) | Deed::Offend(_) | Deed::Shut);
        self.session(number).filter(|session| {
            self.clients[*session].is_websocket()
                && self.record.sessions[*session].did(is_last_word).is_none()
        })
    }

    fn note(&mut self, session: usize, deed: Deed) {
        let now = self.record.now();
        self.record.sessions[session].deeds.push((now, deed));
    }

    fn set_pace(&mut self, session: usize, pace: Pace) {
        if self.clients[session].is_open() {
            self.clients[session].set_pace(pace);
            self.note(session, Deed::Pace(pace));
        }
    }

    fn vanish(&mut self, session: usize) {
        if self.clients[session].is_open() {
            self.clients[session].vanish();
            self.note(session, Deed::Vanish);
        }
    }

    /// The client ends its session as well as it can.
    fn leave(&mut self, session: usize) {
        if self.clients[session].is_websocket() {
            self.clients[session].close(1000);
            self.note(session, Deed::Close(1000));
        } else {
            self.vanish(session);
        }
    }

    fn drain(&mut self) {
        if self.record.drained.is_none() {
            self.world.drain();
            self.record.drained = Some(self.record.now());
        }
    }

    fn open(&mut self, mut opening: Opening) {
        if self.clients.len() >= SESSIONS_MAX || self.world.has_ended(opening.worker) {
            return;
        }
        opening.topic %= self.record.setup.topics.len();
        let topic = &self.record.setup.topics[opening.topic];
        if !topic.is_witnessed {
            // Only positions tell what such a client got, and nobody else knows its publications.
            opening.echo = Echo::On;
            if opening.door == Door::Plain {
                opening.door = Door::Json;
            }
        }
        let asked = self.asked(opening.topic, opening.start);
        let socket = self.world.connect(opening.worker, SNDBUF);
        let topic = &self.record.setup.topics[opening.topic];
        self.clients.push(Client::open(socket, &topic.name, &opening, &asked));
        let (sent, deeds, events) = (self.record.now(), Vec::new(), Vec::new());
        self.record.sessions.push(Session { opening, asked, sent, deeds, events });
    }

    /// The position that `start` means now.
    fn asked(&self, topic: usize, start: Start) -> Asked {
        let since = |Position { epoch, offset }| Asked::Since { epoch: Some(epoch), offset };
        match start {
            Start::Live => Asked::Nothing,
            Start::After(number) => {
                let sessions = &self.record.sessions;
                let session = number.checked_rem(sessions.len()).map(|number| &sessions[number]);
                let session = session.filter(|session| session.opening.topic == topic);
                session.and_then(last_position).map_or(Asked::Nothing, since)
            }
            Start::Behind(count) => match self.newest(topic) {
                Some(Position { epoch, offset }) => {
                    since(Position { epoch, offset: offset.saturating_sub(count) })
                }
                None => Asked::Nothing,
            },
            Start::Offset(offset) => Asked::Since { epoch: None, offset },
            Start::Stranger => Asked::Since { epoch: Some("zzz".to_owned()), offset: 1 },
            Start::Last(count) => Asked::Last(count),
        }
    }

    /// The newest position of a topic that anybody was shown.
    fn newest(&self, topic: usize) -> Option<Position> {
        let posted = self.record.posts.iter().rev().find_map(|post| {
            let (_, answer) = post.answer.as_ref()?;
            (self.record.payloads[post.payload].topic == topic)
                .then(|| wire::place(&answer.body))?
        });
        let sessions = self.record.sessions.iter();
        let sessions = sessions.filter(|session| session.opening.topic == topic);
        sessions.filter_map(last_position).chain(posted).max_by_key(|position| position.offset)
    }

    fn new_payload(&mut self, topic: usize, len: usize, by: By) -> (usize, String) {
        let number = self.record.payloads.len();
        let sent = self.record.now();
        self.record.payloads.push(Payload { topic, len, by, sent });
        (number, payload(&self.record.setup.topics[topic].name, number, len))
    }

    fn send(&mut self, session: usize, len: usize, piece: usize) {
        let topic = self.record.sessions[session].opening.topic;
        let (number, text) = self.new_payload(topic, len, By::Session(session));
        self.clients[session].send(&text, piece);
        self.note(session, Deed::Send(number));
    }

    fn post(&mut self, (topic, worker): (usize, usize), len: usize, key: Option<u8>) {
        if self.world.has_ended(worker) {
            return;
        }
        let topic = topic % self.record.setup.topics.len();
        let post = self.record.posts.len();
        let (payload, text) = self.new_payload(topic, len, By::Post(post));
        let line = format!("POST /topics/{}", self.record.setup.topics[topic].name);
        let key_line = key.map(|key| format!("Idempotency-Key: key{key}\r\n")).unwrap_or_default();
        let headers = format!("Content-Length: {}\r\n{key_line}", text.len());
        let request = Request { line: &line, headers: &headers, body: text.as_bytes() };
        let client = Client::ask(self.world.connect(worker, SNDBUF), request);
        self.record.posts.push(Post { payload, key, answer: None });
        self.requests.push((Asking::Post(post), client));
    }

    fn page(&mut self, (topic, worker): (usize, usize), start: Start, limit: usize) {
        let topic = topic % self.record.setup.topics.len();
        if self.world.has_ended(worker) || self.record.setup.topics[topic].rule.history_size == 0 {
            return;
        }
        let asked = match self.asked(topic, start) {
            Asked::Last(_) => Asked::Nothing,
            asked => asked,
        };
        let name = &self.record.setup.topics[topic].name;
        let line = format!("GET /topics/{name}/history?{}&limit={limit}", wire::query(&asked));
        let request = Request { line: &line, headers: "", body: &[] };
        let client = Client::ask(self.world.connect(worker, SNDBUF), request);
        let page = self.record.pages.len();
        let sent = self.record.now();
        self.record.pages.push(Page { topic, asked, limit, sent, answer: None });
        self.requests.push((Asking::Page(page), client));
    }

    /// Lets time pass, with everybody looking at their sockets now and then.
    async fn pass(&mut self, time: Duration) -> Result<(), Restless> {
        // Nobody stops in the middle of a message for long: it would be gone, not slow.
        self.clients.iter_mut().for_each(Client::write_all);
        let stride = if time > PAUSE_MAX { time } else { STRIDE };
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(stride);
            left -= step;
            self.time += step;
            self.world.advance(step).await?;
            self.look().await?;
        }
        self.tick().await
    }

    /// One step is over when nobody has anything to do.
    async fn tick(&mut self) -> Result<(), Restless> {
        self.clients.iter_mut().for_each(Client::begin_step);
        self.requests.iter_mut().for_each(|(_, client)| client.begin_step());
        self.look().await?;
        if self.record.forced.is_none() && self.world.was_forced() {
            self.record.forced = Some(self.record.now());
        }
        self.record.clock.push(self.time);
        Ok(())
    }

    /// Server and clients take turns until all is quiet.
    async fn look(&mut self) -> Result<(), Restless> {
        loop {
            self.world.settle().await?;
            let mut has_moved = false;
            for client in &mut self.clients {
                has_moved |= client.act();
            }
            for (_, client) in &mut self.requests {
                has_moved |= client.act();
            }
            self.collect();
            if !has_moved {
                return Ok(());
            }
        }
    }

    fn collect(&mut self) {
        let now = self.record.now();
        for (client, session) in self.clients.iter_mut().zip(&mut self.record.sessions) {
            session.events.extend(client.take_events().into_iter().map(|event| (now, event)));
        }
        for (asking, client) in &mut self.requests {
            let Some(answer) = client.take_answer() else { continue };
            let slot = match asking {
                Asking::Post(post) => &mut self.record.posts[*post].answer,
                Asking::Page(page) => &mut self.record.pages[*page].answer,
            };
            *slot = Some((now, answer));
        }
        self.requests.retain(|(_, client)| client.is_open());
    }
}

/// The newest position that a session was shown.
fn last_position(session: &Session) -> Option<Position> {
    session.events.iter().rev().find_map(|(_, event)| match event {
        Event::Publication { position, .. }
        | Event::Subscribed { position, .. }
        | Event::Head { position, .. } => position.clone(),
        _ => None,
    })
}

/// Nothing is held.
pub(crate) fn nothing_held(record: &Record) -> Baseline {
    record.left_behind.emptied()
}
