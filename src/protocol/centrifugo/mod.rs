//! The Centrifugo client protocol, version 2: messages, their two encodings, and the session.
//!
//! Everything here is bytes in and bytes or actions out. Channels of the protocol are topics;
//! that word stays in messages and error texts.

mod code;
pub mod fossil;
mod frame;
mod host;
mod json;
pub mod message;
mod publication;
mod session;
mod token;

pub use code::{Disconnect, ErrorCode, UnsubscribeCode};
pub use frame::{Codec, Commands, Malformed, Wire};
pub use host::{
    Asked, ConnectionToken, Context, Delta, Hears, Host, Presence, Recovery, ServerSubscription,
    Settings, SubscriptionToken, TokenFault, TopicOptions,
};
pub use json::DEPTH_MAX;
pub use message::{ClientInfo, ConnectRequest, EmulationRequest};
pub use publication::{delta, join, leave, publication};
pub use session::{
    Action, CommandId, Headcount, History, Opening, Order, PAGE_COUNT_MAX, Page, Pings, Publish,
    Session, Span, Subscribe, Subscribed,
};
pub use token::{connection_token, json_of, subscription_token};

#[cfg(test)]
mod tests;
