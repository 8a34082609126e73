//! One client's session: frames in, actions out, time handed in. No I/O.
//!
//! The host drives it like a decoder: it gives a frame, performs the actions one by one and tells
//! what came of them, until there is none left:
//!
//! ```text
//! let mut commands = session.read(frame);
//! while let Some(action) = session.next_action(&mut commands, &mut context) {
//!     match action {
//!         Action::Send(bytes) => outbox.push(bytes),
//!         Action::Publish(publish) => {
//!             let outcome = hub.publish(&publish.topic, ..);
//!             session.on_published(publish.command, outcome, &context);
//!         }
//!         Action::Close(disconnect) => return close(disconnect),
//!         ..
//!     }
//! }
//! ```
//!
//! Commands are decoded one at a time, when the action of the one before has been performed, so
//! that what a client sends at once never makes more work wait than one command does. Replies to
//! all commands of a frame leave in one frame.

mod action;
mod command;
mod connect;
mod subscribe;
mod subscription;
mod timer;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::code::{Disconnect, ErrorCode};
use super::frame::{Commands, Frame, Wire};
use super::host::{ConnectionToken, Context};
use super::message::{ClientInfo, Command, ConnectRequest, Push, Reply};
use crate::auth::{Expiry, Identity};
use crate::hub::TopicName;
use crate::id::ClientId;
use crate::rate::Bucket;
use connect::Connecting;
use subscription::{Stage, Subscriptions};
use timer::Timers;

pub use action::{
    Action, CommandId, Headcount, History, Order, Page, Publish, Span, Subscribe, Subscribed,
};

/// Most publications in one reply, be it history or recovery.
pub const PAGE_COUNT_MAX: usize = 300;

/// Replies above this are sent before the next command is looked at.
const FRAME_LEN_MAX: usize = 32 * 1024;

/// How a session begins.
#[derive(Debug)]
pub struct Opening {
    /// What carries its messages.
    pub wire: Wire,
    /// Who the request said it was; `None` = nobody without a token in `connect`.
    pub caller: Option<ConnectionToken>,
    /// Who looks whether the client is still there.
    pub pings: Pings,
    /// What the session is called in requests about it, where a WebSocket cannot bring them. Nobody
    /// may guess it.
    pub name: Option<Box<str>>,
}

/// Who looks whether the client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pings {
    /// The session, by messages.
    Messages,
    /// The transport.
    Transport,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody yet.
    New,
    /// Let in; waits for the subscriptions that come with the connection.
    Connecting,
    /// Connected.
    Open,
    /// Not let in: whatever comes next ends it.
    Unusable,
    /// To end when what is written so far is out.
    Closing(Disconnect),
    /// Over.
    Closed,
}

impl Command {
    /// Whether it reads history, lists members or checks a token: more work than its bytes tell.
    fn is_costly(&self) -> bool {
        let subscribe = self.subscribe.as_ref();
        subscribe.is_some_and(|request| request.recover || !request.token.is_empty())
            || self.history.as_ref().is_some_and(|request| request.limit != 0)
            || self.presence.is_some()
            || self.refresh.is_some()
            || self.sub_refresh.is_some()
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It gets an error.
    Error(ErrorCode),
    /// It ends the connection.
    Disconnect(Disconnect),
}

impl From<ErrorCode> for Failure {
    fn from(error: ErrorCode) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Failure {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnect(disconnect)
    }
}

/// Whose session it is.
#[derive(Debug)]
enum Owner {
    /// Whoever will connect: who the request said, unless `connect` says it.
    Caller(Option<Box<ConnectionToken>>),
    /// Who connected.
    Client(Identity),
}

/// What a token gives to a connection beside its identity.
#[derive(Debug)]
struct Account {
    /// What others see: JSON, empty = nothing.
    info: Bytes,
    /// When it ends unless it is renewed; `None` = never.
    expiry: Option<Expiry>,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    pings: Pings,
    client: ClientId,
    owner: Owner,
    /// `None` = nothing of it.
    account: Option<Box<Account>>,
    name: Option<Box<str>>,
    subscriptions: Subscriptions,
    connecting: Option<Box<Connecting>>,
    timers: Timers,
    /// Costly commands that are left in this second; `None` = none was ever given.
    allowance: Option<Box<Bucket>>,
    actions: VecDeque<Action>,
    out: Frame,
}

impl Session {
    /// A session of a client that has said nothing yet.
    pub fn new(opening: Opening, context: &mut Context<'_>) -> Self {
        let Opening { wire, caller, pings, name } = opening;
        Self {
            phase: Phase::New,
            pings,
            client: ClientId::random(context.random),
            owner: Owner::Caller(caller.map(Box::new)),
            account: None,
            name,
            subscriptions: Subscriptions::default(),
            connecting: None,
            timers: Timers::new(context),
            allowance: None,
            actions: VecDeque::new(),
            out: Frame::new(wire),
        }
    }

    /// What carries its messages.
    pub fn wire(&self) -> Wire {
        self.out.wire()
    }

    /// Whether the client is connected, as far as the protocol goes.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Who looks whether the client is still there.
    pub fn pings(&self) -> Pings {
        self.pings
    }

    /// The client's name.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The user, where one is known.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.identity()?.user()
    }

    fn identity(&self) -> Option<&Identity> {
        match &self.owner {
            Owner::Caller(_) => None,
            Owner::Client(identity) => Some(identity),
        }
    }

    /// How others see the client on `topic`.
    pub fn info(&self, topic: &TopicName) -> ClientInfo {
        let subscription = self.subscriptions.get(topic.as_str());
        let terms = subscription.and_then(|subscription| subscription.terms.as_deref());
        ClientInfo {
            user: self.user().map_or("", |user| user).to_owned(),
            client: self.client.to_string(),
            conn_info: self
                .account
                .as_ref()
                .map(|account| account.info.clone())
                .unwrap_or_default(),
            chan_info: terms.map(|terms| terms.info.clone()).unwrap_or_default(),
        }
    }

    /// The topics of all subscriptions in force.
    pub fn topics(&self) -> impl Iterator<Item = &TopicName> {
        let open = self.subscriptions.iter().filter(|known| known.stage == Stage::Open);
        open.map(|known| &known.topic)
    }

    /// Whether a subscription to `topic` is in force.
    pub fn is_subscribed(&self, topic: &TopicName) -> bool {
        self.topics().any(|known| known == topic)
    }

    /// The commands in a frame of the client's. One that only listens sends a request to connect, and
    /// what it says later is not looked at.
    pub fn read<'a>(&self, frame: &'a [u8]) -> Commands<'a> {
        if !self.wire().is_unidirectional() {
            Commands::new(self.wire().codec(), frame)
        } else if self.phase == Phase::New {
            Commands::connect(ConnectRequest::parse(frame))
        } else {
            Commands::none()
        }
    }

    /// What to do next; `None` = nothing until something happens.
    pub fn next_action(
        &mut self,
        commands: &mut Commands<'_>,
        context: &mut Context<'_>,
    ) -> Option<Action> {
        if self.phase == Phase::Closed {
            // Answers to what was done before the end.
            return (!self.out.is_empty()).then(|| Action::Send(self.out.take()));
        }
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if self.out.len() > FRAME_LEN_MAX || self.is_ending() {
                break;
            }
            match commands.next() {
                Some(Ok(command)) => self.on_command(command, context),
                Some(Err(_)) => self.close(Disconnect::BadRequest),
                None => break,
            }
        }
        if !self.out.is_empty() {
            return Some(Action::Send(self.out.take()));
        }
        if let Phase::Closing(disconnect) = self.phase {
            self.phase = Phase::Closed;
            return Some(Action::Close(disconnect));
        }
        self.actions = VecDeque::new();
        None
    }

    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Closed)
    }

    /// Ends the session, once what is written so far is out.
    pub fn close(&mut self, disconnect: Disconnect) {
        if self.is_ending() {
            return;
        }
        self.actions.clear();
        self.phase = Phase::Closing(disconnect);
    }

    fn push(&mut self, push: Push) {
        self.out.push(&Reply { push: Some(push), ..Reply::default() });
    }

    fn refuse(&mut self, CommandId(id): CommandId, error: ErrorCode, context: &Context<'_>) {
        context.host.refused(error);
        if self.wire().is_unidirectional() {
            return self.close(error.disconnect());
        }
        self.out.push(&Reply { id, error: Some(error.into()), ..Reply::default() });
    }

    /// Ends the session, or tells the client that its command failed.
    fn fail(&mut self, command: CommandId, failure: Failure, context: &Context<'_>) {
        match failure {
            Failure::Error(error) => self.refuse(command, error, context),
            Failure::Disconnect(disconnect) => self.close(disconnect),
        }
    }

    fn on_command(&mut self, command: Command, context: &mut Context<'_>) {
        let id = CommandId(command.id);
        if command == Command::default() && self.phase == Phase::Open {
            return self.on_pong();
        }
        let is_numbered = command.id > 0 || command.send.is_some();
        let is_expected = match self.phase {
            Phase::New => command.connect.is_some(),
            Phase::Open => command.connect.is_none(),
            Phase::Connecting | Phase::Unusable | Phase::Closing(_) | Phase::Closed => false,
        };
        if !is_numbered || !is_expected {
            return self.close(Disconnect::BadRequest);
        }
        if let Err(failure) = self.dispatch(command, context) {
            if self.phase == Phase::New {
                self.phase = Phase::Unusable;
            }
            self.fail(id, failure, context);
        }
    }

    /// Takes one from the costly commands that are left in this second.
    fn take_allowance(&mut self, context: &Context<'_>) -> Result<(), ErrorCode> {
        let rate = context.settings.costly_per_second_max;
        let allowance = self.allowance.get_or_insert_default();
        let has_one = allowance.take(rate, context.now.instant);
        if has_one { Ok(()) } else { Err(ErrorCode::TooManyRequests) }
    }

    /// Carries out the first request there is, in the protocol's order; there should be only one.
    fn dispatch(&mut self, command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
        let id = CommandId(command.id);
        if command.is_costly() {
            self.take_allowance(context)?;
        }
        match command {
            Command { connect: Some(request), .. } => self.connect(id, &request, context),
            Command { subscribe: Some(request), .. } => self.subscribe(id, &request, context),
            Command { unsubscribe: Some(request), .. } => self.unsubscribe(id, &request),
            Command { publish: Some(request), .. } => self.publish(id, &request, context),
            Command { presence: Some(request), .. } => self.presence(id, &request.channel, context),
            Command { presence_stats: Some(request), .. } => {
                self.presence_stats(id, &request.channel, context)
            }
            Command { history: Some(request), .. } => self.history(id, &request, context),
            // No procedures are offered here.
            Command { rpc: Some(_), .. } => Err(ErrorCode::NotAvailable.into()),
            Command { send: Some(_), .. } => Err(Disconnect::NotAvailable.into()),
            Command { refresh: Some(request), .. } => self.refresh(id, &request, context),
            Command { sub_refresh: Some(request), .. } => self.sub_refresh(id, &request, context),
            _ => Err(Disconnect::BadRequest.into()),
        }
    }
}
