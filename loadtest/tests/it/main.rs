//! The tester as its users run it, against servers whose faults are known.

mod bare;
mod compare;
mod deflate;
mod doors;
mod harness;
mod proxy;
mod relay;
mod sse;
mod tls;
