//! A server in small: sessions over a real hub, with simulated time and tokens that can be read.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::auth::{Grant, Identity, Right, Rights};
use crate::hub::{
    Admission, Draft, Hub, HubParts, Inbox, PayloadKind, Peer, Publish, Since, Start, TopicName,
};
use crate::id::WorkerId;
use crate::limits::{JoinLeave, Limits, TopicRule};
use crate::metrics::Memory;
use crate::protocol::centrifugo::{
    self, Action, ClientInfo, Commands, ConnectionToken, Context, Delta, Disconnect, ErrorCode,
    Headcount, Hears, Host, Opening, Pings, Presence, Recovery, ServerSubscription, Session,
    Settings, Subscribe, Subscribed, SubscriptionToken, TokenFault, TopicOptions, Wire,
};
use crate::protocol::{chunk, plain, variants};
use crate::time::Stamp;

const WORKER: WorkerId = WorkerId(0);

/// When the world begins, in seconds since 1970.
pub(super) const START: u64 = 1_700_000_000;

/// What topics offer, by how their names begin.
pub(super) struct Town {
    /// Whether there is a key for tokens.
    pub(super) has_key: bool,
    /// What commands were refused with.
    pub(super) refused: RefCell<Vec<ErrorCode>>,
}

impl Host for Town {
    fn topic(&self, topic: &TopicName) -> Option<TopicOptions> {
        let name = topic.as_str();
        let delta = if name.starts_with("delta") { Delta::Fossil } else { Delta::Off };
        let (recovery, presence) = match name.split(':').next() {
            Some("nowhere") => return None,
            Some("off") => (Recovery::Off, Presence::Off),
            Some("newest") => (Recovery::Newest, Presence::Off),
            Some("members") => (Recovery::Stream, Presence::On(JoinLeave::Asked)),
            Some("told") => (Recovery::Stream, Presence::On(JoinLeave::All)),
            Some("quiet") => (Recovery::Stream, Presence::On(JoinLeave::Off)),
            _ => (Recovery::Stream, Presence::Off),
        };
        Some(TopicOptions { recovery, presence, delta })
    }

    fn rights(&self, identity: &Identity, topic: &TopicName) -> Rights {
        identity.own_rights(topic.as_str())
    }

    fn personal_topic(&self, user: &str) -> Option<TopicName> {
        (user == "pat").then(|| TopicName::new("#pat", 255).unwrap())
    }

    fn refused(&self, error: ErrorCode) {
        self.refused.borrow_mut().push(error);
    }

    fn connection_token(&self, token: &str, now: Stamp) -> Result<ConnectionToken, TokenFault> {
        let fields = self.fields(token, now.wall / 1_000)?;
        let topics = fields.third.split(',').filter(|name| !name.is_empty());
        Ok(ConnectionToken {
            identity: Identity::token(Grant {
                publisher: fields.user.map(Peer::user),
                caps: None,
                expiry: None,
            }),
            expires_at: fields.expires_at,
            info: Bytes::from_static(b"{\"name\":\"Ann\"}"),
            subscriptions: topics.map(ServerSubscription::to).collect(),
        })
    }

    fn subscription_token(&self, token: &str, now: Stamp) -> Result<SubscriptionToken, TokenFault> {
        let fields = self.fields(token, now.wall / 1_000)?;
        Ok(SubscriptionToken {
            user: fields.user,
            topic: fields.third,
            client: Some(fields.fourth).filter(|client| !client.is_empty()),
            hears: Hears::Publications,
            expires_at: fields.expires_at,
            info: Bytes::from_static(b"{\"role\":\"guest\"}"),
            data: Bytes::from_static(b"[1]"),
        })
    }
}

/// `USER/SECONDS TO LIVE/TOPICS/CLIENT`; all but the user may be left out.
struct Fields {
    user: Option<Arc<str>>,
    expires_at: Option<u64>,
    third: Box<str>,
    fourth: Box<str>,
}

impl Town {
    fn fields(&self, token: &str, now: u64) -> Result<Fields, TokenFault> {
        match token {
            _ if !self.has_key => return Err(TokenFault::NoKey),
            "forged" => return Err(TokenFault::Invalid),
            "old" => return Err(TokenFault::Expired),
            "away" => return Err(TokenFault::KeyAway),
            _ => {}
        }
        let mut fields = token.split('/');
        let mut next = || Box::from(fields.next().unwrap_or_default());
        let (user, ttl, third, fourth) = (next(), next(), next(), next());
        let user = Some(Arc::from(user)).filter(|user: &Arc<str>| !user.is_empty());
        Ok(Fields { user, expires_at: ttl.parse::<u64>().ok().map(|ttl| now + ttl), third, fourth })
    }
}

/// What is done on a topic, unless nothing can be.
fn unless_broken<T>(topic: &TopicName, outcome: T) -> Result<T, ErrorCode> {
    if topic.as_str().ends_with("broken") { Err(ErrorCode::Internal) } else { Ok(outcome) }
}

/// A client as the server sees it.
pub(super) struct Client {
    pub(super) session: Session,
    /// What it is subscribed to, and the first live sequence.
    members: Vec<Member>,
    received: Vec<Bytes>,
    pub(super) closed: Option<Disconnect>,
}

struct Member {
    topic: TopicName,
    next: u64,
    hears: Hears,
}

pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) now: Stamp,
    pub(super) town: Town,
    pub(super) settings: Settings,
    random: fastrand::Rng,
    clients: Vec<Client>,
    /// Whether answers wait until they are asked for.
    pub(super) is_slow: bool,
    waiting: Vec<(usize, Action)>,
    /// What waits for every client.
    pub(super) waiting_len: usize,
    /// What those were told that asked to recover.
    pub(super) recovered: Vec<bool>,
}

/// The context of a call, from the fields that it borrows.
macro_rules! context {
    ($world:expr) => {
        &mut Context {
            now: $world.now,
            settings: &$world.settings,
            host: &$world.town,
            random: &mut $world.random,
        }
    };
}

impl World {
    pub(super) fn new() -> Self {
        let memory = Arc::new(Memory::new(u64::MAX));
        let rule = |pattern: &str, history_size| TopicRule {
            pattern: pattern.to_owned(),
            history_size,
            ..TopicRule::default()
        };
        let hub = Hub::new(HubParts {
            rules: vec![rule("off:*", 0), rule("small:*", 2), rule("*", 400)],
            meta_ttl: Duration::from_mins(1),
            inboxes: vec![Arc::new(Inbox::new(Arc::clone(&memory), || {}))],
            variants: Arc::new(variants(None)),
            memory,
        });
        let mut settings = Settings::new(&Limits::default(), "node-1");
        settings.version = "Fanwire".into();
        let now = Stamp { wall: START * 1_000, instant: Instant::now() };
        Self {
            hub,
            now,
            town: Town { has_key: true, refused: RefCell::default() },
            settings,
            random: fastrand::Rng::with_seed(7),
            clients: Vec::new(),
            is_slow: false,
            waiting: Vec::new(),
            waiting_len: 0,
            recovered: Vec::new(),
        }
    }

    /// A client that has opened a connection, with what its request says.
    pub(super) fn enter(&mut self, wire: Wire, identity: Option<Identity>) -> usize {
        self.enter_by(Opening {
            wire,
            caller: identity.map(Into::into),
            pings: Pings::Messages,
            name: (wire.is_emulated() || wire.is_unidirectional()).then(|| "secret".into()),
        })
    }

    pub(super) fn enter_by(&mut self, opening: Opening) -> usize {
        let session = Session::new(opening, context!(self));
        self.clients.push(Client {
            session,
            members: Vec::new(),
            received: Vec::new(),
            closed: None,
        });
        self.clients.len() - 1
    }

    /// A client of JSON frames that has connected without a token.
    pub(super) fn connected(&mut self) -> usize {
        self.connected_with(&Right::ALL)
    }

    pub(super) fn connected_with(&mut self, rights: &[Right]) -> usize {
        let client = self.enter(Wire::JsonFrames, Some(Identity::with(rights)));
        self.say(client, r#"{"id":1,"connect":{}}"#);
        client
    }

    /// A client of JSON frames that has connected with a token.
    pub(super) fn connected_by(&mut self, token: &str) -> usize {
        let client = self.enter(Wire::JsonFrames, None);
        self.say(client, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        client
    }

    pub(super) fn client(&mut self, client: usize) -> &mut Client {
        &mut self.clients[client]
    }

    /// Hands in a frame of JSON, in which `EPOCH` and `CLIENT` stand for what only the server
    /// knows. Returns what the client got for it, with the same words.
    pub(super) fn say(&mut self, client: usize, frame: &str) -> Vec<String> {
        let frame = self.reveal(client, frame);
        self.hear(client, frame.as_bytes());
        self.got(client)
    }

    pub(super) fn hear(&mut self, client: usize, frame: &[u8]) {
        let mut commands = self.clients[client].session.read(frame);
        self.drive(client, &mut commands);
    }

    /// What a host does.
    fn drive(&mut self, client: usize, commands: &mut Commands<'_>) {
        loop {
            let session = &mut self.clients[client].session;
            let Some(action) = session.next_action(commands, context!(self)) else { break };
            let is_answered =
                !matches!(action, Action::Send(_) | Action::Close(_) | Action::Unsubscribe(_));
            if self.is_slow && is_answered {
                self.waiting.push((client, action));
            } else {
                self.perform(client, action);
            }
        }
        self.deliver();
    }

    /// Performs what waited, the last first: answers may come in any order.
    pub(super) fn catch_up(&mut self) {
        self.is_slow = false;
        while let Some((client, action)) = self.waiting.pop() {
            self.perform(client, action);
            self.drive(client, &mut Commands::none());
        }
    }

    /// Lets time pass, and does what is due on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            let context = context!(self);
            let due = self.clients.iter().enumerate().filter(|(_, one)| one.closed.is_none());
            let due = due.filter_map(|(at, one)| Some((one.session.deadline(context)?, at))).min();
            let Some((at, client)) = due.filter(|(at, _)| *at <= end) else { break };
            self.advance(at.max(self.now.instant));
            self.clients[client].session.on_deadline(context!(self));
            self.drive(client, &mut Commands::none());
        }
        self.advance(end);
    }

    fn advance(&mut self, to: Instant) {
        let passed = to.saturating_duration_since(self.now.instant);
        // Deadlines by the wall clock have a resolution of a millisecond.
        self.now.wall += u64::try_from(passed.as_nanos().div_ceil(1_000_000)).unwrap();
        self.now.instant = to;
    }

    pub(super) fn act(&mut self, client: usize, act: impl FnOnce(&mut Session, &mut Context<'_>)) {
        act(&mut self.clients[client].session, context!(self));
        self.drive(client, &mut Commands::none());
    }

    fn perform(&mut self, client: usize, action: Action) {
        match action {
            Action::Send(bytes) => self.clients[client].received.push(bytes.into()),
            Action::Subscribe(subscribe) => self.subscribe(client, &subscribe),
            Action::Unsubscribe(topic) => self.leave(client, &topic),
            Action::Publish(publish) => {
                let user = self.clients[client].session.user().cloned().unwrap_or_default();
                let publisher = Some(Peer::user(user));
                let draft = Draft { publisher, ..Draft::new(publish.payload) };
                let outcome = unless_broken(&publish.topic, ());
                if outcome.is_ok() {
                    self.publish_draft(publish.topic.as_str(), &draft);
                }
                let session = &mut self.clients[client].session;
                let context = context!(self);
                session.on_published(publish.command, outcome, context);
            }
            Action::History(history) => {
                let page = history.span.read(&self.hub, &history.topic);
                let outcome = unless_broken(&history.topic, page);
                let session = &mut self.clients[client].session;
                let context = context!(self);
                session.on_history(&history, outcome, context);
            }
            Action::Presence(command, topic) => {
                let outcome = unless_broken(&topic, self.members(&topic));
                let session = &mut self.clients[client].session;
                let context = context!(self);
                session.on_presence(command, outcome, context);
            }
            Action::PresenceStats(command, topic) => {
                let clients = u32::try_from(self.members(&topic).len()).unwrap();
                let outcome = unless_broken(&topic, Headcount { clients, users: 1 });
                let session = &mut self.clients[client].session;
                let context = context!(self);
                session.on_presence_stats(command, outcome, context);
            }
            Action::Close(disconnect) => {
                self.clients[client].closed = Some(disconnect);
                let members = std::mem::take(&mut self.clients[client].members);
                for member in &members {
                    self.unsubscribe(&member.topic);
                }
            }
        }
    }

    fn subscribe(&mut self, client: usize, subscribe: &Subscribe) {
        if let Err(error) = unless_broken(&subscribe.topic, ()) {
            let session = &mut self.clients[client].session;
            let recovered = session.on_subscribed(subscribe, Err(error), context!(self));
            return assert_eq!(recovered, None);
        }
        let (topic, joined) = self.hub.subscribe(&subscribe.topic, WORKER, subscribe.start, |_| 0);
        let is_recovered = joined.recovered == Some(true);
        let missed = (is_recovered || matches!(subscribe.start, Start::Last(_))).then(|| {
            let offset = joined.position.map_or(0, |position| position.offset);
            let since = Since { epoch: None, offset };
            topic.page(Some(since), centrifugo::PAGE_COUNT_MAX + 1).publications
        });
        let member =
            Member { topic: topic.name().clone(), next: joined.top + 1, hears: subscribe.hears };
        let subscribed = Subscribed {
            topic: topic.name().clone(),
            top: joined.newest,
            missed,
            waiting_len: self.waiting_len,
        };
        let client = &mut self.clients[client];
        client.members.push(member);
        let recovered = client.session.on_subscribed(subscribe, Ok(subscribed), context!(self));
        self.recovered.extend(recovered);
    }

    fn leave(&mut self, client: usize, topic: &TopicName) {
        self.waiting.retain(|(who, action)| {
            *who != client
                || !matches!(action, Action::Subscribe(waiting) if waiting.topic == *topic)
        });
        let members = &mut self.clients[client].members;
        if let Some(at) = members.iter().position(|member| member.topic == *topic) {
            members.remove(at);
            self.unsubscribe(topic);
        }
    }

    fn unsubscribe(&self, topic: &TopicName) {
        let (topic, _) = self.hub.subscribe(topic, WORKER, Start::Live, |_| 0);
        topic.unsubscribe(WORKER);
        topic.unsubscribe(WORKER);
    }

    fn members(&self, topic: &TopicName) -> Vec<ClientInfo> {
        let there = self
            .clients
            .iter()
            .filter(|client| client.members.iter().any(|member| member.topic == *topic));
        there.map(|client| client.session.info(topic)).collect()
    }

    /// Publishes as a plain client does.
    pub(super) fn publish(&mut self, topic: &str, data: &str) {
        let payload = plain::payload(PayloadKind::Text, data.as_bytes());
        self.publish_draft(topic, &Draft::new(payload));
        self.deliver();
    }

    fn publish_draft(&self, topic: &str, draft: &Draft) {
        let options = Publish::new(self.now, Admission::Always);
        let topic = TopicName::new(topic, 255).unwrap();
        self.hub.publish(&topic, draft, options).unwrap();
    }

    /// Fans out what arrived, as a worker does at the end of a turn.
    fn deliver(&mut self) {
        while let Some(arrival) = self.hub.inbox(WORKER).pop() {
            for client in &mut self.clients {
                let variant = client.session.wire().variant();
                for member in &client.members {
                    let (topic, _) = self.hub.subscribe(&member.topic, WORKER, Start::Live, |_| 0);
                    topic.unsubscribe(WORKER);
                    if topic.id() != arrival.topic || arrival.publication.sequence < member.next {
                        continue;
                    }
                    let variants = self.hub.variants();
                    let bytes = arrival.publication.encoded(variant, topic.name(), variants);
                    client.received.push(bytes.clone());
                }
            }
        }
    }

    /// Who hears of members.
    pub(super) fn hears(&self, client: usize, topic: &str) -> Option<Hears> {
        let members = &self.clients[client].members;
        members.iter().find(|member| member.topic.as_str() == topic).map(|member| member.hears)
    }

    pub(super) fn topics(&self, client: usize) -> Vec<&str> {
        self.clients[client].members.iter().map(|member| member.topic.as_str()).collect()
    }

    pub(super) fn epoch(&self, topic: &str) -> String {
        let page = self.hub.page(&TopicName::new(topic, 255).unwrap(), None, 0);
        page.unwrap().top.epoch.to_string()
    }

    /// What the client got since the last look: the payloads of frames, or pieces of a body.
    pub(super) fn received(&mut self, client: usize) -> Vec<Vec<u8>> {
        let client = &mut self.clients[client];
        let wire = client.session.wire();
        let received = client.received.drain(..);
        received.flat_map(|bytes| messages(wire, &bytes)).collect()
    }

    /// As text, with the words for what only the server knows.
    pub(super) fn got(&mut self, client: usize) -> Vec<String> {
        let received = self.received(client);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        received.into_iter().map(|bytes| self.hide(client, &text(bytes))).collect()
    }

    fn words(&self, client: usize) -> Vec<(String, &'static str)> {
        let mut words = vec![(self.clients[client].session.client().to_string(), "CLIENT")];
        for topic in ["a", "b", "newest:a", "small:a", "members:a"] {
            if let Some(page) = self.hub.page(&TopicName::new(topic, 255).unwrap(), None, 0) {
                words.push((page.top.epoch.to_string(), "EPOCH"));
            }
        }
        words
    }

    fn hide(&self, client: usize, text: &str) -> String {
        let words = self.words(client);
        words.iter().fold(text.to_owned(), |text, (real, word)| text.replace(real, word))
    }

    pub(super) fn reveal(&self, client: usize, text: &str) -> String {
        let client = self.clients[client].session.client().to_string();
        let text = text.replace("CLIENT", &client);
        if text.contains("EPOCH") { text.replace("EPOCH", &self.epoch("a")) } else { text }
    }
}

/// What frames or chunks carry.
pub(super) fn messages(wire: Wire, bytes: &[u8]) -> Vec<Vec<u8>> {
    if wire.is_body() {
        chunk::contents(bytes).map(<[u8]>::to_vec).collect()
    } else {
        frames(bytes)
    }
}

/// The payload of the one frame that `bytes` are.
pub(super) fn unframe(bytes: &[u8]) -> Vec<u8> {
    let mut payloads = frames(bytes);
    assert_eq!(payloads.len(), 1);
    payloads.remove(0)
}

/// The payloads of frames whose heads are the shortest.
fn frames(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while !rest.is_empty() {
        let (head_len, len) = match rest[1] {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            127 => {
                (10, usize::try_from(u64::from_be_bytes(rest[2..10].try_into().unwrap())).unwrap())
            }
            len => (2, usize::from(len)),
        };
        payloads.push(rest[head_len..head_len + len].to_vec());
        rest = &rest[head_len + len..];
    }
    payloads
}
