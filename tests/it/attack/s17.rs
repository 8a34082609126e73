//! S17: words of strangers become no labels of metrics.

use crate::harness::{Request, Server, figure};
use crate::metrics::use_everything;

#[test]
fn what_a_stranger_sends_adds_no_series() {
    let server = Server::start("");
    use_everything(&server, "a");
    server.await_metric("fanwire_connections", &[("door", "plain")], 0);
    let before = server.metrics().series_count();
    for index in 0..30 {
        use_everything(&server, &"random".repeat(index / 3 + 1)[index % 3..]);
    }
    server.await_metric("fanwire_connections", &[("door", "plain")], 0);
    assert_eq!(server.metrics().series_count(), before);
}

#[test]
fn the_number_of_series_does_not_grow_with_requests() {
    let server = Server::start("");
    let before = server.metrics().series_count();
    let mut wire = server.wire();
    let (rounds, burst) = (200, 100);
    for round in 0..rounds {
        let requests = (0..burst).flat_map(|number| {
            let word = format!("{round}-{number}");
            let request = match number % 4 {
                0 => Request::get(&format!("/{word}")),
                1 => Request::new(&format!("M{number}"), "/topics/a"),
                2 => Request::get(&format!("/topics/a/history?{word}=1")),
                _ => Request::post(&format!("/topics/t{number}"), &word),
            };
            request.header("User-Agent", &word).to_bytes()
        });
        wire.send(&requests.collect::<Vec<u8>>());
        (0..burst).for_each(|_| drop(wire.response()));
    }
    let after = server.metrics().series_count();
    figure("S17", format_args!("{after} series after {} requests", rounds * burst));
    assert_eq!(after, before);
}
