//! The arguments, as data: clap makes the parser and the help from it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};

use super::UsageError;
use super::client::Client;
use crate::auth::{Right, USER_LEN_MAX};
use crate::config::{Flag, Loaded, Problems, Sources, load, parse_address};
use crate::hub::Since;

const URL_DEFAULT: &str = "http://127.0.0.1:8080";

const EXAMPLES: &str = "\
Examples:
  fanwire                                   serve on http://127.0.0.1:8080
  fanwire serve --config fanwire.toml       serve with a configuration file
  fanwire sub news                          print what is published to `news`
  fanwire pub news 'hello'                  publish to it
  fanwire config default > fanwire.toml     a file with every key explained

Every key of the configuration can be set in the environment: FANWIRE_LISTEN,
FANWIRE_LIMITS__MESSAGE_BYTES_MAX. Flags beat environment beats file beats defaults.
Exit codes: 0 ok, 1 failure, 2 usage, 78 bad configuration.";

const PUB_EXAMPLES: &str = "\
Examples:
  fanwire pub news 'hello'                  one publication
  fanwire pub pictures --binary < cat.png   standard input as one publication
  vmstat 1 | fanwire pub --lines vmstat     one publication per line, as it comes";

const SUB_EXAMPLES: &str = "\
Examples:
  fanwire sub news                          from now on
  fanwire sub news --since 0                what is kept of `news`, then from now on
  fanwire sub news chat:1 --json            two topics, with topic, offset and time";

const TOKEN_EXAMPLES: &str = "\
Signs with auth.jwt_private_key_file, or else auth.jwt_hmac_secret, of the configuration.
Examples:
  fanwire token --sub alice                                     everything, for an hour
  fanwire token --sub alice --topics 'chat:*' --ttl 24h         all rights on some topics
  fanwire token --sub bob --topics news --allow subscribe,history";

const CHECK_EXAMPLES: &str = "\
Prints one line per finding with its fix.
Exit codes: 0 nothing or warnings only, 1 the host cannot serve this, 78 bad configuration.";

/// WebSocket pub/sub broadcast server. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "fanwire", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) serve: ServeArguments,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs the server (what `fanwire` alone does too)
    Serve(ServeArguments),
    /// Publishes an argument, standard input, or each line of it
    #[command(after_help = PUB_EXAMPLES)]
    Pub(PublishArguments),
    /// Prints publications as they come; reconnects and recovers what it missed
    #[command(after_help = SUB_EXAMPLES)]
    Sub(SubscribeArguments),
    /// Signs a token (JWT) with the configured key and prints it
    #[command(after_help = TOKEN_EXAMPLES)]
    Token(TokenArguments),
    /// Checks configuration and host, and prints the fix for each finding
    #[command(after_help = CHECK_EXAMPLES)]
    Check(ServeArguments),
    /// Shows the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Prints the effective configuration as TOML, secrets redacted
    Print(ServeArguments),
    /// Prints a file with every key, its meaning and its default
    Default,
}

/// What decides about the configuration.
#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Configuration file (TOML); `FANWIRE_CONFIG` can name it too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Client port, IP:PORT or localhost:PORT; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<String>,
    /// Port of metrics, health and console, "" = off [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", value_parser = address_or_off)]
    admin_listen: Option<String>,
    /// Threads that serve connections, 0 = one per core [default: 0]
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
}

impl ServeArguments {
    /// Loads the configuration from flags, environment and file.
    pub(super) fn load(self) -> Result<Loaded, Problems> {
        let workers = self.workers.map(|count| count.to_string());
        let flags = [
            ("--listen", "listen", self.listen),
            ("--admin-listen", "admin_listen", self.admin_listen),
            ("--workers", "workers", workers),
        ];
        let flag = |(name, key, value): (_, _, Option<String>)| {
            value.map(|value| Flag { name, key, value })
        };
        load(&Sources {
            file: self.config,
            variables: std::env::vars_os().collect(),
            flags: flags.into_iter().filter_map(flag).collect(),
        })
    }
}

fn address(text: &str) -> Result<String, String> {
    parse_address(text).map(|_| text.to_owned())
}

fn address_or_off(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        text => address(text),
    }
}

#[derive(Debug, Args)]
pub(super) struct PublishArguments {
    /// Topic to publish to
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) topic: String,
    /// The payload; without it standard input is read to its end
    pub(super) data: Option<OsString>,
    /// Publish each line of standard input as it comes
    #[arg(long, conflicts_with = "data")]
    pub(super) lines: bool,
    /// Publish as binary; otherwise UTF-8 is published as text and the rest as binary
    #[arg(long)]
    pub(super) binary: bool,
    /// Print the server's answer, one JSON object per publication
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(super) struct SubscribeArguments {
    /// Topics to subscribe to
    #[arg(required = true, value_name = "TOPIC", value_parser = NonEmptyStringValueParser::new())]
    pub(super) topics: Vec<String>,
    /// Begin after this position, EPOCH:OFFSET or OFFSET (0 = all that is kept); one topic only
    #[arg(long, value_name = "POS", value_parser = since)]
    pub(super) since: Option<Since>,
    /// Print publication and control objects as received, one per line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) client: ClientArguments,
}

fn since(text: &str) -> Result<Since, String> {
    Since::parse(text).ok_or_else(|| "write EPOCH:OFFSET or OFFSET".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct TokenArguments {
    /// User that the token is for
    #[arg(long = "sub", value_name = "USER", value_parser = user)]
    pub(super) user: String,
    /// Topics that it may use, `*` = any characters; may be repeated [default: all topics]
    #[arg(long, value_name = "PATTERN", value_parser = NonEmptyStringValueParser::new())]
    pub(super) topics: Vec<String>,
    /// What it may do on them [default: subscribe,publish,history,presence]
    #[arg(long, value_name = "RIGHTS", value_delimiter = ',', value_parser = right)]
    #[arg(requires = "topics", default_values = ["subscribe", "publish", "history", "presence"])]
    #[arg(hide_default_value = true)]
    pub(super) allow: Vec<Right>,
    /// How long it is valid
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[arg(default_value = "1h")]
    pub(super) ttl: Duration,
    #[command(flatten)]
    pub(super) config: ConfigArguments,
}

fn user(text: &str) -> Result<String, String> {
    match text.len() {
        1..=USER_LEN_MAX => Ok(text.to_owned()),
        _ => Err(format!("a user has 1 to {USER_LEN_MAX} bytes")),
    }
}

fn right(text: &str) -> Result<Right, String> {
    Right::of_word(text).ok_or_else(|| "write subscribe, publish, history or presence".to_owned())
}

/// Which configuration a command that does not serve reads.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Configuration file (TOML); `FANWIRE_CONFIG` can name it too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArguments {
    /// Loads the configuration from environment and file.
    pub(super) fn load(self) -> Result<Loaded, Problems> {
        let variables = std::env::vars_os().collect();
        load(&Sources { file: self.config, variables, flags: Vec::new() })
    }
}

/// How to reach the server.
#[derive(Debug, Args)]
pub(super) struct ClientArguments {
    /// The server's address
    #[arg(long, env = "FANWIRE_URL", default_value = URL_DEFAULT)]
    url: String,
    /// Token (JWT) to send as `Authorization: Bearer`
    #[arg(long, env = "FANWIRE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// API key to send as `X-API-Key`
    #[arg(long, value_name = "KEY", env = "FANWIRE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

impl ClientArguments {
    /// A client with the credentials that were given; an empty variable counts as none.
    pub(super) fn client(&self) -> Result<Client, UsageError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let url = match self.url.as_str() {
            "" => URL_DEFAULT,
            url => url,
        };
        let mut client = Client::new(url).map_err(UsageError)?;
        if let Some(token) = given(&self.token) {
            client
                .add_credential("authorization", &format!("Bearer {token}"))
                .map_err(UsageError)?;
        }
        if let Some(key) = given(&self.api_key) {
            client.add_credential("x-api-key", &key).map_err(UsageError)?;
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory as _, Parser as _};

    use super::{Arguments, Command};

    fn parse(line: &str) -> Result<Arguments, ErrorKind> {
        let words = line.split_whitespace();
        Arguments::try_parse_from(words).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_bare_command_takes_the_flags_of_serve() {
        for line in [
            "fanwire",
            "fanwire --listen 127.0.0.1:0 --workers 2",
            "fanwire --config a.toml",
            "fanwire --admin-listen=",
            "fanwire --listen localhost:0",
        ] {
            let arguments = parse(line).expect(line);
            assert!(arguments.command.is_none());
        }
        let arguments = parse("fanwire serve --workers 2").expect("serve has the same flags");
        assert!(matches!(arguments.command, Some(Command::Serve(_))));
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for (line, kind) in [
            ("fanwire --listen 8080", ErrorKind::ValueValidation),
            ("fanwire --workers many", ErrorKind::ValueValidation),
            ("fanwire serv", ErrorKind::InvalidSubcommand),
            ("fanwire pub", ErrorKind::MissingRequiredArgument),
            ("fanwire sub", ErrorKind::MissingRequiredArgument),
            ("fanwire sub a --since x:y", ErrorKind::ValueValidation),
            ("fanwire pub a b --lines", ErrorKind::ArgumentConflict),
            ("fanwire --listen [::1]:0 pub a", ErrorKind::ArgumentConflict),
            ("fanwire --help", ErrorKind::DisplayHelp),
            ("fanwire --version", ErrorKind::DisplayVersion),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }

    #[test]
    fn every_argument_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
