//! Who may look: the password where there is one, else whoever is on this machine.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::auth::Secret;
use crate::auth::header::{Field, host, is_of_this_machine};
use crate::reason::Refusal;

/// Lets a request with the password pass; without a password, one that names a local host.
///
/// # Errors
/// The refusal to answer with.
pub(super) fn check(password: &Secret, headers: &HeaderMap) -> Result<(), Refusal> {
    if password.is_empty() {
        // A page elsewhere whose name was pointed at 127.0.0.1 would read us as its own origin.
        return match host(headers) {
            Some(host) if is_of_this_machine(host.host()) => Ok(()),
            _ => Err(Refusal::HostNotAllowed),
        };
    }
    if !headers.contains_key(AUTHORIZATION) {
        return Err(Refusal::TokenRequired);
    }
    match Field::of(headers, AUTHORIZATION).one().and_then(basic_password) {
        Some(given) if password.matches(&given) => Ok(()),
        _ => Err(Refusal::TokenInvalid),
    }
}

/// The password of Basic credentials (RFC 7617 section 2); the user does not matter.
fn basic_password(credentials: &str) -> Option<Vec<u8>> {
    let (scheme, encoded) = credentials.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut pair = STANDARD.decode(encoded.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair.split_off(colon + 1))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use http::header::{AUTHORIZATION, HOST, HeaderMap};

    use super::check;
    use crate::auth::Secret;
    use crate::reason::Refusal;

    #[test]
    fn a_password_is_asked_as_basic_with_any_user() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (values, expected) in [
            (vec![basic("admin:pa:ss")], Ok(())),
            (vec![basic(":pa:ss")], Ok(())),
            (vec![basic("admin:pa:ss").replacen("Basic", "bAsIc", 1)], Ok(())),
            (vec![], Err(Refusal::TokenRequired)),
            (vec![basic("admin:pa:s")], Err(Refusal::TokenInvalid)),
            (vec![basic("admin:pa:sss")], Err(Refusal::TokenInvalid)),
            (vec![basic("admin:")], Err(Refusal::TokenInvalid)),
            (vec![basic("pa:ss")], Err(Refusal::TokenInvalid)),
            (vec![basic("colonless")], Err(Refusal::TokenInvalid)),
            (vec!["Basic".to_owned()], Err(Refusal::TokenInvalid)),
            (vec!["Basic %%%".to_owned()], Err(Refusal::TokenInvalid)),
            (vec!["Bearer pa:ss".to_owned()], Err(Refusal::TokenInvalid)),
            (vec![basic("admin:pa:ss"), basic("admin:pa:ss")], Err(Refusal::TokenInvalid)),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(AUTHORIZATION, value.parse().expect("a header value"));
            }
            let secret = Secret::new("pa:ss".to_owned());
            assert_eq!(check(&secret, &headers), expected, "{values:?}");
        }
    }

    #[test]
    fn without_a_password_the_host_must_be_local() {
        for (values, expected) in [
            (vec!["localhost"], true),
            (vec!["LOCALHOST:8081"], true),
            (vec!["box.localhost:8081"], true),
            (vec!["127.0.0.1:8081"], true),
            (vec!["192.168.1.5"], true),
            (vec!["[::1]:8081"], true),
            (vec!["[::1]"], true),
            (vec![], false),
            (vec![""], false),
            (vec!["::1"], false),
            (vec!["[127.0.0.1]"], false),
            (vec!["evil.example:8081"], false),
            (vec!["127.0.0.1.evil.example"], false),
            (vec!["localhost.evil.example"], false),
            (vec!["notlocalhost"], false),
            (vec!["evil@localhost:x"], false),
            (vec!["localhost", "localhost"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(HOST, value.parse().expect("a header value"));
            }
            let passes = check(&Secret::default(), &headers).is_ok();
            assert_eq!(passes, expected, "{values:?}");
        }
    }
}
