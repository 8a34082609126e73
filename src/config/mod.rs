//! The configuration: flags beat environment beats file beats defaults.
//!
//! Owns what can be configured ([`Config`]), the table of keys from which it is read, checked and
//! printed, and the report of every problem at once. It opens no socket and starts nothing.

mod key;
mod load;
mod problem;
mod render;
#[cfg(test)]
mod tests;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

pub use load::{Flag, Loaded, Sources, load};
pub use problem::{Origin, Problem, Problems};
pub use render::default_file;

use crate::auth::{AuthConfig, Secret};
use crate::limits::{Limits, TopicRule};
use crate::log::LogConfig;
use crate::tls::CertificateFiles;

/// The effective configuration.
///
/// Invariant, when it comes from [`load`]: every value is in its range, and the values agree with
/// each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// The client port.
    pub listen: SocketAddr,
    /// Metrics, health, stats and console; `None` = off.
    pub admin_listen: Option<SocketAddr>,
    /// Password of the admin port, for any user; empty = none, on loopback only.
    pub admin_password: Secret,
    /// Threads that serve connections; 0 = one per core.
    pub workers: usize,
    /// Whether each worker has a descriptor table of its own.
    pub private_fd_tables: bool,
    /// `[log]`.
    pub log: LogConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `limits.trusted_proxies`: whose word about client addresses is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// `[websocket]`.
    pub websocket: WebsocketConfig,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// `[[topic]]`, first match wins; what no rule covers takes [`TopicRule::default`].
    pub topics: Vec<TopicRule>,
    /// How long a forgotten topic keeps its position.
    pub history_meta_ttl: Duration,
    /// `[tls]`: the certificate of `listen`; none = plain HTTP.
    pub tls: CertificateFiles,
    /// Over which time a drain asks the sessions to leave.
    pub drain_window: Duration,
}

/// `[websocket]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebsocketConfig {
    /// Whether permessage-deflate is negotiated.
    pub compression: bool,
    /// Shorter publications are not deflated, in bytes; 0 = all are, also where that makes them
    /// longer.
    pub compression_min_bytes: usize,
    /// Origins of web pages that may connect; empty = the same host, `*` = any.
    pub allowed_origins: Vec<String>,
}

impl WebsocketConfig {
    /// Length from which publications are deflated; `None` = compression is off.
    pub fn deflate_len_min(&self) -> Option<usize> {
        self.compression.then_some(self.compression_min_bytes)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            admin_listen: Some((Ipv4Addr::LOCALHOST, 8081).into()),
            admin_password: Secret::default(),
            workers: 0,
            private_fd_tables: false,
            log: LogConfig::default(),
            limits: Limits::default(),
            trusted_proxies: Vec::new(),
            websocket: WebsocketConfig::default(),
            auth: AuthConfig::default(),
            topics: Vec::new(),
            history_meta_ttl: Duration::from_hours(24),
            tls: CertificateFiles::default(),
            drain_window: Duration::from_secs(10),
        }
    }
}

impl Default for WebsocketConfig {
    fn default() -> Self {
        Self { compression: false, compression_min_bytes: 256, allowed_origins: Vec::new() }
    }
}

/// Checks the text of an address flag: `IP:PORT` or `localhost:PORT`.
///
/// # Errors
/// What is wrong with `text`, for a person.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    value::parse_address(text)
}
