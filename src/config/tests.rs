use std::net::SocketAddr;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::{Config, Flag, Loaded, Problems, Sources, default_file, load};
use crate::auth::{Anonymous, Secret};
use crate::limits::{Audience, Delivery, JoinLeave, TopicRule};
use crate::log::{LogFormat, LogLevel};

/// Loads a file and variables; problems show the file as `FILE`.
fn load_with(file: &str, variables: &[(&str, &str)], flags: &[Flag]) -> Result<Loaded, String> {
    let on_disk = NamedTempFile::new().expect("a temporary file");
    std::fs::write(on_disk.path(), file).expect("a temporary file");
    let name = on_disk.path().display().to_string();
    let sources = Sources {
        file: Some(on_disk.path().to_owned()),
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        flags: flags.to_vec(),
    };
    load(&sources).map_err(|problems| problems.to_string().replace(&name, "FILE"))
}

fn from_file(file: &str) -> Result<Config, String> {
    load_with(file, &[], &[]).map(|loaded| loaded.config)
}

fn from_variable(name: &str, value: &str) -> Result<Config, String> {
    load_with("", &[(name, value)], &[]).map(|loaded| loaded.config)
}

fn flag(name: &'static str, key: &'static str, value: &str) -> Flag {
    let value = value.to_owned();
    Flag { name, key, value }
}

fn debug(config: &Config) -> String {
    format!("{config:?}")
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let file = "workers = 3\n";
    let variable = ("FANWIRE_WORKERS", "5");
    let flag = flag("--workers", "workers", "7");
    for (file, variables, flags, expected) in [
        ("", &[][..], &[][..], 0),
        (file, &[], &[], 3),
        (file, &[variable], &[], 5),
        ("", &[variable], &[], 5),
        (file, &[variable], std::slice::from_ref(&flag), 7),
        (file, &[], std::slice::from_ref(&flag), 7),
    ] {
        let loaded = load_with(file, variables, flags).expect("a valid configuration");
        assert_eq!(loaded.config.workers, expected);
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn every_key_of_the_contract_is_read() {
    let config = from_file(
        r#"
        listen = "0.0.0.0:80"
        admin_listen = "127.0.0.2:0"
        admin_password = "hunter2"
        workers = 4
        private_fd_tables = true
        log = { format = "json", level = "debug" }
        limits.message_bytes_max = 1_000
        limits.connections_max = 0x10
        limits.handshake_timeout = "1m 30s"
        websocket.compression = true
        websocket.compression_min_bytes = 0
        websocket.allowed_origins = ["https://a.example", "null"]
        auth.anonymous = "subscribe"
        auth.api_keys = ["k1", "k2"]
        history.meta_ttl = "200ms"
        drain.window = "1h"
        engine.kind = "memory"
        [tls]
        [[topic]]
        match = "chat:*"
        history_size = 0
        presence = true
        presence_grace = "2s"
        join_leave = "asked"
        delivery = "latest"
        [[topic]]
        presence_grace = "0s"
        "#,
    )
    .expect("a valid configuration");
    assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 80)));
    assert_eq!(config.admin_listen, Some(SocketAddr::from(([127, 0, 0, 2], 0))));
    assert_eq!(config.admin_password.expose(), "hunter2");
    assert_eq!((config.workers, config.private_fd_tables), (4, true));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.limits.message_bytes_max, 1000);
    assert_eq!(config.limits.connections_max, 16);
    assert_eq!(config.limits.handshake_timeout, Duration::from_secs(90));
    assert_eq!(config.websocket.allowed_origins, ["https://a.example", "null"]);
    assert_eq!(config.websocket.deflate_len_min(), Some(0));
    assert_eq!(config.auth.anonymous, Anonymous::Subscribe);
    let keys: Vec<_> = config.auth.api_keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["k1", "k2"]);
    assert_eq!(config.history_meta_ttl, Duration::from_millis(200));
    assert_eq!(config.drain_window, Duration::from_hours(1));
    let chat = TopicRule {
        pattern: "chat:*".to_owned(),
        history_size: 0,
        presence: true,
        presence_grace: Duration::from_secs(2),
        join_leave: JoinLeave::Asked,
        delivery: Delivery::Latest,
        ..TopicRule::default()
    };
    assert_eq!(config.topics, [chat, TopicRule::default()]);
}

#[test]
fn every_key_about_clients_is_read() {
    let config = from_file(
        r#"
        limits.trusted_proxies = ["10.1.2.3/8", "192.0.2.1", "fd00::1"]
        limits.handshake_rate_per_address_max = 7
        [auth]
        jwt_hmac_secret = "s3cret"
        jwks_url = "https://a.example/keys"
        jwt_private_key_file = "private.pem"
        jwt_audience = "us"
        jwt_issuer = "they"
        jwt_expiry_required = true
        expiry_grace = "1s"
        user_limited_topics = true
        personal_topics = true
        [[topic]]
        subscribe = "authenticated"
        publish = "server"
        "#,
    )
    .expect("a valid configuration");
    let auth = &config.auth;
    assert_eq!(auth.jwt_hmac_secret.expose(), "s3cret");
    assert_eq!(auth.jwks_url, "https://a.example/keys");
    assert_eq!(auth.jwt_private_key_file, "private.pem");
    assert_eq!((auth.jwt_audience.as_str(), auth.jwt_issuer.as_str()), ("us", "they"));
    assert!(auth.jwt_expiry_required && auth.user_limited_topics && auth.personal_topics);
    assert_eq!(auth.expiry_grace, Duration::from_secs(1));
    let proxies: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.1/32", "fd00::1/128"]);
    assert_eq!(config.limits.handshake_rate_per_address_max, 7);
    let rule = TopicRule {
        subscribe: Audience::Authenticated,
        publish: Audience::Server,
        ..TopicRule::default()
    };
    assert_eq!(config.topics, [rule]);
}

#[test]
fn a_variable_is_a_toml_value_or_a_bare_string() {
    let read = |name: &str, value: &str, expected: &str| {
        let config = from_variable(name, value).expect(value);
        assert!(debug(&config).contains(expected), "{name}={value}");
    };
    read("FANWIRE_LISTEN", "127.0.0.1:9", "listen: 127.0.0.1:9,");
    read("FANWIRE_LISTEN", "\"127.0.0.1:9\"", "listen: 127.0.0.1:9,");
    read("FANWIRE_LISTEN", "localhost:9", ":9, admin");
    read("FANWIRE_ADMIN_LISTEN", "", "admin_listen: None");
    read("FANWIRE_LOG__LEVEL", "warn", "level: Warn");
    read("FANWIRE_LIMITS__FRAGMENTS_MAX", "9", "fragments_max: 9,");
    read("FANWIRE_LIMITS__PING_INTERVAL", "5m", "ping_interval: 300s");
    read("FANWIRE_WEBSOCKET__ALLOWED_ORIGINS", "[\"*\"]", "allowed_origins: [\"*\"]");
    read("FANWIRE_LIMITS", "{ fragments_max = 9 }", "fragments_max: 9,");
    read("FANWIRE_TOPIC", "[{ match = \"a\", history_size = 2 }]", "history_size: 2");
    for text in ["12345", "true", "[1]", "a b", "\"a b\"", "1979-05-27"] {
        let config = from_variable("FANWIRE_ADMIN_PASSWORD", text).expect(text);
        assert_eq!(config.admin_password.expose(), text.trim_matches('"'));
    }
}

/// Files with one problem, and the line that tells it.
const REFUSED: &[(&str, &str)] = &[
    (
        "listen = \"8080\"",
        "FILE:1: listen: \"8080\" is not an address: write IP:PORT like 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:80",
    ),
    ("listen = 8080", "FILE:1: listen: expected a string, found an integer"),
    ("workers = -1", "FILE:1: workers: -1 is out of range: 0 to 1024"),
    ("workers = 1.5", "FILE:1: workers: expected an integer, found a fraction"),
    (
        "private_fd_tables = \"yes\"",
        "FILE:1: private_fd_tables: expected true or false, found a string",
    ),
    ("[log]\nformat = \"xml\"", "FILE:2: log.format: \"xml\" is not one of: text, json"),
    (
        "[log]\nlevel = \"fanwire=debug\"",
        "FILE:2: log.level: \"fanwire=debug\" is not one of: off, error, warn, info, debug, trace",
    ),
    (
        "[limits]\nrequest_head_bytes_max = 8191",
        "FILE:2: limits.request_head_bytes_max: 8191 is out of range: 8192 to 1048576",
    ),
    (
        "[limits]\ntopic_name_bytes_max = 0",
        "FILE:2: limits.topic_name_bytes_max: 0 is out of range: 1 to 255",
    ),
    (
        "[limits]\ntopic_name_bytes_max = 256",
        "FILE:2: limits.topic_name_bytes_max: 256 is out of range: 1 to 255",
    ),
    (
        "[limits]\nwrite_timeout = \"0s\"",
        "FILE:2: limits.write_timeout: \"0s\" is out of range: 1ms to 1h",
    ),
    (
        "[limits]\nwrite_timeout = \"2h\"",
        "FILE:2: limits.write_timeout: \"2h\" is out of range: 1ms to 1h",
    ),
    (
        "[limits]\nwrite_timeout = 10",
        "FILE:2: limits.write_timeout: expected a duration like \"25s\", found an integer",
    ),
    (
        "[limits]\nwrite_timeout = \"soon\"",
        "FILE:2: limits.write_timeout: \"soon\" is not a duration: write 200ms, 25s, 5m or 24h",
    ),
    (
        "[limits]\n\noutbox_bytes_max = 131072",
        "FILE:3: limits.outbox_bytes_max (131072) must exceed limits.message_bytes_max (65536) + 65536",
    ),
    (
        "[limits]\nmessage_bytes_max = 1048576",
        "FILE:2: limits.outbox_bytes_max (1048576) must exceed limits.message_bytes_max (1048576) + 65536",
    ),
    (
        "[limits]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy.example\"]",
        "FILE:2: limits.trusted_proxies: \"proxy.example\" is not a network: write 10.0.0.0/8, 192.0.2.1 or fd00::/8",
    ),
    (
        "[limits]\ntrusted_proxies = [\"0.0.0.0/0\"]",
        "FILE:2: limits.trusted_proxies: \"0.0.0.0/0\" is everybody: list your proxies only, or any client can claim any address",
    ),
    (
        "[limits]\ntrusted_proxies = [\"10.0.0.0/33\"]",
        "FILE:2: limits.trusted_proxies: \"10.0.0.0/33\" is not a network: write 10.0.0.0/8, 192.0.2.1 or fd00::/8",
    ),
    (
        "[websocket]\ncompression = 6",
        "FILE:2: websocket.compression: expected true or false, found an integer",
    ),
    (
        "[websocket]\nallowed_origins = [\"https://a.example/\"]",
        "FILE:2: websocket.allowed_origins: \"https://a.example/\" is not an origin: write scheme://host[:port] without a path, \"*\" or \"null\"",
    ),
    (
        "[websocket]\nallowed_origins = \"*\"",
        "FILE:2: websocket.allowed_origins: expected a list of strings like [\"a\", \"b\"], found a string",
    ),
    (
        "[auth]\nanonymous = \"yes\"",
        "FILE:2: auth.anonymous: \"yes\" is not one of: loopback, subscribe, all, none",
    ),
    (
        "[auth]\napi_keys = [\"\"]",
        "FILE:2: auth.api_keys: a key is not empty and has visible ASCII characters only",
    ),
    (
        "[auth]\njwt_hmac_secret = 12345",
        "FILE:2: auth.jwt_hmac_secret: expected a string, found an integer",
    ),
    (
        "[auth]\njwt_public_key_file = \"/nowhere/a.pem\"",
        "FILE:2: auth.jwt_public_key_file: \"/nowhere/a.pem\" cannot be read: No such file or directory (os error 2)",
    ),
    (
        "[auth]\njwks_url = \"a.example/keys\"",
        "FILE:2: auth.jwks_url: this is not an address of keys: write https://HOST[:PORT]/PATH, without a user",
    ),
    (
        "[[topic]]\npublish = \"everyone\"",
        "FILE:2: topic.publish: \"everyone\" is not one of: anyone, authenticated, token, server",
    ),
    (
        "[tls]\nkey_file = \"a\"",
        "FILE:2: tls.cert_file and tls.key_file go together: set both or neither",
    ),
    ("[tls]\ncert_file = 1", "FILE:2: tls.cert_file: expected a string, found an integer"),
    (
        "[engine]\nkind = \"redis\"",
        "FILE:2: engine.kind: this build lacks an engine other than \"memory\": set it to \"memory\"",
    ),
    (
        "[engine]\nurl = \"redis://a\"",
        "FILE:2: engine.url: this build lacks the Redis engine: remove the key",
    ),
    (
        "[engine]\nprefix = \"a\"",
        "FILE:2: engine.prefix: this build lacks the Redis engine: remove the key",
    ),
    (
        "[[topic]]\npresence = \"on\"",
        "FILE:2: topic.presence: expected true or false, found a string",
    ),
    (
        "[[topic]]\npresence_grace = \"1us\"",
        "FILE:2: topic.presence_grace: \"1us\" is out of range: 1ms to 24h",
    ),
    ("[[topic]]\nmatch = \"\"", "FILE:2: topic.match: an empty pattern matches no topic"),
    (
        "[[topic]]\n[[topic]]\ndelivery = \"slow\"",
        "FILE:3: topic.delivery: \"slow\" is not one of: reliable, latest, lossy",
    ),
    (
        "[[topic]]\nhistory_sise = 1",
        "FILE:2: unknown key `topic.history_sise`; did you mean `history_size`?",
    ),
    ("[topic]\nmatch = \"a\"", "FILE:1: topic: write [[topic]] for each rule"),
    (
        "admin_listen = \"0.0.0.0:1\"",
        "FILE:1: admin_listen (0.0.0.0:1) is beyond loopback: set admin_password, or listen on 127.0.0.1",
    ),
    (
        "listen = \"127.0.0.1:8081\"",
        "FILE:1: listen and admin_listen are both 127.0.0.1:8081: choose two ports",
    ),
    ("limits = 1", "FILE:1: `limits` is a section: write [limits] and its keys"),
    (
        "[limits]\nmesage_bytes_max = 1",
        "FILE:2: unknown key `limits.mesage_bytes_max`; did you mean `limits.message_bytes_max`?",
    ),
    (
        "message_bytes_max = 1",
        "FILE:1: unknown key `message_bytes_max`; did you mean `limits.message_bytes_max`?",
    ),
    (
        "\"limits.message_bytes_max\" = 1",
        "FILE:1: unknown key `limits.message_bytes_max`; did you mean `limits.message_bytes_max`?",
    ),
    ("\"\" = 1", "FILE:1: unknown key ``"),
    ("zzz = 1", "FILE:1: unknown key `zzz`"),
    ("[limit]\nmessage_bytes_max = 1", "FILE:1: unknown section `limit`; did you mean `limits`?"),
    ("\"a\\nb\" = 1", "FILE:1: unknown key `a\\nb`"),
];

#[test]
fn each_refused_value_names_its_line_and_reason() {
    for (file, expected) in REFUSED {
        let problems = from_file(file).expect_err(file);
        assert_eq!(problems, *expected, "{file}");
    }
}

#[test]
fn a_refused_variable_or_flag_is_named() {
    for (name, value, expected) in [
        ("FANWIRE_LISTEN", "8080", "FANWIRE_LISTEN: listen: expected a string, found an integer"),
        (
            "FANWIRE_LIMITS__FRAGMENTS_MAX",
            "many",
            "FANWIRE_LIMITS__FRAGMENTS_MAX: limits.fragments_max: expected an integer, found a string",
        ),
        (
            "FANWIRE_LIMITS__PONG_TIMEOUT",
            "0s",
            "FANWIRE_LIMITS__PONG_TIMEOUT: limits.pong_timeout: \"0s\" is out of range: 1ms to 1h",
        ),
        (
            "FANWIRE_WEBSOCKET__COMPRESSION",
            "on",
            "FANWIRE_WEBSOCKET__COMPRESSION: websocket.compression: expected true or false, found a string",
        ),
        (
            "FANWIRE_TLS__CERT_FILE",
            "a.pem",
            "FANWIRE_TLS__CERT_FILE: tls.cert_file and tls.key_file go together: set both or neither",
        ),
        (
            "FANWIRE_LIMITS",
            "{ fragment_max = 1 }",
            "FANWIRE_LIMITS: unknown key `limits.fragment_max`; did you mean `limits.fragments_max`?",
        ),
    ] {
        let problems = from_variable(name, value).expect_err(value);
        assert!(problems.starts_with(expected) || problems == expected, "{problems}");
    }
    let flag = flag("--listen", "listen", "0.0.0.0:8081");
    let variable = ("FANWIRE_ADMIN_LISTEN", "0.0.0.0:8081");
    let problems = load_with("", &[variable], &[flag]).expect_err("the same port twice");
    assert_eq!(
        problems,
        "FANWIRE_ADMIN_LISTEN: admin_listen (0.0.0.0:8081) is beyond loopback: set admin_password, \
         or listen on 127.0.0.1\n\
         --listen: listen and admin_listen are both 0.0.0.0:8081: choose two ports"
    );
}

#[test]
fn all_problems_are_reported_at_once_in_order() {
    let file =
        "nonsense\nlisten = 1\n[log]\nlevel = \"loud\"\n[limits]\nfragments_max = = 2\nping = 1\n";
    let problems = load_with(file, &[("FANWIRE_WORKERS", "many")], &[]).expect_err("many problems");
    let places: Vec<_> =
        problems.lines().filter_map(|line| line.split_once(": ")).map(|(place, _)| place).collect();
    let expected = ["FILE:1", "FILE:2", "FILE:4", "FILE:6", "FILE:7", "FANWIRE_WORKERS"];
    assert_eq!(places, expected, "{problems}");
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let variables = [
        ("FANWIRE_LISTN", "a"),
        ("FANWIRE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("FANWIRE_CONFIG", ""),
        ("FANWIRE_URL", "http://127.0.0.1"),
        ("FANWIRE_TOKEN", "a"),
        ("FANWIRE_API_KEY", "a"),
        ("HOME", "/"),
    ];
    let loaded = load_with("", &variables, &[]).expect("warnings only");
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "FANWIRE_LISTN: unknown variable, ignored; did you mean `FANWIRE_LISTEN`?",
            "FANWIRE_PORT_8080_TCP: unknown variable, ignored",
        ]
    );
}

#[test]
fn a_server_that_lets_nobody_in_is_a_warning() {
    let loaded = load_with("listen = \"0.0.0.0:8080\"", &[], &[]).expect("warnings only");
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.concat().contains("allows nothing while listening"));
}

#[test]
fn tokens_have_one_source_of_public_keys() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key pair");
    let file = NamedTempFile::new().expect("a temporary file");
    let path = file.path().display();
    let key = format!("[auth]\njwt_public_key_file = \"{path}\"\n");
    std::fs::write(file.path(), pair.public_key_pem()).expect("a temporary file");
    let config = from_file(&key).expect("a public key");
    assert!(config.to_toml().contains(&format!("jwt_public_key_file = \"{path}\"")));
    assert!(!debug(&config).contains("AlgorithmFamily"), "no key is shown");
    let both = format!("{key}jwks_url = \"https://a.example/\"\n");
    let problems = from_file(&both).expect_err("two sources");
    assert_eq!(
        problems,
        "FILE:3: auth.jwks_url and auth.jwt_public_key_file exclude each other: keep one"
    );
    std::fs::write(file.path(), pair.serialize_pem()).expect("a temporary file");
    let problems = from_file(&key).expect_err("the private key");
    assert!(problems.contains("has a private key"), "{problems}");
}

#[test]
fn the_address_of_keys_is_not_shown_where_it_is_refused() {
    let problems = from_file("[auth]\njwks_url = \"https://user:hunter2@a.example/\"");
    assert!(!problems.expect_err("no user").contains("hunter2"));
}

#[test]
fn a_missing_file_is_a_problem_and_an_empty_name_is_none() {
    let with_variable = |value: &str| {
        let variables = vec![("FANWIRE_CONFIG".into(), value.into())];
        load(&Sources { variables, ..Sources::default() })
    };
    let problems: Problems = with_variable("/nowhere/fanwire.toml").expect_err("no such file");
    assert!(problems.to_string().starts_with("/nowhere/fanwire.toml: cannot be read: "));
    assert!(with_variable("").is_ok());
}

#[test]
fn the_default_file_parses_back_to_the_defaults() {
    let file = default_file();
    let config = from_file(&file).expect("the default file is valid");
    assert_eq!(debug(&config), debug(&Config::default()));
    // Comments of prose have a space after the mark, the example rule has none.
    let lines = file.lines().map(|line| match line.strip_prefix('#') {
        Some(code) if !code.starts_with(' ') => code,
        _ => line,
    });
    let uncommented = lines.collect::<Vec<_>>().join("\n");
    let config = from_file(&uncommented).expect("the example rule is valid");
    assert_eq!(config.topics, [TopicRule::default()]);
}

#[test]
fn the_printed_configuration_is_redacted_and_parses_back() {
    let file = "admin_password = \"hunter2\"\nlisten = \"[::1]:0\"\nadmin_listen = \"\"\n\
                [auth]\napi_keys = [\"s3cret\"]\njwt_hmac_secret = \"t0psecret\"\n\
                [websocket]\nallowed_origins = [\"*\"]\n\
                [limits]\nping_interval = \"1500ms\"\n\
                [[topic]]\nmatch = \"a \\\"b\\\"\"\nhistory_ttl = \"90s\"\n";
    let config = from_file(file).expect("a valid configuration");
    let printed = config.to_toml();
    for secret in ["hunter2", "s3cret", "t0psecret"] {
        assert!(!printed.contains(secret));
        assert!(!debug(&config).contains(secret));
    }
    assert!(printed.contains("admin_password = \"[redacted]\""));
    assert!(printed.contains("api_keys = [\"[redacted]\"]"));
    assert!(printed.contains("jwt_hmac_secret = \"[redacted]\""));
    let loaded = load_with(&printed, &[], &[]).expect("what is printed is valid");
    assert_eq!(debug(&loaded.config), debug(&config));
    assert_eq!(loaded.warnings.len(), 1, "a redacted secret is no secret");
}

proptest::proptest! {
    #[test]
    fn no_file_and_no_variable_is_a_panic(file in "\\PC*|[\\[\\]a-z_.={}\"#\n ]*", value in "\\PC*") {
        let _ = load_with(&file, &[("FANWIRE_LIMITS__PING_INTERVAL", &value)], &[]);
        let _ = load_with("", &[("FANWIRE_TOPIC", &value), ("FANWIRE_LISTEN", &value)], &[]);
    }
}
