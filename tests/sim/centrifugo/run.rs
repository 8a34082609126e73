//! Performs a seed's steps against the real server and writes down what came of them.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::client::{Asked, Peer, Said};
use super::record::{Answer, Heard, Look, Payload, Record, Session, Stay};
use super::setup::{Deltas, From, Hears, Step, Transport, Wish};
use crate::client::{Client, Request};
use crate::invariant::Position;
use crate::record::{By, payload};
use crate::setup::{Pace, Setup};
use crate::wire;
use crate::world::{Restless, World};

const SESSIONS_MAX: usize = 10;
const STRIDE: Duration = Duration::from_millis(500);

/// How long a client that read too slowly has to see its end.
const PATIENCE: Duration = Duration::from_secs(12);

/// Runs the steps from the seed's beginning. The same steps give the same record.
pub(crate) fn run(setup: &Setup, steps: &[Step]) -> Record {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    // Epochs and ids of clients come from the thread's generator.
    fastrand::seed(setup.seed);
    runtime.block_on(async {
        let mut run = Run {
            world: World::new(setup, Rng::with_seed(setup.seed ^ 0x5EED)),
            record: Record::new(setup),
            peers: Vec::new(),
            posts: Vec::new(),
            time: Duration::ZERO,
            random: Rng::with_seed(!setup.seed),
            has_frozen: false,
        };
        if let Err(Restless) = run.perform(steps).await {
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
    peers: Vec<Peer>,
    /// Requests that publish, with their payload.
    posts: Vec<(usize, Client)>,
    time: Duration,
    random: Rng,
    has_frozen: bool,
}

impl Run {
    async fn perform(&mut self, steps: &[Step]) -> Result<(), Restless> {
        // Somebody sees everything.
        self.step(Step::Connect { transport: Transport::WebSocket, worker: 0, pace: Pace::Prompt });
        self.tick().await?;
        for topic in 0..self.record.setup.topics.len() {
            let (from, deltas, hears) = (From::Live, Deltas::Off, Hears::Members);
            self.subscribe(0, Wish { topic, from, deltas, hears });
        }
        self.tick().await?;
        for (index, step) in steps.iter().enumerate() {
            self.step(*step);
            match *step {
                Step::Advance { millis } => {
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

    /// Nothing is in the way any more: everybody reads, and asks who is there.
    async fn heal(&mut self) -> Result<(), Restless> {
        self.world.thaw_all();
        for peer in &mut self.peers {
            peer.line.set_pace(Pace::Prompt);
        }
        self.tick().await?;
        self.pass(PATIENCE).await?;
        self.record.healed = self.record.now();
        for topic in 0..self.record.setup.topics.len() {
            self.look(0, topic);
        }
        self.tick().await
    }

    /// Everybody leaves; what stays is what leaked.
    async fn part(&mut self) -> Result<(), Restless> {
        for peer in &mut self.peers {
            peer.line.vanish();
        }
        self.posts.clear();
        self.tick().await?;
        for hours in [6, 6, 25] {
            self.time += Duration::from_hours(hours);
            self.world.advance(Duration::from_hours(hours)).await?;
        }
        self.tick().await?;
        self.record.left_behind = self.world.held();
        Ok(())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect { transport, worker, pace } => {
                if self.peers.len() < SESSIONS_MAX {
                    let socket = self.world.connect(worker, 1);
                    self.peers.push(Peer::new(socket, transport, pace));
                    let is_heard = transport == Transport::WebSocket || !self.has_frozen;
                    let is_prompt = pace == Pace::Prompt && is_heard;
                    self.record.sessions.push(Session::new(transport, is_prompt));
                }
            }
            Step::Subscribe { session, wish } => {
                if let Some(session) = self.session(session) {
                    self.subscribe(session, wish);
                }
            }
            Step::Unsubscribe { session, topic } => {
                if let Some(session) = self.session(session) {
                    self.unsubscribe(session, topic);
                }
            }
            Step::Publish { session, topic, count, len } => {
                if let Some(session) = self.session(session) {
                    (0..count).for_each(|_| self.publish(session, topic, len));
                }
            }
            Step::Post { topic, worker, len } => self.post((topic, worker), len),
            Step::Presence { session, topic } => {
                if let Some(session) = self.session(session) {
                    self.look(session, topic);
                }
            }
            Step::Pace { session, pace } => {
                if let Some(session) = self.session(session) {
                    self.peers[session].line.set_pace(pace);
                    self.record.sessions[session].is_prompt &= pace == Pace::Prompt;
                }
            }
            Step::Vanish { session } => {
                if let Some(session) = self.session(session) {
                    self.peers[session].line.vanish();
                    self.record.sessions[session].vanished = Some(self.record.now());
                }
            }
            Step::Advance { .. } | Step::AtOnce => {}
            Step::Freeze { worker } => self.freeze(worker),
            Step::Thaw { worker } => self.world.thaw(worker),
        }
    }

    fn freeze(&mut self, worker: usize) {
        self.world.freeze(worker);
        self.has_frozen = true;
        // What goes by requests may go to that worker, an answer to a ping, too.
        for session in &mut self.record.sessions {
            session.is_prompt &= session.transport == Transport::WebSocket;
        }
    }

    /// The session of that number that goes on, the witness left out.
    fn session(&self, number: usize) -> Option<usize> {
        let here: Vec<usize> = (1..self.peers.len())
            .filter(|session| {
                let Session { client, .. } = &self.record.sessions[*session];
                client.is_some() && self.record.end_of(*session).is_none()
            })
            .collect();
        here.get(number % here.len().max(1)).copied()
    }

    /// The stay of a session on a topic that its client has not left.
    fn current(&self, session: usize, topic: usize) -> Option<usize> {
        self.record.stays.iter().position(|stay| {
            let is_its = stay.session == session && stay.wish.topic == topic;
            is_its && stay.left.is_none() && stay.over.is_none()
        })
    }

    fn subscribe(&mut self, session: usize, wish: Wish) {
        if self.current(session, wish.topic).is_some() {
            return;
        }
        let asked = self.position(wish);
        self.subscribe_at(session, wish, asked);
    }

    fn subscribe_at(&mut self, session: usize, wish: Wish, asked: Option<Position>) {
        let mut request = json!({ "channel": self.record.name_of(wish.topic) });
        if let Some(Position { epoch, offset }) = &asked {
            request["recover"] = true.into();
            request["epoch"] = epoch.as_str().into();
            request["offset"] = (*offset).into();
        }
        if wish.deltas == Deltas::On {
            request["delta"] = "fossil".into();
        }
        request["join_leave"] = (wish.hears == Hears::Members).into();
        let stay = self.record.stays.len();
        self.peers[session].command(Asked::Subscribe(stay), "subscribe", &request);
        let (sent, heard) = (self.record.now(), Vec::new());
        let stay = Stay { session, wish, asked, sent, answer: None, heard, left: None, over: None };
        self.record.stays.push(stay);
    }

    /// The position that a wish means now.
    fn position(&self, Wish { topic, from, .. }: Wish) -> Option<Position> {
        let mut positions = self.record.stays.iter().filter(|stay| stay.wish.topic == topic);
        match from {
            From::Live => None,
            From::Stranger => Some(Position { epoch: "zzz".to_owned(), offset: 1 }),
            From::After(number) => {
                let positions: Vec<_> = positions.filter_map(Stay::position).collect();
                positions.get(number % positions.len().max(1)).cloned()
            }
            From::Behind(count) => {
                let newest = positions.next().and_then(Stay::position)?;
                Some(Position { offset: newest.offset.saturating_sub(count), ..newest })
            }
        }
    }

    fn unsubscribe(&mut self, session: usize, topic: usize) {
        let Some(stay) = self.current(session, topic) else { return };
        let request = json!({ "channel": self.record.name_of(topic) });
        self.peers[session].command(Asked::Unsubscribe(stay), "unsubscribe", &request);
        self.record.stays[stay].left = Some(self.record.now());
    }

    fn new_payload(&mut self, topic: usize, len: usize, by: By) -> (usize, String) {
        let number = self.record.payloads.len();
        let (sent, acknowledged) = (self.record.now(), None);
        self.record.payloads.push(Payload { topic, len, by, sent, acknowledged });
        (number, payload(self.record.name_of(topic), number, len))
    }

    fn publish(&mut self, session: usize, topic: usize, len: usize) {
        let (number, data) = self.new_payload(topic, len, By::Session(session));
        let request = json!({ "channel": self.record.name_of(topic), "data": data });
        self.peers[session].command(Asked::Publish(number), "publish", &request);
    }

    fn post(&mut self, (topic, worker): (usize, usize), len: usize) {
        let (number, text) = self.new_payload(topic, len, By::Post(0));
        let line = format!("POST /topics/{}", self.record.name_of(topic));
        let headers = format!("Content-Length: {}\r\n", text.len());
        let request = Request { line: &line, headers: &headers, body: text.as_bytes() };
        self.posts.push((number, Client::ask(self.world.connect(worker, 1), request)));
    }

    fn look(&mut self, session: usize, topic: usize) {
        if !self.record.setup.topics[topic].rule.presence {
            return;
        }
        let request = json!({ "channel": self.record.name_of(topic) });
        let look = self.record.looks.len();
        self.peers[session].command(Asked::Presence(look), "presence", &request);
        self.record.looks.push(Look { topic, sent: self.record.now(), answer: None });
    }

    async fn pass(&mut self, time: Duration) -> Result<(), Restless> {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STRIDE);
            left -= step;
            self.time += step;
            self.world.advance(step).await?;
            self.settle().await?;
        }
        self.tick().await
    }

    /// One step is over when nobody has anything to do.
    async fn tick(&mut self) -> Result<(), Restless> {
        self.peers.iter_mut().for_each(|peer| peer.line.begin_step());
        self.posts.iter_mut().for_each(|(_, post)| post.write_all());
        self.settle().await?;
        self.record.clock.push(self.time);
        Ok(())
    }

    /// Server and clients take turns until all is quiet.
    async fn settle(&mut self) -> Result<(), Restless> {
        loop {
            let mut has_moved = false;
            for session in 0..self.peers.len() {
                has_moved |= self.flush(session);
            }
            self.world.settle().await?;
            for session in 0..self.peers.len() {
                has_moved |= self.peers[session].act();
                for said in self.peers[session].take_said() {
                    self.on_said(session, said);
                }
            }
            self.collect_posts(&mut has_moved);
            if !has_moved {
                return Ok(());
            }
        }
    }

    fn flush(&mut self, session: usize) -> bool {
        let Self { world, random, peers, .. } = self;
        // Requests go wherever they happen to be taken.
        let connect = || -> UnixStream { world.connect(random.usize(..8), 1) };
        peers[session].flush(connect)
    }

    fn collect_posts(&mut self, has_moved: &mut bool) {
        let now = self.record.now();
        for (number, post) in &mut self.posts {
            *has_moved |= post.act();
            if let Some(answer) = post.take_answer() {
                if answer.status != 200 {
                    self.record.faults.push(format!("a post is answered {answer:?}"));
                }
                let position = wire::place(&answer.body);
                self.record.payloads[*number].acknowledged = Some((now, position));
            }
        }
        self.posts.retain(|(_, post)| post.is_open());
    }

    fn on_said(&mut self, session: usize, said: Said) {
        match said {
            Said::Ended(how) => self.on_end(session, how),
            Said::Message(message) => {
                if message == json!({}) {
                    self.peers[session].pong();
                } else if let Some(id) = message["id"].as_u64() {
                    self.on_reply(session, id, &message);
                } else {
                    self.on_push(session, &message["push"]);
                }
            }
        }
    }

    fn on_end(&mut self, session: usize, how: String) {
        let now = self.record.now();
        // A close says why; the end of the bytes after it says nothing more.
        self.record.sessions[session].ended.get_or_insert((now, how));
    }

    fn on_reply(&mut self, session: usize, id: u64, reply: &Value) {
        let now = self.record.now();
        let Some(asked) = self.peers[session].asked.remove(&id) else {
            return self.fault(session, &format!("a reply to nothing: {reply}"));
        };
        let error = reply["error"]["code"].as_u64();
        match (asked, error) {
            (Asked::Connect, None) => {
                let client = reply["connect"]["client"].as_str().map(str::to_owned);
                self.record.sessions[session].client = client;
                self.peers[session].connected(&reply["connect"]);
            }
            (Asked::Subscribe(stay), None) => self.on_subscribed(stay, &reply["subscribe"]),
            (Asked::Subscribe(stay), Some(code)) => {
                self.record.stays[stay].answer = Some((now, Answer::Refused(code)));
                self.record.stays[stay].over = Some(now);
            }
            (Asked::Unsubscribe(stay), None) => {
                self.record.stays[stay].over.get_or_insert(now);
            }
            (Asked::Publish(number), None) => {
                self.record.payloads[number].acknowledged = Some((now, None));
            }
            (Asked::Presence(look), None) => {
                let members = reply["presence"]["presence"].as_object();
                let clients = members.map(|members| members.keys().cloned().collect());
                self.record.looks[look].answer = clients.map(|clients| (now, clients));
            }
            (asked, Some(code)) => self.fault(session, &format!("{asked:?}: error {code}")),
        }
    }

    fn on_subscribed(&mut self, stay: usize, result: &Value) {
        let now = self.record.now();
        let Stay { wish, session, asked, .. } = &self.record.stays[stay];
        let (wish, session, asks) = (*wish, *session, asked.is_some());
        let is_right = (result["was_recovering"] == true) == asks
            && (result["delta"] == true) == (wish.deltas == Deltas::On);
        let epoch = result["epoch"].as_str().unwrap_or_default().to_owned();
        if !is_right || epoch.is_empty() {
            return self.fault(session, &format!("stay {stay}: {result}"));
        }
        let start = Position { epoch, offset: result["offset"].as_u64().unwrap_or(0) };
        let recovered = asks.then_some(result["recovered"] == true);
        self.record.stays[stay].answer = Some((now, Answer::Subscribed { start, recovered }));
        for publication in result["publications"].as_array().into_iter().flatten() {
            self.on_publication(stay, publication);
        }
    }

    fn on_push(&mut self, session: usize, push: &Value) {
        if let Some(disconnect) = push.get("disconnect") {
            let [code, reason] = ["code", "reason"].map(|name| disconnect[name].to_string());
            return self.on_end(session, format!("{code} {}", reason.trim_matches('"')));
        }
        let now = self.record.now();
        let stay = self.record.stays.iter().rposition(|stay| {
            stay.session == session
                && push["channel"] == *self.record.name_of(stay.wish.topic)
                && stay.start().is_some()
                && stay.over.is_none()
        });
        let Some(stay) = stay else {
            return self.fault(session, &format!("a push of what it has not: {push}"));
        };
        let client = |what: &str| push[what]["info"]["client"].as_str().map(str::to_owned);
        let heard = if let Some(publication) = push.get("pub") {
            return self.on_publication(stay, publication);
        } else if let Some(client) = client("join") {
            Heard::Join(client)
        } else if let Some(client) = client("leave") {
            Heard::Leave(client)
        } else if let Some(code) = push["unsubscribe"]["code"].as_u64() {
            Heard::Unsubscribed(code)
        } else {
            return self.fault(session, &format!("a push of nothing: {push}"));
        };
        let is_end = matches!(heard, Heard::Unsubscribed(_));
        let its = &mut self.record.stays[stay];
        its.heard.push((now, heard));
        if is_end {
            its.over = Some(now);
            let (wish, position, has_left) = (its.wish, its.position(), its.left.is_some());
            if !has_left {
                self.subscribe_at(session, wish, position);
            }
        }
    }

    fn on_publication(&mut self, stay: usize, publication: &Value) {
        let (session, wish) = (self.record.stays[stay].session, self.record.stays[stay].wish);
        let content = self.peers[session].content(stay, publication, wish.deltas);
        let is_delta = publication["delta"] == true;
        self.record.sessions[session].delta_count += usize::from(is_delta);
        let epoch = self.record.stays[stay].start().map(|(_, start, _)| start.epoch.clone());
        let (Some(payload), Some(epoch), Some(offset)) =
            (content, epoch, publication["offset"].as_u64())
        else {
            return self.fault(session, &format!("stay {stay} got {publication}"));
        };
        let (position, payload) = (Position { epoch, offset }, payload.into_bytes());
        let now = self.record.now();
        self.record.stays[stay].heard.push((now, Heard::Publication { position, payload }));
    }

    fn fault(&mut self, session: usize, what: &str) {
        self.record.faults.push(format!("session {session}: {what}"));
    }
}
