//! Clients of the Centrifugo door at work: commands, and what the server makes of them.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::client::{Asked, Peer, Said};
use super::record::{Answer, Call, Heard, Look, Outcome, Seen, Session, Stay};
use super::setup::{Act, Deltas, From, Guise, Hears, Order, Transport, Wish};
use crate::client::{Client, Request};
use crate::invariant::Position;
use crate::record::{self, By};
use crate::run::{Cast, Run};
use crate::setup::{Pace, Setup};
use crate::world;

const SESSIONS_MAX: usize = 10;

/// Codes from which on a client subscribes again by itself.
const RESUBSCRIBES: u64 = 2500;

/// Clients of the Centrifugo door.
#[derive(Debug)]
pub(crate) struct Centrifugo {
    /// As `Seen::sessions`.
    peers: Vec<Peer>,
    /// Which worker takes a request.
    random: Rng,
}

impl Cast for Centrifugo {
    type Act = Act;
    type Seen = Seen;
    /// The number of a call.
    type Ask = usize;

    const HEALING: Duration = Duration::from_secs(12);

    fn new(setup: &Setup) -> Self {
        Self { peers: Vec::new(), random: Rng::with_seed(!setup.seed) }
    }

    fn lines(&mut self) -> impl Iterator<Item = &mut Client> {
        self.peers.iter_mut().map(|peer| &mut peer.line)
    }

    fn begin(run: &mut Run<Self>) {
        run.connect(Guise::PLAIN, 0);
        for topic in 0..run.record.setup.topics.len() {
            let (from, deltas, hears) = (From::Live, Deltas::Off, Hears::Members);
            run.subscribe(0, Wish { topic, from, deltas, hears });
        }
    }

    fn act(run: &mut Run<Self>, act: Act) {
        match act {
            Act::Connect { guise, worker } => run.connect(guise, worker),
            Act::Call { user, order, worker } => run.call(user, order, worker),
            Act::Subscribe { session, wish } => {
                if let Some(session) = Self::session(run, session) {
                    run.subscribe(session, wish);
                }
            }
            Act::Unsubscribe { session, topic } => {
                if let Some(session) = Self::session(run, session) {
                    run.unsubscribe(session, topic);
                }
            }
            Act::Publish { session, topic, count, len } => {
                if let Some(session) = Self::session(run, session) {
                    (0..count).for_each(|_| run.publish(session, topic, len));
                }
            }
            Act::Presence { session, topic } => {
                if let Some(session) = Self::session(run, session) {
                    run.look(session, topic);
                }
            }
        }
    }

    fn session(run: &Run<Self>, number: usize) -> Option<usize> {
        let here: Vec<usize> = (1..run.cast.peers.len())
            .filter(|session| {
                let Session { client, .. } = &run.record.seen.sessions[*session];
                client.is_some() && run.record.end_of(*session).is_none()
            })
            .collect();
        here.get(number % here.len().max(1)).copied()
    }

    fn paced(run: &mut Run<Self>, session: usize, pace: Pace) {
        run.record.seen.sessions[session].is_prompt &= pace == Pace::Prompt;
    }

    fn vanished(run: &mut Run<Self>, session: usize) {
        run.record.seen.sessions[session].vanished = Some(run.record.now());
    }

    /// What goes by requests may go to a frozen worker, an answer to a ping, too.
    fn frozen(run: &mut Run<Self>) {
        for session in &mut run.record.seen.sessions {
            session.is_prompt &= session.guise.transport == Transport::WebSocket;
        }
    }

    fn send(run: &mut Run<Self>) -> bool {
        let Run { world, cast: Self { peers, random }, .. } = run;
        let mut has_moved = false;
        for peer in peers {
            // Requests go wherever they happen to be taken.
            let connect = || -> Option<UnixStream> {
                let worker = random.usize(..8);
                (!world.has_ended(worker)).then(|| world.connect(worker))
            };
            has_moved |= peer.flush(connect);
        }
        has_moved
    }

    fn read(run: &mut Run<Self>) -> bool {
        let mut has_moved = false;
        for session in 0..run.cast.peers.len() {
            has_moved |= run.cast.peers[session].act();
            for said in run.cast.peers[session].take_said() {
                run.on_said(session, said);
            }
        }
        has_moved
    }

    fn answered(run: &mut Run<Self>, call: usize, answer: record::Answer) {
        let is_done = answer.status == 200 && answer.body == json!({ "result": {} });
        let is_late = answer.body["error"]["code"] == 100 && run.has_frozen;
        if is_done || is_late {
            let outcome = if is_done { Outcome::Done } else { Outcome::NotYet };
            run.record.seen.calls[call].outcome = Some(outcome);
        } else if run.record.drained.is_none() {
            run.record.faults.push(format!("call {call} is answered {answer:?}"));
        }
    }

    fn rest(run: &mut Run<Self>) {
        for topic in 0..run.record.setup.topics.len() {
            run.look(0, topic);
        }
    }

    fn drained(run: &mut Run<Self>) {
        for worker in 0..run.record.setup.workers {
            run.connect(Guise::PLAIN, worker);
        }
    }
}

impl Run<Centrifugo> {
    fn connect(&mut self, guise: Guise, worker: usize) {
        if self.cast.peers.len() >= SESSIONS_MAX || self.world.has_ended(worker) {
            return;
        }
        let token = guise.user.map(|user| world::token(&name_of(user)));
        self.cast.peers.push(Peer::new(self.world.connect(worker), guise, token));
        let is_heard = guise.transport == Transport::WebSocket || !self.has_frozen;
        let is_prompt = guise.pace == Pace::Prompt && is_heard;
        self.record.seen.sessions.push(Session::new(guise, self.record.now(), is_prompt));
    }

    /// The application gives an order.
    fn call(&mut self, user: u8, order: Order, worker: usize) {
        if self.world.has_ended(worker) {
            return;
        }
        let (line, channel) = match order {
            Order::Disconnect => ("POST /api/disconnect", ""),
            Order::Unsubscribe(topic) => ("POST /api/unsubscribe", self.record.name_of(topic)),
        };
        let body = json!({ "user": name_of(user), "channel": channel }).to_string();
        let (sent, outcome) = (self.record.now(), None);
        let headers =
            format!("X-API-Key: {}\r\nContent-Length: {}\r\n", world::API_KEY, body.len());
        self.record.seen.calls.push(Call { user, order, sent, outcome });
        let request = Request { line, headers: &headers, body: body.as_bytes() };
        self.ask(self.record.seen.calls.len() - 1, worker, request);
    }

    /// The stay of a session on a topic that its client has not left.
    fn current(&self, session: usize, topic: usize) -> Option<usize> {
        self.record.seen.stays.iter().position(|stay| {
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
        let stay = self.record.seen.stays.len();
        self.cast.peers[session].command(Asked::Subscribe(stay), "subscribe", &request);
        let (sent, heard) = (self.record.now(), Vec::new());
        let stay = Stay { session, wish, asked, sent, answer: None, heard, left: None, over: None };
        self.record.seen.stays.push(stay);
    }

    /// The position that a wish means now.
    fn position(&self, Wish { topic, from, .. }: Wish) -> Option<Position> {
        let mut positions = self.record.seen.stays.iter().filter(|stay| stay.wish.topic == topic);
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
        self.cast.peers[session].command(Asked::Unsubscribe(stay), "unsubscribe", &request);
        self.record.seen.stays[stay].left = Some(self.record.now());
    }

    fn publish(&mut self, session: usize, topic: usize, len: usize) {
        let (number, data) = self.new_payload(topic, len, By::Session(session));
        let request = json!({ "channel": self.record.name_of(topic), "data": data });
        self.cast.peers[session].command(Asked::Publish(number), "publish", &request);
    }

    fn look(&mut self, session: usize, topic: usize) {
        if !self.record.setup.topics[topic].rule.presence {
            return;
        }
        let request = json!({ "channel": self.record.name_of(topic) });
        let look = self.record.seen.looks.len();
        self.cast.peers[session].command(Asked::Presence(look), "presence", &request);
        self.record.seen.looks.push(Look { topic, sent: self.record.now(), answer: None });
    }

    fn on_said(&mut self, session: usize, said: Said) {
        match said {
            Said::Ended(how) => self.on_end(session, how),
            Said::Message(message) => {
                if message == json!({}) {
                    self.cast.peers[session].pong();
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
        self.record.seen.sessions[session].ended.get_or_insert((now, how));
    }

    fn on_reply(&mut self, session: usize, id: u64, reply: &Value) {
        let now = self.record.now();
        let Some(asked) = self.cast.peers[session].asked.remove(&id) else {
            return self.fault(session, &format!("a reply to nothing: {reply}"));
        };
        let error = reply["error"]["code"].as_u64();
        match (asked, error) {
            (Asked::Connect, None) => {
                let client = reply["connect"]["client"].as_str().map(str::to_owned);
                self.record.seen.sessions[session].client = client;
                self.record.seen.sessions[session].connected = Some(now);
                self.cast.peers[session].connected(&reply["connect"]);
            }
            (Asked::Subscribe(stay), None) => self.on_subscribed(stay, &reply["subscribe"]),
            (Asked::Subscribe(stay), Some(code)) => {
                self.record.seen.stays[stay].answer = Some((now, Answer::Refused(code)));
                self.record.seen.stays[stay].over = Some(now);
            }
            (Asked::Unsubscribe(stay), None) => {
                self.record.seen.stays[stay].over.get_or_insert(now);
            }
            (Asked::Publish(number), None) => {
                self.record.seen.accepted.insert(number, now);
            }
            (Asked::Presence(look), None) => {
                let members = reply["presence"]["presence"].as_object();
                let clients = members.map(|members| members.keys().cloned().collect());
                self.record.seen.looks[look].answer = clients.map(|clients| (now, clients));
            }
            (asked, Some(code)) => self.fault(session, &format!("{asked:?}: error {code}")),
        }
    }

    fn on_subscribed(&mut self, stay: usize, result: &Value) {
        let now = self.record.now();
        let Stay { wish, session, asked, .. } = &self.record.seen.stays[stay];
        let (wish, session, asks) = (*wish, *session, asked.is_some());
        let is_right = (result["was_recovering"] == true) == asks
            && (result["delta"] == true) == (wish.deltas == Deltas::On);
        let epoch = result["epoch"].as_str().unwrap_or_default().to_owned();
        if !is_right || epoch.is_empty() {
            return self.fault(session, &format!("stay {stay}: {result}"));
        }
        let start = Position { epoch, offset: result["offset"].as_u64().unwrap_or(0) };
        let recovered = asks.then_some(result["recovered"] == true);
        self.record.seen.stays[stay].answer = Some((now, Answer::Subscribed { start, recovered }));
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
        let stay = self.record.seen.stays.iter().rposition(|stay| {
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
        let code = push["unsubscribe"]["code"].as_u64();
        let is_end = code.is_some();
        let its = &mut self.record.seen.stays[stay];
        its.heard.push((now, heard));
        if is_end {
            its.over = Some(now);
            let (wish, position, has_left) = (its.wish, its.position(), its.left.is_some());
            if !has_left && code.is_some_and(|code| code >= RESUBSCRIBES) {
                self.subscribe_at(session, wish, position);
            }
        }
    }

    fn on_publication(&mut self, stay: usize, publication: &Value) {
        let (session, wish) =
            (self.record.seen.stays[stay].session, self.record.seen.stays[stay].wish);
        let content = self.cast.peers[session].content(stay, publication, wish.deltas);
        let is_delta = publication["delta"] == true;
        self.record.seen.sessions[session].delta_count += usize::from(is_delta);
        let epoch = self.record.seen.stays[stay].start().map(|(_, start, _)| start.epoch.clone());
        let (Some(payload), Some(epoch), Some(offset)) =
            (content, epoch, publication["offset"].as_u64())
        else {
            return self.fault(session, &format!("stay {stay} got {publication}"));
        };
        let (position, payload) = (Position { epoch, offset }, payload.into_bytes());
        let now = self.record.now();
        self.record.seen.stays[stay].heard.push((now, Heard::Publication { position, payload }));
    }

    fn fault(&mut self, session: usize, what: &str) {
        self.record.faults.push(format!("session {session}: {what}"));
    }
}

fn name_of(user: u8) -> String {
    format!("user{user}")
}
