//! S21: bodies of the publish API that are not what they seem.

use crate::harness::{Request, Server};

#[test]
fn a_body_over_the_limit_is_413_announced_or_not() {
    let server = Server::start("[limits]\nmessage_bytes_max = 10\n");
    assert_eq!(server.post("/topics/a", "0123456789").status, 200);
    server.post("/topics/a", "0123456789+").assert_refused(413, "message_too_large");
    let chunked = Request::new("POST", "/topics/a")
        .header("Transfer-Encoding", "chunked")
        .raw_body("8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n");
    server.request(&chunked).assert_refused(413, "message_too_large");
    let labels = [("reason", "message_too_large")];
    server.await_metric("fanwire_requests_refused_total", &labels, 2);
}

#[test]
fn an_encoded_body_is_415() {
    let server = Server::start("");
    let request = Request::post("/topics/a", "x").header("Content-Encoding", "gzip");
    server.request(&request).assert_refused(415, "content_encoding_unsupported");
}

#[test]
fn a_second_request_cannot_hide_in_a_body() {
    let server = Server::start("");
    let hidden = "POST /topics/hidden HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx";
    let len = hidden.len().to_string();
    let post = || Request::new("POST", "/topics/a");
    let chunked = |request: Request| request.header("Transfer-Encoding", "chunked");
    let bare = |head: Request, body: &str| head.raw_body(body);
    for (name, request) in [
        (
            "CL and TE",
            bare(chunked(post().header("Content-Length", "4")), &format!("0\r\n\r\n{hidden}")),
        ),
        (
            "TE and CL",
            bare(chunked(post()).header("Content-Length", &len), &format!("0\r\n\r\n{hidden}")),
        ),
        (
            "two lengths",
            bare(post().header("Content-Length", "0").header("Content-Length", &len), hidden),
        ),
        ("a list of lengths", bare(post().header("Content-Length", &format!("0, {len}")), hidden)),
        ("a signed length", bare(post().header("Content-Length", "+0"), hidden)),
        (
            "an unknown coding",
            bare(post().header("Transfer-Encoding", "xchunked"), &format!("0\r\n\r\n{hidden}")),
        ),
        (
            "chunked twice",
            bare(
                post().header("Transfer-Encoding", "chunked, chunked"),
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        ("a bad chunk size", bare(chunked(post()), &format!("0x0\r\n\r\n{hidden}"))),
        ("a negative chunk size", bare(chunked(post()), &format!("-1\r\n\r\n{hidden}"))),
        ("a huge chunk size", bare(chunked(post()), &format!("fffffffffffffffff\r\n{hidden}"))),
        ("a chunk without its end", bare(chunked(post()), &format!("1\r\nx{hidden}"))),
        ("space before the colon", bare(post().header("Transfer-Encoding ", "chunked"), hidden)),
    ] {
        let mut wire = server.wire();
        wire.send(&request.to_bytes());
        wire.finish_sending();
        wire.wait_closed();
        let topic = server.get("/topics/hidden/history?limit=0").json();
        assert_eq!(topic["offset"], 0, "{name}: the hidden request was heard");
    }
}

#[test]
fn deep_json_is_text_like_any_other() {
    let server = Server::start("");
    let deep = "[".repeat(60_000);
    let request = Request::post("/topics/a", &deep).header("Content-Type", "application/json");
    assert_eq!(server.request(&request).status, 200);
    assert_eq!(server.get("/topics/a/history").json()["publications"][0]["data"], deep.as_str());
}
