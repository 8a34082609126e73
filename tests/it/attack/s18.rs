//! S18: questions that are dear to answer.

use crate::harness::{Request, Server, Wire, eventually, figure};

#[test]
fn a_page_of_history_is_bounded_however_much_is_kept() {
    let config = "[[topic]]\nmatch = \"*\"\nhistory_size = 100000\nhistory_bytes_max = 100000000\n";
    let server = Server::start(config);
    let mut wire = server.wire();
    let burst = Request::post("/topics/a", "x").to_bytes().repeat(100);
    for _ in 0..50 {
        wire.send(&burst);
        (0..100).for_each(|_| assert_eq!(wire.response().status, 200));
    }
    server.get("/topics/a/history?limit=1001").assert_refused(400, "query_invalid");
    server.get("/topics/a/history?limit=1000000").assert_refused(400, "query_invalid");
    let page = server.get("/topics/a/history?since=0&limit=1000");
    assert_eq!(page.json()["publications"].as_array().unwrap().len(), 1000);
}

#[test]
fn answers_that_nobody_reads_are_charged_until_the_memory_is_used_up() {
    // Control characters take six bytes each in JSON.
    // Two workers could each give the one answer too many.
    let config = "workers = 1\n[limits]\nmemory_bytes_max = 30000000\n";
    let server = Server::start(config);
    for _ in 0..15 {
        assert_eq!(server.post("/topics/a", vec![1; 60_000]).status, 200);
    }
    let ask = || {
        let mut wire = Wire::connect_narrow(server.addr, 4096);
        wire.send(&Request::get("/topics/a/history").to_bytes());
        wire
    };
    let refused = || server.metric("fanwire_requests_refused_total", &[("reason", "memory_limit")]);
    let mut unread = Vec::new();
    eventually("nobody else is answered", || {
        unread.push(ask());
        (refused() > 0).then_some(())
    });
    let (count, held) =
        (unread.len(), server.metric("fanwire_memory_bytes", &[("kind", "outbox")]));
    figure("S18", format_args!("{count} unread answers hold {held} of 30,000,000 bytes"));
    assert!(held <= 36_000_000, "one answer too many at most");
    drop(unread);
    eventually("there is room again", || {
        (server.get("/topics/a/history").status == 200).then_some(())
    });
}
