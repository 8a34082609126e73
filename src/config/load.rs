//! Loading: layer over layer, every problem collected.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::key::{KEYS, Key, TOPIC_KEYS};
use super::value::REDACTED;
use super::{Config, Origin, Problem, Problems};
use crate::auth::{Anonymous, Secret};
use crate::limits::TopicRule;
use crate::tls::CertificateFiles;

/// Every variable of the server begins so.
const PREFIX: &str = "FANWIRE_";

/// Variables that are not keys; the command line reads them.
const OTHER_VARIABLES: [&str; 4] =
    ["FANWIRE_CONFIG", "FANWIRE_URL", "FANWIRE_TOKEN", "FANWIRE_API_KEY"];

/// Room that an outbox needs beside one longest message.
const OUTBOX_SPARE_LEN: usize = 64 * 1024;

/// The name of the list of topic rules.
const TOPIC: &str = "topic";

/// Words closer than this are worth a "did you mean".
const SIMILARITY_MIN: f64 = 0.8;

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file of `--config`; without it `FANWIRE_CONFIG` counts, without both there is no file.
    pub file: Option<PathBuf>,
    /// The process's environment; variables without our prefix are left alone.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags that were given.
    pub flags: Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As it is typed: `--listen`.
    pub name: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// The value, written like in a variable.
    pub value: String,
}

/// A configuration that can be served, and what is odd about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The effective configuration.
    pub config: Config,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads the file and lays flags over environment over file over defaults.
///
/// # Errors
/// Every problem of every source.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut loader = Loader::default();
    if let Some(path) = config_file(sources) {
        match std::fs::read_to_string(&path) {
            Ok(text) => loader.file(&path, &text),
            Err(error) => loader.problem(Origin::File(path), format!("cannot be read: {error}")),
        }
    }
    for (name, value) in &sources.variables {
        if let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) {
            loader.variable(name, value.to_str());
        }
    }
    for flag in &sources.flags {
        loader.text(flag.key, &flag.value, &Origin::Flag(flag.name));
    }
    loader.finish()
}

fn config_file(sources: &Sources) -> Option<PathBuf> {
    let variable = || {
        let mut variables = sources.variables.iter();
        let (_, value) = variables.find(|(name, _)| name == "FANWIRE_CONFIG")?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    };
    sources.file.clone().or_else(variable)
}

#[derive(Default)]
struct Loader {
    config: Config,
    /// Who set a key last.
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// One source of TOML: tells where a part of it was written.
trait Place {
    fn origin(&self, span: Range<usize>) -> Origin;
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place for File<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::Line(self.path.to_owned(), line)
    }
}

impl File<'_> {
    /// The text with broken lines left blank; `None` if what follows them would lose its section.
    fn without(&self, broken: &[Problem]) -> Option<String> {
        let mut rest = String::with_capacity(self.text.len());
        for (index, line) in self.text.split('\n').enumerate() {
            let origin = Origin::Line(self.path.to_owned(), index + 1);
            if broken.iter().all(|problem| problem.origin != origin) {
                rest.push_str(line);
            } else if line.trim_start().starts_with('[') {
                return None;
            } else {
                rest.extend(std::iter::repeat_n(' ', line.len()));
            }
            rest.push('\n');
        }
        Some(rest)
    }
}

/// A variable or a flag is one place.
impl Place for Origin {
    fn origin(&self, _: Range<usize>) -> Origin {
        self.clone()
    }
}

impl Loader {
    fn problem(&mut self, origin: Origin, text: String) {
        self.problems.push(Problem { origin, text });
    }

    fn warning(&mut self, origin: Origin, text: String) {
        self.warnings.push(Problem { origin, text });
    }

    /// The origin of a key's effective value.
    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn file(&mut self, path: &Path, text: &str) {
        let file = File { path, text };
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return self.table("", table.get_ref(), &file);
        }
        for error in errors {
            let origin = file.origin(error.span().unwrap_or_default());
            // One mistake in a line makes the parser stumble several times.
            if self.problems.iter().all(|known| known.origin != origin) {
                self.problem(origin, error.message().to_owned());
            }
        }
        // The parser gives up at the first broken line; the others may have problems too.
        if let Some(rest) = file.without(&self.problems)
            && let Ok(table) = DeTable::parse(&rest)
        {
            self.table("", table.get_ref(), &file);
        }
    }

    fn variable(&mut self, name: &str, value: Option<&str>) {
        if OTHER_VARIABLES.contains(&name) {
            return;
        }
        let origin = Origin::Variable(name.to_owned());
        let names = KEYS.iter().flat_map(|key| [key.path, key.split().0]);
        let mut names = names.chain([TOPIC]).filter(|path| !path.is_empty());
        let Some(path) = names.find(|path| variable_name(path) == name) else {
            let hint = nearest_variable(name).map_or_else(String::new, did_you_mean);
            return self.warning(origin, format!("unknown variable, ignored{hint}"));
        };
        match value {
            Some(value) => self.text(path, value, &origin),
            None => self.problem(origin, "is not UTF-8".to_owned()),
        }
    }

    /// Sets `path` from text that is a TOML value or a bare string.
    fn text(&mut self, path: &'static str, text: &str, origin: &Origin) {
        let bare = DeValue::String(text.into());
        let mut value = DeValue::parse(text).map_or_else(|_| bare.clone(), Spanned::into_inner);
        // A password of digits is a TOML value too: what does not fit as such may fit as text.
        if let Some(key) = KEYS.iter().find(|key| key.path == path)
            && value.as_str().is_none()
            && (key.read)(&mut self.config, &value).is_err()
            && (key.read)(&mut self.config, &bare).is_ok()
        {
            value = bare;
        }
        self.value(path, &Spanned::new(0..0, value), origin);
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>, place: &dyn Place) {
        for (name, value) in table {
            let path = match section {
                "" => name.get_ref().to_string(),
                section => format!("{section}.{}", name.get_ref()),
            };
            if !name.get_ref().contains('.') && is_known(&path) {
                self.value(&path, value, place);
            } else {
                let kind = match value.get_ref() {
                    DeValue::Table(_) => "section",
                    _ => "key",
                };
                let hint = nearest_key(&path).map_or_else(String::new, did_you_mean);
                let origin = place.origin(name.span());
                self.problem(origin, format!("unknown {kind} `{path}`{hint}"));
            }
        }
    }

    /// Sets a key, a section or the topic rules.
    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>, place: &dyn Place) {
        let origin = place.origin(value.span());
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            if let Err(text) = (key.read)(&mut self.config, value.get_ref()) {
                self.problem(origin.clone(), format!("{path}: {text}"));
            }
            self.origins.insert(key.path, origin);
        } else if path == TOPIC {
            match value.get_ref() {
                DeValue::Array(rules) => self.topics(rules, place),
                _ => self.problem(origin, "topic: write [[topic]] for each rule".to_owned()),
            }
        } else if let DeValue::Table(table) = value.get_ref() {
            self.table(path, table, place);
        } else {
            self.problem(origin, format!("`{path}` is a section: write [{path}] and its keys"));
        }
    }

    fn topics(&mut self, rules: &DeArray<'_>, place: &dyn Place) {
        self.config.topics.clear();
        for rule in rules {
            match rule.get_ref() {
                DeValue::Table(table) => self.topic(table, place),
                _ => self
                    .problem(place.origin(rule.span()), "topic: each rule is a table".to_owned()),
            }
        }
    }

    fn topic(&mut self, table: &DeTable<'_>, place: &dyn Place) {
        let mut rule = TopicRule::default();
        for (name, value) in table {
            let name_text = name.get_ref().as_ref();
            let Some(key) = TOPIC_KEYS.iter().find(|key| key.path == name_text) else {
                let hint = nearest(name_text, TOPIC_KEYS.iter().map(|key| key.path))
                    .map_or_else(String::new, did_you_mean);
                let text = format!("unknown key `topic.{name_text}`{hint}");
                self.problem(place.origin(name.span()), text);
                continue;
            };
            if let Err(text) = (key.read)(&mut rule, value.get_ref()) {
                self.problem(place.origin(value.span()), format!("topic.{name_text}: {text}"));
            }
        }
        self.config.topics.push(rule);
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        self.check_together();
        if !self.problems.is_empty() {
            self.problems.sort();
            return Err(Problems(self.problems));
        }
        self.warn_together();
        self.warnings.sort();
        Ok(Loaded { config: self.config, warnings: self.warnings })
    }

    /// Problems of values that are fine alone.
    fn check_together(&mut self) {
        let limits = &self.config.limits;
        if limits.outbox_bytes_max <= limits.message_bytes_max + OUTBOX_SPARE_LEN {
            let text = format!(
                "limits.outbox_bytes_max ({}) must exceed limits.message_bytes_max ({}) + {OUTBOX_SPARE_LEN}",
                limits.outbox_bytes_max, limits.message_bytes_max
            );
            let origins = ["limits.outbox_bytes_max", "limits.message_bytes_max"];
            self.problem(self.last_origin(origins), text);
        }
        let auth = &self.config.auth;
        if auth.jwt_public_key_file.is_some() && !auth.jwks_url.is_empty() {
            let text = "auth.jwks_url and auth.jwt_public_key_file exclude each other: keep one";
            let origins = ["auth.jwks_url", "auth.jwt_public_key_file"];
            self.problem(self.last_origin(origins), text.to_owned());
        }
        let CertificateFiles { cert_file, key_file } = &self.config.tls;
        if cert_file.as_os_str().is_empty() != key_file.as_os_str().is_empty() {
            let text = "tls.cert_file and tls.key_file go together: set both or neither";
            self.problem(self.last_origin(["tls.cert_file", "tls.key_file"]), text.to_owned());
        }
        let Some(admin) = self.config.admin_listen else { return };
        if !is_loopback(admin) && self.config.admin_password.is_empty() {
            let text = format!(
                "admin_listen ({admin}) is beyond loopback: set admin_password, or listen on 127.0.0.1"
            );
            self.problem(self.origin("admin_listen"), text);
        }
        if admin == self.config.listen && admin.port() != 0 {
            let text = format!("listen and admin_listen are both {admin}: choose two ports");
            self.problem(self.last_origin(["listen", "admin_listen"]), text);
        }
    }

    /// Values that are allowed but probably not meant.
    fn warn_together(&mut self) {
        let Config { listen, auth, .. } = &self.config;
        if auth.anonymous == Anonymous::Loopback
            && !is_loopback(*listen)
            && auth.api_keys.is_empty()
            && auth.jwt_hmac_secret.is_empty()
            && auth.jwt_public_key_file.is_none()
            && auth.jwks_url.is_empty()
        {
            let text = format!(
                "auth.anonymous = \"loopback\" allows nothing while listening on {listen}, and \
                 there is no API key and no key for tokens: set auth.api_keys or \
                 auth.jwt_hmac_secret, or auth.anonymous to \"subscribe\" or \"all\""
            );
            self.warning(self.last_origin(["listen", "auth.anonymous"]), text);
        }
        if let Some(key) = redacted_key(&self.config) {
            let text = format!("{key} is the text {REDACTED:?} that `config print` shows");
            self.warning(self.origin(key), text);
        }
    }

    /// The strongest origin of several keys: that is where to mend their disagreement.
    fn last_origin<const N: usize>(&self, keys: [&str; N]) -> Origin {
        let origins = keys.into_iter().map(|key| self.origin(key));
        origins.max().unwrap_or(Origin::Default)
    }
}

fn redacted_key(config: &Config) -> Option<&'static str> {
    let is_redacted = |secret: &Secret| secret.expose() == REDACTED;
    if is_redacted(&config.admin_password) {
        return Some("admin_password");
    }
    if is_redacted(&config.auth.jwt_hmac_secret) {
        return Some("auth.jwt_hmac_secret");
    }
    let mut keys = config.auth.api_keys.iter();
    keys.any(is_redacted).then_some("auth.api_keys")
}

fn is_known(path: &str) -> bool {
    let is_key = |key: &Key<Config>| [key.path, key.split().0].contains(&path);
    path == TOPIC || !path.is_empty() && KEYS.iter().any(is_key)
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The variable of a key: `limits.message_bytes_max` is `FANWIRE_LIMITS__MESSAGE_BYTES_MAX`.
fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

fn did_you_mean(name: impl Display) -> String {
    format!("; did you mean `{name}`?")
}

/// The known key that `path` most resembles: in its section, or where its name is known.
fn nearest_key(path: &str) -> Option<String> {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut keys = KEYS.iter().filter(|key| key.show.is_some());
    if let Some(key) = keys.find(|key| key.split().1 == name) {
        return Some(key.path.to_owned());
    }
    let siblings = KEYS.iter().filter(|key| key.split().0 == section);
    let names = siblings.map(|key| key.split().1);
    if !section.is_empty() {
        return nearest(name, names).map(|name| format!("{section}.{name}"));
    }
    let sections = KEYS.iter().map(|key| key.split().0);
    nearest(name, names.chain(sections).chain([TOPIC])).map(str::to_owned)
}

fn nearest_variable(name: &str) -> Option<String> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let paths = KEYS.iter().map(|key| variable_name(key.path));
    let names = paths.map(|name| name[PREFIX.len()..].to_owned());
    nearest(name, names).map(|name| format!("{PREFIX}{name}"))
}

fn nearest<T: AsRef<str>>(name: &str, known: impl Iterator<Item = T>) -> Option<T> {
    known
        .filter(|known| !known.as_ref().is_empty())
        .map(|known| (strsim::jaro_winkler(name, known.as_ref()), known))
        .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}
