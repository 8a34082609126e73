//! S14: the admin pages from where they are not meant to be seen.

use tempfile::TempDir;

use crate::harness::{Process, Request, Server, Wire, fanwire};

#[test]
fn the_admin_password_is_asked_except_for_health() {
    let server = Server::start("admin_password = \"open sesame\"\n");
    let ask = |target: &str, credentials: Option<&str>| {
        let mut request = Request::get(target);
        if let Some(credentials) = credentials {
            request = request.header("Authorization", &format!("Basic {credentials}"));
        }
        Wire::connect(server.admin).request(&request)
    };
    // "any:open sesame", ":open sesame", "any:closed"
    let (any_user, no_user, wrong) =
        ("YW55Om9wZW4gc2VzYW1l", "Om9wZW4gc2VzYW1l", "YW55OmNsb3NlZA==");
    for target in ["/metrics", "/stats", "/"] {
        let asked = ask(target, None);
        assert_eq!(asked.status, 401, "{target}");
        assert!(asked.header("www-authenticate").unwrap().starts_with("Basic"));
        assert_eq!(ask(target, Some(wrong)).status, 401, "{target}");
        for right in [any_user, no_user] {
            assert_eq!(ask(target, Some(right)).status, 200, "{target}");
        }
    }
    for target in ["/health/live", "/health/ready"] {
        assert_eq!(ask(target, None).status, 200, "{target}");
    }
}

#[test]
fn the_admin_pages_are_not_on_the_public_port() {
    let server = Server::start("");
    for target in ["/metrics", "/stats", "/health/live", "/health/ready"] {
        server.get(target).assert_refused(404, "not_found");
    }
}

#[test]
fn beyond_loopback_the_admin_pages_need_a_password() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"];
    let (code, _, stderr) = Process::start(fanwire(&args)).finish();
    assert_eq!(code, Some(78), "{stderr}");
    let mut command = fanwire(&args);
    command.env("FANWIRE_ADMIN_PASSWORD", "open sesame");
    let server = Server::run(command, TempDir::new().unwrap());
    assert_eq!(server.admin_get("/metrics").status, 401);
}
