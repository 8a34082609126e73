//! What stands against the keys that tokens are signed and checked with.

use super::super::runtime;
use super::{Finding, Severity, warning};
use crate::auth::{AuthConfig, KeySet, Signer};

/// A shorter secret can be found by trying, from any one token (RFC 7518 section 3.2).
const SECRET_LEN_MIN: usize = 32;

/// Looks at `[auth]`. The key set is fetched; the file of public keys was read with the rest.
pub(super) fn findings(config: &AuthConfig) -> Vec<Finding> {
    let signing = private_key_finding(config);
    [secret_finding(config), signing]
        .into_iter()
        .flatten()
        .chain(key_set_findings(config))
        .collect()
}

fn secret_finding(config: &AuthConfig) -> Option<Finding> {
    let len = config.jwt_hmac_secret.expose().len();
    (1..SECRET_LEN_MIN).contains(&len).then(|| {
        warning(
            format!("auth.jwt_hmac_secret has {len} bytes: whoever has a token can try to find it"),
            "openssl rand -hex 32".to_owned(),
        )
    })
}

fn private_key_finding(config: &AuthConfig) -> Option<Finding> {
    if config.jwt_private_key_file.is_empty() {
        return None;
    }
    let error = anyhow::Error::from(Signer::new(config).err()?);
    let fix =
        "openssl genpkey -algorithm ed25519, or remove the key: only `fanwire token` needs it";
    Some(warning(format!("{error:#}"), fix.to_owned()))
}

fn key_set_findings(config: &AuthConfig) -> Vec<Finding> {
    // Empty, there is none; otherwise it was checked with the rest of the configuration.
    let Ok(keys) = KeySet::new(&config.jwks_url) else { return Vec::new() };
    let mut findings = Vec::new();
    if keys.is_exposed() {
        findings.push(warning(
            "auth.jwks_url is plain http: whoever is in between can sign tokens".to_owned(),
            "use https://".to_owned(),
        ));
    }
    let fetched = match runtime() {
        Ok(runtime) => runtime.block_on(keys.fetch()).map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = fetched {
        findings.push(Finding {
            severity: Severity::Error,
            text: format!("auth.jwks_url: {error:#}: no token can be checked"),
            fix: "choose the address of a JWK set that this host reaches and trusts".to_owned(),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::auth::{AuthConfig, Secret};

    fn check(config: &AuthConfig, expected: &[&str]) {
        let lines: Vec<_> = findings(config).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
            assert!(line.contains("; fix: "), "{line}");
            assert!(!line.contains("s3cret"), "{line}");
        }
    }

    #[test]
    fn weak_and_missing_keys_are_found() {
        check(&AuthConfig::default(), &[]);
        let secret = |text: &str| AuthConfig {
            jwt_hmac_secret: Secret::new(text.to_owned()),
            ..AuthConfig::default()
        };
        check(&secret("s3cret"), &["warning: auth.jwt_hmac_secret has 6 bytes"]);
        check(&secret(&"s3cret".repeat(6)), &[]);
        let jwt_private_key_file = "/nowhere/private.pem".to_owned();
        check(
            &AuthConfig { jwt_private_key_file, ..AuthConfig::default() },
            &["warning: auth.jwt_private_key_file (/nowhere/private.pem) cannot be read: "],
        );
    }

    #[test]
    fn a_key_set_that_cannot_be_fetched_is_a_fault() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let jwks_url = format!("http://{address}/keys");
        check(
            &AuthConfig { jwks_url, ..AuthConfig::default() },
            &["error: auth.jwks_url: cannot connect: "],
        );
        let jwks_url = "http://192.0.2.1.invalid/keys".to_owned();
        check(
            &AuthConfig { jwks_url, ..AuthConfig::default() },
            &["warning: auth.jwks_url is plain http", "error: auth.jwks_url: "],
        );
    }
}
