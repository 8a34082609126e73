//! Topics and their publications: one order, history, and which workers must hear of it.
//!
//! The hub never names a front door and never touches a socket.

mod name;
mod position;
mod publication;
mod variant;

pub use name::{NameError, TOPIC_NAME_LEN_MAX, TopicName, decode_strict};
pub use position::{Epoch, Position, Since, Start};
pub use publication::{Draft, Payload, PayloadKind, Publication};
pub use variant::{Variant, VariantId, Variants};
