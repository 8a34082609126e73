//! The loop of a worker: turns while there is work, sleep while there is none.

use std::io;
use std::time::Duration;

use mio::Events;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::connection::{ConnectionKey, InflowEnd, Phase};
use super::handle::Stage;
use super::{Worker, WorkerHandle, poller};
use crate::reason::CloseReason;

/// The inner poller's token for wake-ups from other threads.
pub const WAKE: mio::Token = mio::Token(usize::MAX);

/// Events taken from the poller in one turn.
const EVENTS_PER_TURN: usize = 1024;

/// Time between two rounds of leave-taking while the server drains.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// How long after the last write deadline stragglers are waited for.
const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more to do.
    Turn,
    /// Sleep, at most until then.
    Sleep(Option<Instant>),
    /// The worker is drained.
    Stop,
}

/// Runs a worker until it is drained. The poller is nested into tokio's by its descriptor, so that
/// accepting, handshakes and timers share the thread.
///
/// # Errors
/// When the poller cannot be used.
///
/// # Cancel safety
/// Dropping the future loses nothing but the worker's attention.
pub async fn run(handle: WorkerHandle, poll: mio::Poll) -> io::Result<()> {
    let mut poll = poller::nest(poll)?;
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    loop {
        poll_now(poll.get_mut(), &mut events)?;
        let task_count = handle.task_count();
        if let Some(stage) = handle.with(|worker| worker.stage()) {
            handle.set_stage(stage);
        }
        match handle.with(|worker| worker.turn(&events, task_count)) {
            Next::Turn => tokio::task::yield_now().await,
            Next::Sleep(until) => sleep(&handle, &mut poll, &mut events, until).await?,
            Next::Stop => return Ok(()),
        }
    }
}

fn poll_now(poll: &mut mio::Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}

/// Sleeps until a socket, another thread, a task of this thread or the clock has something.
async fn sleep(
    handle: &WorkerHandle,
    poll: &mut AsyncFd<mio::Poll>,
    events: &mut Events,
    until: Option<Instant>,
) -> io::Result<()> {
    if !handle.with(|worker| worker.try_sleep()) {
        return Ok(());
    }
    let far = Instant::now() + Duration::from_hours(1);
    // Every arm is cancel safe: readiness stays set, a notification stays stored.
    tokio::select! {
        // Any of them ends the sleep: the order needs no dice, and a replay gets the same.
        biased;
        guard = poll.readable_mut() => {
            let mut guard = guard?;
            // Only an empty poll proves that the readiness is stale.
            poll_now(guard.get_inner_mut(), events)?;
            if events.is_empty() {
                guard.clear_ready();
            } else {
                handle.with(|worker| {
                    worker.read_clock();
                    worker.take_events(events);
                });
            }
        }
        () = handle.stirred() => {}
        () = tokio::time::sleep_until(until.unwrap_or(far)) => {}
    }
    handle.with(|worker| worker.inbox.set_awake());
    Ok(())
}

impl Worker {
    /// Announces that the worker goes to sleep; `false` = there is something to do.
    fn try_sleep(&self) -> bool {
        // What wakes it beside arrivals is looked at behind the announcement, too.
        self.inbox.try_sleep(|| {
            let can_resume = !self.paused.is_empty() && self.hub.has_room();
            let is_asked =
                self.is_asked_for_sessions() || !self.gate.post(self.output.worker).is_empty();
            let is_to_leave = self.leaving.is_none() && self.drain.is_draining();
            can_resume || is_asked || is_to_leave || !self.untold.is_empty()
        })
    }

    /// One turn: read, deliver, end, look at the clock.
    pub(super) fn turn(&mut self, events: &Events, task_count: usize) -> Next {
        self.read_clock();
        self.take_events(events);
        self.read_ready();
        let has_orders = self.carry_out_orders();
        self.drain_inbox();
        self.flush_topics();
        self.answer_publishers();
        self.spread_news();
        self.catch_up();
        self.tell_gaps();
        self.run_deadlines();
        if self.is_asked_for_sessions() {
            self.shed();
        }
        let drained_at = self.leave_evenly();
        self.end_sessions();
        self.resume_paused();
        if let Some(end) = drained_at {
            let is_empty = self.connections.is_empty() && task_count == 0;
            let last = end + self.limits.write_timeout + DRAIN_GRACE;
            if is_empty || self.clock.instant >= last {
                return Next::Stop;
            }
        }
        let is_idle = self.ready.is_empty() && self.dirty.is_empty() && self.catching.is_empty();
        if is_idle && !has_orders {
            let is_ending = drained_at.is_some() || !self.output.ending.is_empty();
            let tick = is_ending.then_some(self.clock.instant + DRAIN_TICK);
            return Next::Sleep([tick, self.output.wheel.next()].into_iter().flatten().min());
        }
        Next::Turn
    }

    /// Notes which sockets can be read, and writes to those that take something again.
    fn take_events(&mut self, events: &Events) {
        for event in events {
            if event.token() == WAKE {
                continue;
            }
            let key = ConnectionKey::from_token(event.token());
            let Some(connection) = self.get(key) else { continue };
            if event.is_read_closed() && connection.inflow.end == InflowEnd::Unknown {
                connection.inflow.end = InflowEnd::Announced;
            }
            if event.is_writable() && connection.outbox.is_some() {
                self.write_waiting(key);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.mark_ready(key);
            }
        }
    }

    /// The stage of the drain, once there is one.
    fn stage(&self) -> Option<Stage> {
        let window = self.drain.window()?;
        let end = if self.connections.is_empty() { window.end_of_requests() } else { window.end() };
        let is_over = Instant::now() >= end;
        Some(if is_over { Stage::Over } else { Stage::Draining })
    }

    /// While the server drains: asks sessions to leave, evenly over the window. Returns its end.
    fn leave_evenly(&mut self) -> Option<Instant> {
        let window = self.drain.window()?;
        let (total, mut index) = *self.leaving.get_or_insert((self.present, 0));
        let remaining = window.remaining(total, self.clock.instant);
        let mut excess = self.present.saturating_sub(remaining + self.output.ending.len());
        while excess > 0 && !self.connections.is_empty() {
            let Self { connections, output, .. } = self;
            if let Some(connection) = connections.get_mut(index)
                && connection.phase == Phase::Open
            {
                excess -= 1;
                let at = u32::try_from(index).unwrap_or(u32::MAX);
                output.end(at, connection, CloseReason::Draining);
            }
            index = if index + 1 >= connections.capacity() { 0 } else { index + 1 };
            if index == 0
                && excess > 0
                && !connections.iter().any(|(_, one)| one.phase == Phase::Open)
            {
                break;
            }
        }
        self.leaving = Some((total, index));
        Some(window.end())
    }
}
