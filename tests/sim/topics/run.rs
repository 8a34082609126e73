//! Clients of the doors of `/topics` at work: sessions on one topic each, and requests for pages of
//! its history.

use super::record::{Asked, Deed, Page, Seen, Session};
use super::setup::{Act, Echo, Opening, Start};
use crate::client::{Client, Door, Event, HANDSHAKE, Request};
use crate::invariant::Position;
use crate::record::{Answer, By};
use crate::run::{Cast, Run};
use crate::setup::{Pace, Setup};
use crate::wire;

/// Sessions of one run at most: more would only make it slower.
const SESSIONS_MAX: usize = 14;

/// Clients of the doors of `/topics`.
#[derive(Debug)]
pub(crate) struct Topics {
    /// As `Seen::sessions`.
    clients: Vec<Client>,
}

impl Cast for Topics {
    type Act = Act;
    type Seen = Seen;
    /// The number of a page.
    type Ask = usize;

    fn new(_setup: &Setup) -> Self {
        Self { clients: Vec::new() }
    }

    fn lines(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.iter_mut()
    }

    fn begin(run: &mut Run<Self>) {
        for topic in 0..run.record.setup.topics.len() {
            if run.record.setup.topics[topic].is_witnessed {
                let (door, start, echo, pace) = (Door::Json, Start::Live, Echo::On, Pace::Prompt);
                run.open(Opening { topic, door, start, echo, pace, worker: topic });
            }
        }
    }

    fn act(run: &mut Run<Self>, act: Act) {
        match act {
            Act::Open(opening) => run.open(opening),
            Act::Send { session, count, len, piece } => {
                if let Some(session) = run.websocket(session) {
                    (0..count).for_each(|_| run.send(session, len, piece));
                }
            }
            Act::History { topic, worker, start, limit } => {
                run.page((topic, worker), start, limit);
            }
            Act::Ping { session, count } => {
                if let Some(session) = run.websocket(session) {
                    run.cast.clients[session].ping(count);
                }
            }
            Act::Close { session, code } => {
                if let Some(session) = run.websocket(session) {
                    run.close(session, code);
                }
            }
            Act::Shut { session } => {
                if let Some(session) = Self::session(run, session) {
                    run.cast.clients[session].shut();
                    run.note(session, Deed::Shut);
                }
            }
            Act::Offend { session, offence } => {
                if let Some(session) = run.websocket(session) {
                    let message_bytes_max = run.record.setup.limits.message_bytes_max;
                    run.cast.clients[session].offend(offence, message_bytes_max);
                    run.note(session, Deed::Offend(offence));
                }
            }
        }
    }

    fn session(run: &Run<Self>, number: usize) -> Option<usize> {
        let clients = &run.cast.clients;
        let witnesses = run.record.setup.topics.iter().filter(|topic| topic.is_witnessed).count();
        let here: Vec<usize> =
            (witnesses..clients.len()).filter(|session| clients[*session].is_open()).collect();
        here.get(number % here.len().max(1)).copied()
    }

    fn paced(run: &mut Run<Self>, session: usize, pace: Pace) {
        run.note(session, Deed::Pace(pace));
    }

    fn vanished(run: &mut Run<Self>, session: usize) {
        run.note(session, Deed::Vanish);
    }

    fn read(run: &mut Run<Self>) -> bool {
        let now = run.record.now();
        let mut has_moved = false;
        for (client, session) in run.cast.clients.iter_mut().zip(&mut run.record.seen.sessions) {
            has_moved |= client.act();
            session.events.extend(client.take_events().into_iter().map(|event| (now, event)));
        }
        has_moved
    }

    fn answered(run: &mut Run<Self>, page: usize, answer: Answer) {
        run.record.seen.pages[page].answer = Some((run.record.now(), answer));
    }

    fn leave(run: &mut Run<Self>, session: usize) {
        if run.cast.clients[session].is_websocket() {
            run.close(session, 1000);
        } else {
            run.vanish(session);
        }
    }

    fn drained(run: &mut Run<Self>) {
        for worker in 0..run.record.setup.workers {
            run.page((0, worker), Start::Live, 1);
        }
    }
}

impl Run<Topics> {
    /// As [`Cast::session`], if it can send and has not said that it will not.
    fn websocket(&self, number: usize) -> Option<usize> {
        let is_last_word =
            |deed: &Deed| matches!(deed, Deed::Close(_) | Deed::Offend(_) | Deed::Shut);
        Topics::session(self, number).filter(|session| {
            self.cast.clients[*session].is_websocket()
                && self.record.seen.sessions[*session].did(is_last_word).is_none()
        })
    }

    fn note(&mut self, session: usize, deed: Deed) {
        let now = self.record.now();
        self.record.seen.sessions[session].deeds.push((now, deed));
    }

    fn close(&mut self, session: usize, code: u16) {
        self.cast.clients[session].close(code);
        self.note(session, Deed::Close(code));
    }

    fn open(&mut self, mut opening: Opening) {
        if self.cast.clients.len() >= SESSIONS_MAX || self.world.has_ended(opening.worker) {
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
        let line = line(self.record.name_of(opening.topic), &opening, &asked);
        let headers = match opening.door {
            Door::Plain | Door::Json => HANDSHAKE,
            Door::Sse | Door::SseJson => "Accept: text/event-stream\r\n",
            Door::Ndjson | Door::Foreign => "",
        };
        let request = Request { line: &line, headers, body: &[] };
        let mut client = Client::new(self.world.connect(opening.worker), opening.door, request);
        client.set_pace(opening.pace);
        self.cast.clients.push(client);
        let (sent, deeds, events) = (self.record.now(), Vec::new(), Vec::new());
        self.record.seen.sessions.push(Session { opening, asked, sent, deeds, events });
    }

    /// The position that `start` means now.
    fn asked(&self, topic: usize, start: Start) -> Asked {
        let since = |Position { epoch, offset }| Asked::Since { epoch: Some(epoch), offset };
        match start {
            Start::Live => Asked::Nothing,
            Start::After(number) => {
                let sessions = &self.record.seen.sessions;
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
        let sessions = self.record.seen.sessions.iter();
        let sessions = sessions.filter(|session| session.opening.topic == topic);
        sessions.filter_map(last_position).chain(posted).max_by_key(|position| position.offset)
    }

    fn send(&mut self, session: usize, len: usize, piece: usize) {
        let topic = self.record.seen.sessions[session].opening.topic;
        let (number, text) = self.new_payload(topic, len, By::Session(session));
        self.cast.clients[session].send(&text, piece);
        self.note(session, Deed::Send(number));
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
        let name = self.record.name_of(topic);
        let line = format!("GET /topics/{name}/history?{}&limit={limit}", asked.query());
        let page = self.record.seen.pages.len();
        let sent = self.record.now();
        self.record.seen.pages.push(Page { topic, asked, limit, sent, answer: None });
        self.ask(page, worker, Request { line: &line, headers: "", body: &[] });
    }
}

/// The line of a request for a session.
fn line(topic: &str, Opening { door, echo, .. }: &Opening, asked: &Asked) -> String {
    let mut query = asked.query();
    if *echo == Echo::Off && matches!(door, Door::Plain | Door::Json) {
        query.push_str("&echo=false");
    }
    if matches!(door, Door::Json | Door::SseJson) {
        query.push_str("&format=json");
    }
    format!("GET /topics/{topic}?{query}")
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
