//! Sessions that requests of their own are for, which may reach any worker: those whose client
//! cannot send otherwise, and those that only listen, of which the application may speak.
//!
//! Such a session has a name that leads to its worker and slot at once and that nobody guesses. Its
//! commands are carried out on its own worker, like those of a socket that was read: in order, at
//! the session's rate, and not while publishers are held back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::{ConnectionKey, Phase};
use super::{Worker, WorkerHandle};
use crate::id::WorkerId;
use crate::metrics::{Charge, MemoryKind};
use crate::protocol::centrifugo::{EmulationRequest, Opening};

/// How long commands may wait for publishers to go on.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// Hexadecimal digits of a session's name: its worker, its slot and generation, its secret.
const DIGITS: [usize; 3] = [4, 16, 32];

/// 128 random bits.
#[derive(Clone, Copy)]
struct Secret([u8; 16]);

impl Secret {
    fn random() -> Self {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the kernel gives random bytes to whoever asks");
        Self(bits)
    }

    /// Compares in constant time.
    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a client calls its session.
#[derive(Debug, Clone, Copy)]
struct SessionName {
    worker: WorkerId,
    key: ConnectionKey,
    secret: Secret,
}

impl SessionName {
    fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS.iter().sum::<usize>() || !text.bytes().all(is_digit) {
            return None;
        }
        let (worker, rest) = text.split_at(DIGITS[0]);
        let (slot, secret) = rest.split_at(DIGITS[1]);
        Some(Self {
            worker: WorkerId(u16::from_str_radix(worker, 16).ok()?),
            key: ConnectionKey::from_token(mio::Token(usize::from_str_radix(slot, 16).ok()?)),
            secret: Secret(u128::from_str_radix(secret, 16).ok()?.to_be_bytes()),
        })
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker: WorkerId(worker), key, secret: Secret(secret) } = self;
        let (slot, secret) = (key.token().0, u128::from_be_bytes(*secret));
        let [worker_len, slot_len, secret_len] = DIGITS;
        write!(f, "{worker:0worker_len$x}{slot:0slot_len$x}{secret:0secret_len$x}")
    }
}

/// What a session with a name has beside its state.
#[derive(Debug)]
pub(super) struct Emulation {
    secret: Secret,
    /// What waits until publishers may go on, in order. One request of each HTTP connection, so
    /// these limit it.
    held: Vec<Held>,
}

/// Commands on their way to their session, on the memory account.
#[derive(Debug)]
struct Parcel {
    commands: Bytes,
    _charge: Charge,
}

/// Commands that wait. Dropped, they are not carried out.
#[derive(Debug)]
struct Held {
    parcel: Parcel,
    done: oneshot::Sender<()>,
}

/// What a worker did with commands.
#[derive(Debug)]
enum Taken {
    /// They are carried out.
    Done,
    /// They wait.
    Held(oneshot::Receiver<()>),
    /// They are for a session that is not here.
    Unknown,
}

/// Why commands did not reach their session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// There is no such session here, or no more.
    #[error("there is no such session on this node")]
    Unknown,
    /// Publishers are held back for too long.
    #[error("publishers are held back")]
    HeldBack,
}

impl WorkerHandle {
    /// Has the session that `request` names carry out its commands, on its own worker.
    ///
    /// # Errors
    /// [`Undelivered`] when none of them was carried out.
    ///
    /// # Cancel safety
    /// The commands are carried out all the same, unless they wait.
    pub async fn emulate(&self, request: EmulationRequest) -> Result<(), Undelivered> {
        let gate = self.with(|worker| Arc::clone(&worker.gate));
        let name = SessionName::parse(&request.session);
        let name = name.filter(|_| *request.node == *gate.settings.node);
        let name = name.ok_or(Undelivered::Unknown)?;
        let post = gate.posts().get(usize::from(name.worker.0)).ok_or(Undelivered::Unknown)?;
        let commands = request.data;
        let charge = Charge::new(self.hub().memory(), MemoryKind::Reading, commands.len());
        let parcel = Parcel { commands, _charge: charge };
        match post.ask(move |worker| worker.take_in(name, parcel)).await {
            Some(Taken::Done) => Ok(()),
            Some(Taken::Held(done)) => match timeout(HOLD_MAX, done).await {
                Ok(Ok(())) => Ok(()),
                // It went while they waited.
                Ok(Err(_)) => Err(Undelivered::Unknown),
                Err(_) => Err(Undelivered::HeldBack),
            },
            Some(Taken::Unknown) | None => Err(Undelivered::Unknown),
        }
    }
}

impl Worker {
    /// Gives a session a name, if requests may be for it.
    pub(super) fn name_session(&mut self, key: ConnectionKey, opening: Opening) -> Opening {
        if !opening.wire.is_emulated() && !opening.wire.is_unidirectional() {
            return opening;
        }
        let name = SessionName { worker: self.output.worker, key, secret: Secret::random() };
        let emulation = Emulation { secret: name.secret, held: Vec::new() };
        self.connections[key.index as usize].extra().emulation = Some(Box::new(emulation));
        Opening { name: Some(name.to_string().into()), ..opening }
    }

    /// Whether the client of an open session calls it so.
    pub(super) fn is_named(&mut self, key: ConnectionKey, text: &str) -> bool {
        let name = SessionName::parse(text);
        let name = name.filter(|name| name.worker == self.output.worker && name.key == key);
        let Some(SessionName { secret, .. }) = name else { return false };
        self.emulation(key).is_some_and(|emulation| emulation.secret.is(&secret))
    }

    /// Takes commands for the session of that name. While publishers are held back they wait: what
    /// a socket's client sends is not read then, either.
    fn take_in(&mut self, name: SessionName, parcel: Parcel) -> Taken {
        let SessionName { key, secret, .. } = name;
        let is_it = self.emulation(key).is_some_and(|emulation| emulation.secret.is(&secret));
        let session = self.get(key).and_then(|connection| connection.commanded());
        if !is_it || session.is_none_or(|session| session.wire().is_unidirectional()) {
            return Taken::Unknown;
        }
        if self.is_held_back(key) {
            let (done, is_done) = oneshot::channel();
            self.hold(key, Held { parcel, done });
            return Taken::Held(is_done);
        }
        self.on_commands(key, &parcel.commands);
        Taken::Done
    }

    /// Carries out what waited, until publishers are held back again.
    pub(super) fn carry_out_held(&mut self, key: ConnectionKey) {
        let Some(emulation) = self.emulation(key) else { return };
        for held in std::mem::take(&mut emulation.held) {
            if held.done.is_closed() {
                continue;
            }
            if self.is_held_back(key) {
                self.hold(key, held);
            } else if self.emulation(key).is_some() {
                self.on_commands(key, &held.parcel.commands);
                // Whoever asked may be gone by now.
                let _ = held.done.send(());
            }
        }
    }

    fn is_held_back(&mut self, key: ConnectionKey) -> bool {
        let is_full = self.hub.is_over();
        self.get(key).is_some_and(|connection| is_full || connection.inflow.is_paused)
    }

    fn hold(&mut self, key: ConnectionKey, held: Held) {
        self.pause(key);
        let Some(emulation) = self.emulation(key) else { return };
        // Whoever no longer waits for an answer must not make this grow.
        emulation.held.retain(|one| !one.done.is_closed());
        emulation.held.push(held);
    }

    /// What a session with a name has, for as long as it goes on.
    fn emulation(&mut self, key: ConnectionKey) -> Option<&mut Emulation> {
        let connection = self.get(key).filter(|one| one.phase == Phase::Open)?;
        connection.extra.as_mut()?.emulation.as_deref_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::Poll;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::tests::idle_worker_of;
    use super::super::{Opening, Pending, WorkerHandle};
    use super::{ConnectionKey, HOLD_MAX, Secret, SessionName, Undelivered};
    use crate::auth::{Identity, Rights};
    use crate::hub::{
        Admission, Draft, Hub, INBOX_LEN_MAX, PayloadKind, Publish, Start, TopicName,
    };
    use crate::id::{Door, WorkerId};
    use crate::outbox::SLICES_MAX;
    use crate::protocol::centrifugo::{
        Commands, ConnectRequest, EmulationRequest, Opening as SessionOpening, Pings, Wire,
    };
    use crate::protocol::{self, chunk};
    use crate::time::Stamp;

    const ELSEWHERE: WorkerId = WorkerId(1);

    /// A connected session, as its client knows it.
    struct Client {
        handle: WorkerHandle,
        hub: Arc<Hub>,
        pending: Pending,
        session: String,
    }

    impl Client {
        fn connect() -> Self {
            Self::connect_over(Wire::JsonBody)
        }

        fn connect_over(wire: Wire) -> Self {
            let (handle, hub) = idle_worker_of(2);
            let (caller, pings) = (Some(Identity::SERVER.into()), Pings::Messages);
            let session = Some(SessionOpening { wire, caller, pings, name: None });
            let (rights, door) = (Rights::NONE, Door::CentrifugoJson);
            let opening = Opening { rights, grant: None, door, deflate: None, session };
            let request = ConnectRequest::default();
            let pending = handle.open_session(opening, b"", Commands::connect(Ok(request)));
            let mut client = Self { handle, hub, pending, session: String::new() };
            let reply: serde_json::Value =
                serde_json::from_str(&client.got()).expect("the answer to connect");
            let name = reply["connect"]["session"].as_str();
            client.session = name.expect("a name").to_owned();
            client
        }

        /// What waits for the client.
        fn got(&self) -> String {
            self.handle.with(|worker| {
                let (_, connection) = worker.connections.iter_mut().next().expect("one session");
                let outbox = connection.outbox.take().unwrap_or_default();
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = outbox.slices(&mut slices);
                let contents = slices[..count].iter().flat_map(|chunk| chunk::contents(chunk));
                String::from_utf8(contents.flatten().copied().collect()).expect("text")
            })
        }

        fn request(&self, data: &str) -> EmulationRequest {
            EmulationRequest {
                node: "node".to_owned(),
                session: self.session.clone(),
                data: Bytes::copy_from_slice(data.as_bytes()),
            }
        }

        fn publish(&self, number: u32) -> EmulationRequest {
            let command = format!(r#""publish":{{"channel":"a","data":{number}}}"#);
            self.request(&format!(r#"{{"id":{number},{command}}}"#))
        }

        fn turn(&self) {
            self.handle.with(|worker| worker.turn(&mio::Events::with_capacity(1), 0));
        }

        fn published(&self) -> u64 {
            let metrics = self.handle.metrics();
            metrics.publications[Door::CentrifugoJson.index()].get()
        }

        /// Fills the inbox of the other worker.
        fn overrun(&self) {
            let topic = TopicName::new("other", 255).expect("a topic name");
            let _subscribed = self.hub.subscribe(&topic, ELSEWHERE, Start::Live, |_| 0);
            let payload = vec![0; INBOX_LEN_MAX];
            let payload = protocol::plain::payload(PayloadKind::Binary, &payload);
            let draft = Draft::new(payload);
            let options = Publish::new(Stamp::now(), Admission::Always);
            self.hub.publish(&topic, &draft, options).expect("there was room when it came");
        }

        fn make_room(&self) {
            let inbox = self.hub.inbox(ELSEWHERE);
            let arrival = inbox.pop().expect("it is there");
            assert!(inbox.release(&arrival.publication));
        }
    }

    /// Lets a future go on as far as it can.
    async fn step<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
    }

    /// What comes of a request in one turn.
    async fn ask(client: &Client, request: EmulationRequest) -> Poll<Result<(), Undelivered>> {
        let mut asked = pin!(client.handle.emulate(request));
        let at_once = step(&mut asked).await;
        if at_once.is_ready() {
            return at_once;
        }
        client.turn();
        step(&mut asked).await
    }

    #[tokio::test]
    async fn commands_reach_the_session_that_they_name_and_no_other() {
        let client = Client::connect();
        assert_eq!(ask(&client, client.publish(2)).await, Poll::Ready(Ok(())));
        assert_eq!(client.got(), "{\"id\":2,\"publish\":{}}\n");
        let other = |index: usize, digit: &str| {
            let mut session = client.session.clone();
            session.replace_range(index..=index, digit);
            EmulationRequest { session, ..client.publish(3) }
        };
        let last = client.session.len() - 1;
        let changed = if client.session.ends_with('0') { "1" } else { "0" };
        for (what, request) in [
            ("another node", EmulationRequest { node: "x".to_owned(), ..client.publish(3) }),
            ("no name", EmulationRequest { session: "x".to_owned(), ..client.publish(3) }),
            ("no such worker", other(0, "f")),
            ("another worker", other(3, "1")),
            ("another generation", other(4, "f")),
            ("another slot", other(19, "7")),
            ("another secret", other(last, changed)),
        ] {
            let got = ask(&client, request).await;
            // A worker that nobody runs gives no answer.
            let unknown = Poll::Ready(Err(Undelivered::Unknown));
            assert!(got == unknown || what == "another worker" && got.is_pending(), "{what}");
        }
        assert_eq!(client.published(), 1);
        let Client { handle, session, pending, .. } = client;
        drop(pending);
        let request = EmulationRequest { node: "node".to_owned(), session, data: Bytes::new() };
        let mut asked = pin!(handle.emulate(request));
        assert!(step(&mut asked).await.is_pending());
        handle.with(|worker| worker.turn(&mio::Events::with_capacity(1), 0));
        assert_eq!(asked.await, Err(Undelivered::Unknown), "it is gone");
    }

    #[tokio::test]
    async fn a_session_that_only_listens_takes_no_commands_by_its_name() {
        let client = Client::connect_over(Wire::UniBody);
        let got = ask(&client, client.publish(2)).await;
        assert_eq!(got, Poll::Ready(Err(Undelivered::Unknown)));
        assert_eq!((client.published(), client.got()), (0, String::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn commands_wait_in_order_while_publishers_are_held_back() {
        let client = Client::connect();
        client.overrun();
        let mut first = pin!(client.handle.emulate(client.publish(2)));
        let mut second = pin!(client.handle.emulate(client.publish(3)));
        assert!(step(&mut first).await.is_pending() && step(&mut second).await.is_pending());
        client.turn();
        client.turn();
        assert!(ask(&client, client.publish(4)).await.is_pending(), "and then it gives up");
        assert_eq!(client.published(), 0);
        client.make_room();
        client.turn();
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));
        let replies = "{\"id\":2,\"publish\":{}}\n{\"id\":3,\"publish\":{}}\n";
        assert_eq!(client.got(), replies);
        assert_eq!(client.published(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn commands_do_not_wait_for_ever() {
        let client = Client::connect();
        client.overrun();
        let begin = tokio::time::Instant::now();
        let mut asked = pin!(client.handle.emulate(client.publish(2)));
        assert!(step(&mut asked).await.is_pending());
        client.turn();
        assert_eq!(asked.await, Err(Undelivered::HeldBack));
        assert_eq!(begin.elapsed(), HOLD_MAX);
        client.make_room();
        client.turn();
        assert_eq!(client.published(), 0, "its client was told that it is not carried out");
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(
            worker in any::<u16>(),
            slot in any::<usize>(),
            secret in any::<[u8; 16]>(),
        ) {
            let key = ConnectionKey::from_token(mio::Token(slot));
            let name = SessionName { worker: WorkerId(worker), key, secret: Secret(secret) };
            let text = name.to_string();
            let read = SessionName::parse(&text).expect("a name");
            prop_assert_eq!((read.worker, read.key), (name.worker, name.key));
            prop_assert!(read.secret.is(&name.secret));
            prop_assert_eq!(read.to_string(), text);
        }

        #[test]
        fn noise_is_no_name(text in "\\PC{0,60}|[0-9a-f]{51}|[0-9a-f]{53}|[+-][0-9a-f]{51}|[0-9A-F]{51}G") {
            prop_assert!(SessionName::parse(&text).is_none());
        }
    }

    #[test]
    fn no_two_names_have_one_secret() {
        assert!(!Secret::random().is(&Secret::random()));
        assert_eq!(format!("{:?}", Secret::random()), "[redacted]");
    }
}
