//! Performs a seed's steps against the real server and writes down what came of them: the world,
//! its clock, and all that clients of every kind have in common.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use crate::client::{Client, Request};
use crate::record::{Answer, By, Payload, Post, Record, payload};
use crate::setup::{Pace, Setup, Step};
use crate::world::{Restless, World};

/// Time that passes between two looks of a client at its socket.
const STRIDE: Duration = Duration::from_millis(500);

/// A longer pause is a machine that slept: everything comes due at once.
const PAUSE_MAX: Duration = Duration::from_mins(2);

/// How long everybody has to leave.
const PATIENCE: Duration = Duration::from_secs(12);

/// The clients of one kind: what they speak, do, and note of what they see.
pub(crate) trait Cast: Sized {
    /// What only they do.
    type Act: Copy + fmt::Debug;
    /// What they note.
    type Seen: Clone + Default;
    /// What they ask beside their sessions.
    type Ask: Copy;

    /// How long they need to see what became of them once nothing is in the way.
    const HEALING: Duration = Duration::ZERO;

    fn new(setup: &Setup) -> Self;

    /// Their connections, by the number of the session.
    fn lines(&mut self) -> impl Iterator<Item = &mut Client>;

    /// Those who see everything come in.
    fn begin(run: &mut Run<Self>);

    fn act(run: &mut Run<Self>, act: Self::Act);

    /// The session of that number that goes on, those of the beginning left out.
    fn session(run: &Run<Self>, number: usize) -> Option<usize>;

    /// Notes how a client reads from now on.
    fn paced(run: &mut Run<Self>, session: usize, pace: Pace);

    /// Notes that a client is gone without a word.
    fn vanished(run: &mut Run<Self>, session: usize);

    /// Notes that a worker does not answer.
    fn frozen(_run: &mut Run<Self>) {}

    /// Sends what waits to be sent. Returns whether something left.
    fn send(_run: &mut Run<Self>) -> bool {
        false
    }

    /// Reads what there is, and notes it. Returns whether something came.
    fn read(run: &mut Run<Self>) -> bool;

    fn answered(run: &mut Run<Self>, ask: Self::Ask, answer: Answer);

    /// Nothing is in the way any more, and all is quiet.
    fn rest(_run: &mut Run<Self>) {}

    /// A client ends its session as well as it can.
    fn leave(run: &mut Run<Self>, session: usize) {
        run.vanish(session);
    }

    /// The server has been told to drain, and its workers have not looked yet.
    fn drained(run: &mut Run<Self>);
}

/// A run that is going on.
pub(crate) struct Run<C: Cast> {
    pub(crate) world: World,
    pub(crate) record: Record<C::Seen>,
    pub(crate) cast: C,
    requests: Vec<(Asking<C::Ask>, Client)>,
    time: Duration,
    /// Whether a worker did not run for a while.
    pub(crate) has_frozen: bool,
}

/// Whose answer a request waits for.
#[derive(Debug, Clone, Copy)]
enum Asking<Ask> {
    /// The post of that number.
    Post(usize),
    Other(Ask),
}

/// Runs the steps from the seed's beginning. The same steps give the same record.
pub(crate) fn run<C: Cast>(setup: &Setup, steps: &[Step<C::Act>]) -> Record<C::Seen> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    // Epochs and ids of clients come from the thread's generator.
    fastrand::seed(setup.seed);
    runtime.block_on(async {
        let mut run = Run {
            world: World::new(setup, Rng::with_seed(setup.seed ^ 0x5EED)),
            record: Record::new(setup),
            cast: C::new(setup),
            requests: Vec::new(),
            time: Duration::ZERO,
            has_frozen: false,
        };
        if let Err(Restless) = run.perform(steps).await {
            run.record.faults.push("a worker never rests".to_owned());
            run.record.clock.push(run.time);
        }
        run.record
    })
}

impl<C: Cast> Run<C> {
    async fn perform(&mut self, steps: &[Step<C::Act>]) -> Result<(), Restless> {
        C::begin(self);
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
                _ if matches!(steps.get(index + 1), Some(Step::AtOnce)) => {}
                _ => self.tick().await?,
            }
        }
        self.heal().await?;
        self.part().await
    }

    fn step(&mut self, step: Step<C::Act>) {
        match step {
            Step::Act(act) => C::act(self, act),
            Step::Post { topic, worker, len, key } => self.post((topic, worker), len, key),
            Step::Pace { session, pace } => {
                if let Some(session) = C::session(self, session) {
                    self.set_pace(session, pace);
                }
            }
            Step::Vanish { session } => {
                if let Some(session) = C::session(self, session) {
                    self.vanish(session);
                }
            }
            Step::Advance { .. } | Step::AtOnce => {}
            Step::Freeze { worker } => {
                self.has_frozen = true;
                self.world.freeze(worker);
                C::frozen(self);
            }
            Step::Thaw { worker } => self.world.thaw(worker),
            Step::Drain => self.drain(),
        }
    }

    /// Nothing is in the way any more: everybody reads all there is.
    async fn heal(&mut self) -> Result<(), Restless> {
        self.world.thaw_all();
        self.for_all(|run, session| run.set_pace(session, Pace::Prompt));
        self.tick().await?;
        while self.cast.lines().any(|line| line.has_more()) {
            self.cast.lines().for_each(Client::write_all);
            self.tick().await?;
        }
        if !C::HEALING.is_zero() {
            self.pass(C::HEALING).await?;
        }
        C::rest(self);
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
            C::drained(self);
            // What they ask comes later.
            self.world.settle().await?;
        } else {
            self.for_all(C::leave);
        }
        self.tick().await?;
        self.pass(PATIENCE).await?;
        if self.record.drained.is_some() && !self.world.have_all_ended() {
            self.record.faults.push("a worker is not drained".to_owned());
        }
        self.for_all(Self::vanish);
        self.requests.clear();
        self.tick().await?;
        // Keys and history are forgotten, then positions.
        for hours in [6, 6, 25] {
            self.pass(Duration::from_hours(hours)).await?;
        }
        self.record.left_behind = self.world.held();
        self.record.counted = self.world.closes();
        self.record.delivered = self.world.deliveries();
        Ok(())
    }

    fn for_all(&mut self, each: impl Fn(&mut Self, usize)) {
        (0..self.cast.lines().count()).for_each(|session| each(self, session));
    }

    fn line(&mut self, session: usize) -> Option<&mut Client> {
        self.cast.lines().nth(session).filter(|line| line.is_open())
    }

    fn set_pace(&mut self, session: usize, pace: Pace) {
        if let Some(line) = self.line(session) {
            line.set_pace(pace);
            C::paced(self, session, pace);
        }
    }

    pub(crate) fn vanish(&mut self, session: usize) {
        if let Some(line) = self.line(session) {
            line.vanish();
            C::vanished(self, session);
        }
    }

    fn drain(&mut self) {
        if self.record.drained.is_none() {
            self.world.drain();
            self.record.drained = Some(self.record.now());
        }
    }

    pub(crate) fn new_payload(&mut self, topic: usize, len: usize, by: By) -> (usize, String) {
        let number = self.record.payloads.len();
        let sent = self.record.now();
        self.record.payloads.push(Payload { topic, len, by, sent });
        (number, payload(self.record.name_of(topic), number, len))
    }

    fn post(&mut self, (topic, worker): (usize, usize), len: usize, key: Option<u8>) {
        if self.world.has_ended(worker) {
            return;
        }
        let topic = topic % self.record.setup.topics.len();
        let post = self.record.posts.len();
        let (payload, text) = self.new_payload(topic, len, By::Post(post));
        let line = format!("POST /topics/{}", self.record.name_of(topic));
        let key_line = key.map(|key| format!("Idempotency-Key: key{key}\r\n")).unwrap_or_default();
        let headers = format!("Content-Length: {}\r\n{key_line}", text.len());
        self.record.posts.push(Post { payload, key, answer: None });
        let request = Request { line: &line, headers: &headers, body: text.as_bytes() };
        self.request(Asking::Post(post), worker, request);
    }

    /// Asks a worker that has not ended.
    pub(crate) fn ask(&mut self, ask: C::Ask, worker: usize, request: Request<'_>) {
        self.request(Asking::Other(ask), worker, request);
    }

    fn request(&mut self, asking: Asking<C::Ask>, worker: usize, request: Request<'_>) {
        self.requests.push((asking, Client::ask(self.world.connect(worker), request)));
    }

    /// Lets time pass, with everybody looking at their sockets now and then.
    async fn pass(&mut self, time: Duration) -> Result<(), Restless> {
        // Nobody stops in the middle of a message for long: it would be gone, not slow.
        self.cast.lines().for_each(Client::write_all);
        let stride = if time > PAUSE_MAX { time } else { STRIDE };
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(stride);
            left -= step;
            self.time += step;
            self.world.advance(step).await?;
            self.settle().await?;
        }
        self.tick().await
    }

    /// One step is over when nobody has anything to do.
    async fn tick(&mut self) -> Result<(), Restless> {
        self.cast.lines().for_each(Client::begin_step);
        self.requests.iter_mut().for_each(|(_, client)| client.begin_step());
        self.settle().await?;
        if self.record.forced.is_none() && self.world.was_forced() {
            self.record.forced = Some(self.record.now());
        }
        self.record.clock.push(self.time);
        Ok(())
    }

    /// Server and clients take turns until all is quiet.
    async fn settle(&mut self) -> Result<(), Restless> {
        loop {
            let mut has_moved = C::send(self);
            self.world.settle().await?;
            has_moved |= C::read(self);
            has_moved |= self.read_answers();
            if !has_moved {
                return Ok(());
            }
        }
    }

    fn read_answers(&mut self) -> bool {
        let now = self.record.now();
        let (mut has_moved, mut answers) = (false, Vec::new());
        for (asking, client) in &mut self.requests {
            has_moved |= client.act();
            answers.extend(client.take_answer().map(|answer| (*asking, answer)));
        }
        self.requests.retain(|(_, client)| client.is_open());
        for (asking, answer) in answers {
            match asking {
                Asking::Post(post) => self.record.posts[post].answer = Some((now, answer)),
                Asking::Other(ask) => C::answered(self, ask, answer),
            }
        }
        has_moved
    }
}
