//! What other threads ask of a worker beside deliveries: work on its own thread, by its own hand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::SegQueue;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Worker;
use crate::hub::Inbox;

/// Orders carried out in one turn.
const ORDERS_PER_TURN: usize = 256;

/// How long an answer is waited for. A worker takes many turns a second, unless it has ended.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Something to do for a worker.
type Order = Box<dyn FnOnce(&mut Worker) + Send>;

/// The way to one worker from any thread.
///
/// Its length is bounded by those who wait for answers: each has one order in it.
pub(super) struct Post {
    orders: SegQueue<Order>,
    /// Of the same worker, whose sleep it ends.
    inbox: Arc<Inbox>,
}

impl Post {
    /// An empty post for the worker of `inbox`.
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { orders: SegQueue::new(), inbox }
    }

    /// Has the worker carry out `order`, also if nobody waits for it; gives what came of it, `None`
    /// if the worker has ended.
    ///
    /// # Cancel safety
    /// The order is carried out all the same.
    pub(super) fn ask<T, F>(&self, order: F) -> impl Future<Output = Option<T>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Worker) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.orders.push(Box::new(move |worker| {
            // Whoever asked may be gone.
            let _ = answer.send(order(worker));
        }));
        self.inbox.wake();
        let answered = timeout(ANSWER_TIMEOUT, answered);
        async move { answered.await.ok()?.ok() }
    }

    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("count", &self.orders.len()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Carries out what other threads asked for. Returns whether there is more.
    pub(super) fn carry_out_orders(&mut self) -> bool {
        let gate = Arc::clone(&self.gate);
        let post = gate.post(self.output.worker);
        for _ in 0..ORDERS_PER_TURN {
            let Some(order) = post.orders.pop() else { return false };
            order(self);
        }
        !post.is_empty()
    }
}
