//! The configuration as a TOML file: the commented defaults, or the effective values.

use std::fmt::Write as _;

use super::Config;
use super::key::{KEYS, Key, TOPIC_KEYS};
use crate::limits::TopicRule;

const HEADER: &str = "\
# Fanwire's configuration, all keys with their defaults. Keep only what you change.
# Flags beat environment (FANWIRE_LISTEN, FANWIRE_LIMITS__MESSAGE_BYTES_MAX) beats this file.
# Lengths are bytes; durations are written 200ms, 25s, 5m or 24h.

";

const TOPIC_HEADER: &str = "
# Options of topics, first match wins; a topic that matches no rule, and a key that a rule leaves
# out, take these defaults. Several [[topic]] blocks may follow each other.
";

/// The default file: every key with its meaning and default; loading it changes nothing.
pub fn default_file() -> String {
    let mut text = HEADER.to_owned();
    let config = Config::default();
    let explained = |key: &Key<Config>, value: &str| {
        let (_, name) = key.split();
        format!("# {}\n{name} = {value}\n", key.doc)
    };
    sections(&mut text, &config, explained);
    // Commented out: a rule for everything would hide those that are added below it.
    text.push_str(TOPIC_HEADER);
    text.push_str("#[[topic]]\n");
    rule(&mut text, &TopicRule::default(), |key, value| {
        format!("# {}\n#{} = {value}\n", key.doc, key.path)
    });
    text
}

impl Config {
    /// The effective values as TOML, secrets redacted.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        sections(&mut text, self, |key, value| {
            let (_, name) = key.split();
            format!("{name} = {value}\n")
        });
        for topic in &self.topics {
            text.push_str("\n[[topic]]\n");
            rule(&mut text, topic, |key, value| format!("{} = {value}\n", key.path));
        }
        text
    }
}

fn sections(text: &mut String, config: &Config, line: impl Fn(&Key<Config>, &str) -> String) {
    let mut current = "";
    for key in KEYS {
        let Some(show) = key.show else { continue };
        let (section, _) = key.split();
        if section != current {
            current = section;
            writeln!(text, "\n[{section}]").expect("a String takes all that is written");
        }
        text.push_str(&line(key, &show(config)));
    }
}

fn rule(text: &mut String, topic: &TopicRule, line: impl Fn(&Key<TopicRule>, &str) -> String) {
    for key in TOPIC_KEYS {
        if let Some(show) = key.show {
            text.push_str(&line(key, &show(topic)));
        }
    }
}
