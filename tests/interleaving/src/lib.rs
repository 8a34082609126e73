//! The hub, built from its own files with the primitives of a checker: see [`sync`].
//!
//! A crate of its own, so that the checker's primitives need no switch in the product.

#[path = "../../../src/drain.rs"]
pub mod drain;
#[path = "../../../src/hub/mod.rs"]
pub mod hub;
#[path = "../../../src/id.rs"]
pub mod id;
#[path = "../../../src/limits.rs"]
pub mod limits;
#[path = "../../../src/metrics/mod.rs"]
pub mod metrics;
#[path = "../../../src/reason/mod.rs"]
pub mod reason;
pub mod sync;
#[path = "../../../src/time.rs"]
pub mod time;
