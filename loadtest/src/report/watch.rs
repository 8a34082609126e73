//! What looks at a run from beside it: the live line, and the run over time.
//!
//! It never runs by itself: a run calls it from its own loop, a few times a second.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    live::{Live, Phase, Progress},
    series::{Books, Recorder, Sample, TICK},
};
use crate::{clock::nanos, process::Usage};

/// A run as it is at one time of its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) time: u64,
    pub(crate) connected: usize,
    pub(crate) received: u64,
    /// Nanoseconds; where a scenario takes none, an empty one.
    pub(crate) latency: &'a Histogram<u64>,
    pub(crate) errors: u64,
}

#[derive(Debug)]
pub(crate) struct Watch {
    /// When to look again.
    next: u64,
    phase: Phase,
    live: Live,
    /// Of the server.
    pids: Vec<u32>,
    /// While measuring.
    recorder: Option<Recorder>,
    /// Between two parts of what is measured.
    paused: Option<Recorder>,
}

impl Watch {
    /// Begins at `now`, by the run's clock.
    pub(crate) fn new(now: u64, pids: &[u32]) -> Self {
        Self {
            next: now + nanos(TICK),
            phase: Phase::Connecting,
            live: Live::new(),
            pids: pids.to_vec(),
            recorder: None,
            paused: None,
        }
    }

    /// Tells, if it is time, that `connected` connections are open. It is not for what is
    /// measured: there [`look`](Self::look) tells more.
    pub(crate) fn connecting(&mut self, connected: usize) {
        if self.live.is_due() {
            let phase = Phase::Connecting;
            self.live.show(Progress { phase, connected, received: 0, p99: 0, errors: 0 });
        }
    }

    /// From now on the run does something else.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether it is time to look.
    #[inline]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.next
    }

    /// Takes a sample and tells how far the run is, if it is time for either.
    pub(crate) fn look(&mut self, look: Look<'_>) {
        self.next += nanos(TICK) * (look.time.saturating_sub(self.next) / nanos(TICK) + 1);
        let books = books(&self.pids, look);
        if let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_due(look.time))
        {
            recorder.sample(books());
        }
        if self.live.is_due() {
            self.live.show(Progress {
                phase: self.phase,
                connected: look.connected,
                received: look.received,
                p99: look.latency.value_at_quantile(0.99),
                errors: look.errors,
            });
        }
    }

    /// Begins to record: a window of `duration`, or one whose end is not known yet.
    pub(crate) fn record(&mut self, look: Look<'_>, duration: Option<Duration>) {
        self.recorder = Some(Recorder::new(books(&self.pids, look)(), duration));
        self.next = look.time + nanos(TICK);
    }

    /// Ends an interval, and leaves out what happens until [`go_on`](Self::go_on).
    pub(crate) fn pause(&mut self, look: Look<'_>) {
        self.paused = self.recorder.take();
        if let Some(recorder) = &mut self.paused {
            recorder.sample(books(&self.pids, look)());
        }
    }

    /// Records again; the latency may have been reset meanwhile.
    pub(crate) fn go_on(&mut self, look: Look<'_>) {
        self.recorder = self.paused.take();
        if let Some(recorder) = &mut self.recorder {
            recorder.skip(books(&self.pids, look)());
        }
    }

    /// Ends the window where it was paused.
    pub(crate) fn recorded(&mut self) -> Vec<Sample> {
        self.paused.take().map(Recorder::into_samples).unwrap_or_default()
    }

    /// Ends the window.
    pub(crate) fn finish(&mut self, look: Look<'_>) -> Vec<Sample> {
        let recorder = self.recorder.take();
        let books = books(&self.pids, look);
        recorder.map(|recorder| recorder.finish(books())).unwrap_or_default()
    }
}

/// The books of `look`, with what the server has used by now. One that is gone shows elsewhere.
fn books<'a>(pids: &[u32], look: Look<'a>) -> impl FnOnce() -> Books<'a> {
    move || Books { look, server: Usage::of(pids).ok().flatten() }
}
