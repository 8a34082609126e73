//! What threads share in the hub, under names of our own.
//!
//! `tests/interleaving` builds the hub from the same files with a checker's primitives in the place
//! of these, and tries the orders in which threads can meet.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::thread::yield_now;

pub(crate) use crossbeam_queue::SegQueue as Queue;
pub(crate) use parking_lot::Mutex;
