//! The log: one line per event on standard error, through a bounded queue.
//!
//! Owns how a line looks and where it goes. An event is exactly one line whatever its values hold,
//! and nobody ever waits for the log: when the queue is full, lines are dropped and counted.
//! Spans are not shown.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{
    ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard as Flush,
};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// Lines that may wait for standard error; more are dropped.
const QUEUE_COUNT_MAX: usize = 8192;

/// Longest message or value, in bytes before escaping; the rest is cut.
const VALUE_LEN_MAX: usize = 1024;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// `[log]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `2026-01-01T00:00:00.000Z INFO message key=value`
    #[default]
    Text,
    /// One JSON object: `time`, `level`, `message` and the event's fields.
    Json,
}

/// The least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each variant is its own word")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Keeps the log flowing; dropping it writes what is still queued, for at most about a second.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] Flush);

/// A log is already set up in this process.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the log is already set up")]
pub struct AlreadyStarted;

/// Starts the process-wide log, with one thread that writes to standard error.
///
/// # Errors
/// When something has set up `tracing` before.
pub fn start(config: LogConfig) -> Result<LogGuard, AlreadyStarted> {
    let (queue, flush) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_COUNT_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = queue.error_counter();
    let lines = Lines { format: config.format, queue };
    let subscriber = tracing_subscriber::registry().with(config.level.filter()).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadyStarted)?;
    DROPPED.get_or_init(|| dropped);
    Ok(LogGuard(flush))
}

/// Log lines dropped so far because standard error did not take them.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Turns each event into one line and queues it.
struct Lines {
    format: LogFormat,
    queue: NonBlocking,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(self.format, SystemTime::now(), event);
        // The queue never fails: a line that does not fit is counted by it.
        let _ = self.queue.clone().write_all(line.as_bytes());
    }
}

fn line(format: LogFormat, now: SystemTime, event: &Event<'_>) -> String {
    let time = humantime::format_rfc3339_millis(now);
    let level = event.metadata().level();
    match format {
        LogFormat::Text => {
            let mut fields = TextFields::default();
            event.record(&mut fields);
            let TextFields { message, rest } = fields;
            format!("{time} {level} {message}{rest}\n")
        }
        LogFormat::Json => {
            let mut fields = JsonFields(format!("{{\"time\":\"{time}\",\"level\":\"{level}\""));
            event.record(&mut fields);
            format!("{}}}\n", fields.0)
        }
    }
}

/// Collects an event's fields as ` key=value`.
#[derive(Default)]
struct TextFields {
    message: String,
    rest: String,
}

impl Visit for TextFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = cut(format_args!("{value:?}"));
        if field.name() == "message" {
            escape(&mut self.message, &value);
            return;
        }
        let is_plain = !value.is_empty() && !value.contains([' ', '"', '=']);
        self.rest.push(' ');
        self.rest.push_str(field.name());
        self.rest.push('=');
        if is_plain {
            escape(&mut self.rest, &value);
        } else {
            self.rest.push('"');
            escape(&mut self.rest, &value.replace('\\', r"\\").replace('"', r#"\""#));
            self.rest.push('"');
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{}", Chain(value)));
    }
}

/// Collects an event's fields as JSON members.
struct JsonFields(String);

impl JsonFields {
    fn member(&mut self, field: &Field, json: &str) {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
        self.0.push_str(json);
    }
}

impl Visit for JsonFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = cut(format_args!("{value:?}"));
        // JSON itself leaves DEL, the C1 controls and the bidi controls as they are.
        let mut shown = String::new();
        for character in value.chars() {
            if !character.is_ascii() && is_unsafe(character) || character == '\u{7f}' {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        self.member(field, &serde_json::Value::String(shown).to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, if value { "true" } else { "false" });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{}", Chain(value)));
    }
}

/// An error with its sources, as `outer: inner: innermost`.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// `text` with every character escaped that could end a line, move a cursor or turn the text round.
pub fn one_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    escape(&mut escaped, text);
    escaped
}

fn escape(target: &mut String, text: &str) {
    for character in text.chars() {
        if is_unsafe(character) {
            target.extend(character.escape_default());
        } else {
            target.push(character);
        }
    }
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}'
                | '\u{2029}'
                | '\u{200E}'
                | '\u{200F}'
                | '\u{202A}'..='\u{202E}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Formats at most [`VALUE_LEN_MAX`] bytes; a value of a megabyte costs no megabyte.
fn cut(value: fmt::Arguments<'_>) -> String {
    let mut text = Cut(String::new());
    if write!(text, "{value}").is_err() {
        text.0.push('\u{2026}');
    }
    text.0
}

struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = VALUE_LEN_MAX - self.0.len();
        let len = text.floor_char_boundary(room);
        self.0.push_str(&text[..len]);
        if len < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::UNIX_EPOCH;

    use tracing::{Event, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::{LogFormat, VALUE_LEN_MAX, line, one_line};

    /// Keeps the lines instead of writing them.
    struct Kept(LogFormat, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut lines = self.1.lock().expect("no test panics while it logs");
            lines.push(line(self.0, UNIX_EPOCH, event));
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Kept(format, Arc::clone(&lines)));
        tracing::subscriber::with_default(subscriber, log);
        let lines = lines.lock().expect("no test panics while it logs");
        lines.concat()
    }

    #[test]
    fn text_shows_time_level_message_and_fields() {
        let text = logged(LogFormat::Text, || {
            tracing::info!(topic = "news", count = 3, words = "two words", "it began");
        });
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z INFO it began topic=news count=3 words=\"two words\"\n"
        );
    }

    #[test]
    fn json_keeps_numbers_and_truth() {
        let text = logged(LogFormat::Json, || {
            tracing::warn!(topic = "news", count = 3_u64, late = true, "it \"began\"");
        });
        assert_eq!(
            text,
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"WARN\",\
             \"message\":\"it \\\"began\\\"\",\"topic\":\"news\",\"count\":3,\"late\":true}\n"
        );
    }

    #[test]
    fn no_value_breaks_a_line() {
        let hostile = "a\r\nb\u{1b}[31m\u{2028}\u{202e}\u{7f}\u{9b}\0\"";
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || {
                tracing::error!(topic = hostile, shown = %hostile, debug = ?hostile, "{hostile}");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let line = text.trim_end_matches('\n');
            assert!(!line.contains(super::is_unsafe), "{line:?}");
            if format == LogFormat::Json {
                assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
            }
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "\u{e9}".repeat(VALUE_LEN_MAX);
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || tracing::info!(agent = long, "hello"));
            assert!(text.len() < VALUE_LEN_MAX + 200, "{}", text.len());
            assert!(text.contains('\u{2026}'));
        }
    }

    #[test]
    fn an_error_shows_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);

        let error = Outer(std::fmt::Error);
        let error: &(dyn std::error::Error + 'static) = &error;
        let text = logged(LogFormat::Text, || tracing::info!(error, "failed"));
        assert!(text.contains("error=\"outer: an error"), "{text}");
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }
}
