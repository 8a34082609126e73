//! Query parameters.
//!
//! Values are percent-decoded once; `+` stays a plus. Unknown parameters are ignored, because
//! proxies add some. `token` is read by `auth`; here it is only checked that it comes once.

mod topics;

use http::HeaderMap;

pub use topics::TopicsQuery;

use crate::auth::header::Field;
use crate::hub::{Since, Start, decode_strict};
use crate::reason::{Refusal, Refused};

/// Parameters looked at; nobody means more.
const PARAMETERS_MAX: usize = 64;

/// Most publications in one page of history.
pub const HISTORY_LIMIT_MAX: usize = 1_000;
/// Publications in a page of history when `limit` is not given.
const HISTORY_LIMIT_DEFAULT: usize = 100;

/// Whether a session gets its own publications back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Echo {
    /// `echo=true`.
    #[default]
    On,
    /// `echo=false`.
    Off,
}

/// What a publication looks like on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The payload as it is, as far as the front door can carry it.
    #[default]
    Native,
    /// `format=json`: the publication object.
    Json,
}

/// The parameters of one request.
///
/// Invariant: `since` and `last` were not given together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// `echo`.
    pub echo: Echo,
    /// `format`.
    pub format: Format,
    /// `limit`: publications in a page of history, [`HISTORY_LIMIT_MAX`] at most.
    pub limit: usize,
    /// `since` or `last`.
    start: Start,
}

impl Query {
    /// Reads what follows the `?`.
    ///
    /// # Errors
    /// `since_invalid` for a malformed `since`, else `query_invalid`.
    pub fn parse(query: Option<&str>) -> Result<Self, Refused> {
        let (mut echo, mut format, mut limit) = (None, None, None);
        let (mut since, mut last, mut token) = (None, None, None);
        for (count, parameter) in query.unwrap_or_default().split('&').enumerate() {
            if count == PARAMETERS_MAX {
                let message = format!("more than {PARAMETERS_MAX} query parameters");
                return Err(Refusal::QueryInvalid.because(message));
            }
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "echo" => once(&mut echo, name, read_echo(value))?,
                "format" => once(&mut format, name, read_format(value))?,
                "limit" => once(&mut limit, name, read_limit(value))?,
                "since" => once(&mut since, name, read_since(value))?,
                "last" => once(&mut last, name, read_count(value))?,
                "token" => once(&mut token, name, decode_strict(value))?,
                _ => {}
            }
        }
        let start = match (since, last) {
            (None, None) => Start::Live,
            (Some(since), None) => Start::Since(since),
            (None, Some(count)) => Start::Last(count),
            (Some(_), Some(_)) => {
                let message = "`since` and `last` exclude each other";
                return Err(Refusal::QueryInvalid.because(message));
            }
        };
        Ok(Self {
            echo: echo.unwrap_or_default(),
            format: format.unwrap_or_default(),
            limit: limit.unwrap_or(HISTORY_LIMIT_DEFAULT),
            start,
        })
    }

    /// Where a stream begins: `Last-Event-ID` beats `since` and `last`.
    ///
    /// A malformed `Last-Event-ID` is a position that nobody can have: an `EventSource` would stop
    /// for good on an error.
    pub fn start(&self, headers: &HeaderMap) -> Start {
        match Field::of(headers, "last-event-id") {
            Field::Absent | Field::One("") => self.start,
            Field::One(text) => Since::parse(text).map_or(Start::Unknown, Start::Since),
            Field::Faulty => Start::Unknown,
        }
    }

    /// The position that a page of history begins after, if one was asked for.
    pub fn since(&self) -> Option<Since> {
        match self.start {
            Start::Since(since) => Some(since),
            Start::Live | Start::Last(_) | Start::Unknown => None,
        }
    }
}

/// Fills the slot of a parameter that may come once.
fn once<T>(slot: &mut Option<T>, name: &str, value: Option<T>) -> Result<(), Refused> {
    let value = value.ok_or_else(|| malformed(name))?;
    if slot.replace(value).is_some() {
        let message = format!("`{name}` is given more than once");
        return Err(Refusal::QueryInvalid.because(message));
    }
    Ok(())
}

fn malformed(name: &str) -> Refused {
    let message = match name {
        "since" => return Refusal::SinceInvalid.into(),
        "echo" => "`echo` is true or false",
        "format" => "`format` is json or left out",
        "limit" => "`limit` is a number from 0 to 1000",
        "last" => "`last` is a number of publications",
        _ => return Refusal::QueryInvalid.into(),
    };
    Refusal::QueryInvalid.because(message)
}

fn read_echo(value: &str) -> Option<Echo> {
    match decode_strict(value)?.as_str() {
        "true" => Some(Echo::On),
        "false" => Some(Echo::Off),
        _ => None,
    }
}

fn read_format(value: &str) -> Option<Format> {
    (decode_strict(value)? == "json").then_some(Format::Json)
}

fn read_since(value: &str) -> Option<Since> {
    Since::parse(&decode_strict(value)?)
}

fn read_limit(value: &str) -> Option<usize> {
    read_count(value).filter(|count| *count <= HISTORY_LIMIT_MAX)
}

fn read_count(value: &str) -> Option<usize> {
    let text = decode_strict(value)?;
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

#[cfg(test)]
mod tests;
