//! Attacks (S) and faults (R), one file for each: SECURITY.md says what each of them is.
//!
//! S15 and S20 are beside the code they try (`auth::secret`, and the `check` functions of the
//! decoders and parsers), S22 is `tests/tidy.rs`. Figures are printed, never asserted: what is
//! asserted are counts, and ratios with room to spare.

mod r1;
mod r11;
mod r12;
mod r13;
mod r14;
mod r16;
mod r18;
mod r19;
mod r2;
mod r22;
mod r24;
mod r3;
mod s1;
mod s12;
mod s14;
mod s16;
mod s17;
mod s18;
mod s19;
mod s2;
mod s21;
mod s4;
mod s5;
mod s6;
mod s7;
mod s8;
mod s9;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lets one large test run at a time: two would only slow each other down.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
