//! S19: secrets in logs, dumps and pages.

use crate::harness::{Process, Request, Server, Wire, fanwire};

const KEY: &str = "key-of-a-test-0123456789abcdef";

#[test]
fn secrets_show_neither_in_the_log_nor_on_a_page() {
    let password = "open-sesame-0123456789";
    let mut server = Server::start(&format!(
        "admin_password = \"{password}\"\n[log]\nlevel = \"trace\"\n[auth]\napi_keys = [\"{KEY}\"]\n"
    ));
    let mut seen = String::new();
    for request in [
        Request::handshake("/topics/a"),
        Request::sse("/topics/a"),
        Request::get("/topics/a/history"),
        Request::post("/topics/a", "x"),
    ] {
        server.wire().answer(&request.clone().header("X-API-Key", KEY));
        server.wire().answer(&request.clone().header("Authorization", &format!("apikey {KEY}")));
        // Nearly right, in the wrong place, or beside something else that is wrong.
        for (name, value) in [("X-API-Key", format!("{KEY}x")), ("Authorization", KEY.to_owned())] {
            seen += &server.wire().answer(&request.clone().header(name, &value)).text();
        }
    }
    // base64 of `any:open-sesame-0123456789`
    let basic = "Basic YW55Om9wZW4tc2VzYW1lLTAxMjM0NTY3ODk=";
    for target in ["/", "/stats", "/metrics"] {
        let request = Request::get(target).header("Authorization", basic);
        let response = Wire::connect(server.admin).request(&request);
        assert_eq!(response.status, 200, "{target}");
        seen += &response.text();
    }
    server.process.signal("TERM");
    server.process.exit_code();
    seen += &server.process.stderr();
    for secret in [KEY, password, "YW55Om9wZW4"] {
        assert!(!seen.contains(secret), "{secret}");
    }
}

#[test]
fn the_configuration_is_printed_without_its_secrets() {
    let mut command = fanwire(&["config", "print"]);
    command
        .env("FANWIRE_ADMIN_PASSWORD", KEY)
        .env("FANWIRE_AUTH__API_KEYS", format!("[\"{KEY}\"]"))
        .env("FANWIRE_AUTH__JWT_HMAC_SECRET", "");
    let (code, stdout, stderr) = Process::start(command).finish();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("api_keys"));
    assert!(!stdout.contains(KEY) && !stderr.contains(KEY));
}
