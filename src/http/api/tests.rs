//! Requests as they are read: tables, and bodies of any kind.

use proptest::prelude::*;
use serde::Deserialize;

use super::Procedure;
use super::request::{
    BatchRequest, Bounds, ITEMS_MAX, ListRequest, PublishRequest, TopicRequest, UserRequest,
    command, decode,
};
use crate::hub::{Epoch, PayloadKind, Since, Version};
use crate::protocol::centrifugo::{
    Asked, Disconnect, ErrorCode, Hears, Order, ServerSubscription, Span,
};
use crate::time::Stamp;
use crate::worker::Errand;

const BOUNDS: Bounds = Bounds { message_len_max: 10, topic_name_len_max: 255 };

/// Seven seconds after the beginning of time.
fn now() -> Stamp {
    Stamp { wall: 7_000, ..Stamp::now() }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    decode(text).unwrap_or_else(|refused| panic!("{refused}: {text}"))
}

#[test]
fn every_word_is_of_one_procedure() {
    for procedure in Procedure::ALL {
        assert_eq!(Procedure::parse(procedure.word()), Some(procedure));
    }
    for word in ["", "Publish", "presence-stats", "map_publish"] {
        assert_eq!(Procedure::parse(word), None, "{word}");
    }
}

#[test]
fn every_procedure_is_documented() {
    let documented = include_str!("../../../openapi.json");
    let version = concat!("\"version\": \"", env!("CARGO_PKG_VERSION"), '"');
    assert!(documented.contains(version), "it is of another version");
    for procedure in Procedure::ALL {
        assert!(
            documented.contains(&format!("\"/api/{}\": {{", procedure.word())),
            "{procedure:?}"
        );
    }
}

#[test]
fn a_payload_is_json_as_written_or_bytes() {
    use PayloadKind::{Binary, Text};
    for (body, expected) in [
        (r#"{"data": {"a" : 1 } }"#, Ok((Text, &b"{\"a\" : 1 }"[..]))),
        (r#"{"data":null}"#, Ok((Text, b"null"))),
        (r#"{"data":"","b64data":""}"#, Ok((Text, b"\"\""))),
        (r#"{"b64data":"AP8="}"#, Ok((Binary, b"\x00\xFF"))),
        (r#"{"data":"12345678"}"#, Ok((Text, b"\"12345678\""))),
        (r#"{"data":"123456789"}"#, Err(ErrorCode::BadRequest)),
        (r#"{"data":"1","tags":{"1234":"5678"}}"#, Err(ErrorCode::BadRequest)),
        (r"{}", Err(ErrorCode::BadRequest)),
        (r#"{"b64data":""}"#, Err(ErrorCode::BadRequest)),
        (r#"{"b64data":"AP8"}"#, Err(ErrorCode::BadRequest)),
        (r#"{"data":1,"b64data":"AP8="}"#, Err(ErrorCode::BadRequest)),
        (r#"{"data":1,"skip_history":true}"#, Ok((Text, b"1"))),
    ] {
        let content = read::<PublishRequest<'_>>(body).content(BOUNDS);
        let got = content.map(|content| (content.payload.kind(), content.payload.data().to_vec()));
        let expected = expected.map(|(kind, data)| (kind, data.to_vec()));
        assert_eq!(got.map_err(|error| error.code), expected, "{body}");
    }
}

#[test]
fn what_a_publication_is_told_apart_by_is_short() {
    for (len, expected) in [(0, Ok(None)), (128, Ok(Some(128))), (129, Err(ErrorCode::BadRequest))]
    {
        let body = format!(r#"{{"idempotency_key":"{}"}}"#, "k".repeat(len));
        let request: PublishRequest<'_> = read(&body);
        let key = request.idempotency_key().map(|key| key.map(str::len));
        assert_eq!(key.map_err(|error| error.code), expected, "{len}");
    }
    for (body, expected) in [
        ("{}", Ok(None)),
        (r#"{"version":0,"version_epoch":"a"}"#, Ok(None)),
        (r#"{"version":7}"#, Ok(Some(Version { number: 7, epoch: "" }))),
        (r#"{"version":7,"version_epoch":"a"}"#, Ok(Some(Version { number: 7, epoch: "a" }))),
    ] {
        let request: PublishRequest<'_> = read(body);
        assert_eq!(request.version(), expected, "{body}");
    }
}

#[test]
fn a_span_is_where_and_how_far() {
    let epoch = Epoch::parse("aZ9");
    let span = |since, limit, order| Ok(Span { since, limit, order });
    let at = |epoch, offset| Some(Since { epoch, offset });
    for (body, expected) in [
        ("{}", span(None, 0, Order::OldestFirst)),
        (r#"{"limit":5,"reverse":true}"#, span(None, 5, Order::NewestFirst)),
        (r#"{"limit":-1}"#, span(None, 1000, Order::OldestFirst)),
        (r#"{"limit":9999,"since":null}"#, span(None, 1000, Order::OldestFirst)),
        (r#"{"since":{}}"#, span(at(None, 0), 0, Order::OldestFirst)),
        (r#"{"since":{"offset":3,"epoch":"aZ9"}}"#, span(at(epoch, 3), 0, Order::OldestFirst)),
        (r#"{"since":{"offset":3,"epoch":"a b"}}"#, Err(ErrorCode::UnrecoverablePosition)),
        (r#"{"since":{"epoch":"a"},"reverse":true}"#, Err(ErrorCode::BadRequest)),
    ] {
        let got = read::<TopicRequest<'_>>(body).span();
        assert_eq!(got.map_err(|error| error.code), expected, "{body}");
    }
}

#[test]
fn a_disconnect_has_a_code_of_the_application_or_none() {
    let custom =
        |code, reason: &str| Ok(Errand::Disconnect(Disconnect::Custom(code), Some(reason.into())));
    for (body, expected) in [
        ("{}", Ok(Errand::Disconnect(Disconnect::ForceNoReconnect, None))),
        (r#"{"disconnect":null}"#, Ok(Errand::Disconnect(Disconnect::ForceNoReconnect, None))),
        (r#"{"disconnect":{"code":3000}}"#, custom(3000, "")),
        (r#"{"disconnect":{"code":4999,"reason":"x"}}"#, custom(4999, "x")),
        (r#"{"disconnect":{}}"#, Err(ErrorCode::BadRequest)),
        (r#"{"disconnect":{"code":2999}}"#, Err(ErrorCode::BadRequest)),
        (r#"{"disconnect":{"code":5000}}"#, Err(ErrorCode::BadRequest)),
    ] {
        let got = read::<UserRequest<'_>>(body).disconnect();
        assert_eq!(got.map_err(|error| error.code), expected, "{body}");
    }
}

#[test]
fn a_subscription_may_hear_who_comes_and_goes() {
    for (overrides, expected) in [
        ("{}", Hears::Publications),
        (r#"{"force_push_join_leave":null}"#, Hears::Publications),
        (r#"{"force_push_join_leave":{"value":false}}"#, Hears::Publications),
        (r#"{"force_push_join_leave":{"value":true},"other":1}"#, Hears::Members),
    ] {
        let body = format!(r#"{{"channel":"a","override":{overrides}}}"#);
        match read::<UserRequest<'_>>(&body).subscribe(BOUNDS, now()) {
            Ok(Errand::Subscribe(subscription)) => assert_eq!(subscription.hears, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_subscription_may_have_a_begin_and_an_end() {
    let asked = |epoch: &str, offset| Some(Asked { epoch: epoch.into(), offset });
    for (body, expected) in [
        (r#"{"channel":"a"}"#, (None, None)),
        (r#"{"channel":"a","recover_since":null,"expire_at":0}"#, (None, None)),
        (r#"{"channel":"a","recover_since":{},"expire_at":8}"#, (asked("", 0), Some(8))),
        (r#"{"channel":"a","recover_since":{"offset":3,"epoch":"e"}}"#, (asked("e", 3), None)),
    ] {
        match read::<UserRequest<'_>>(body).subscribe(BOUNDS, now()) {
            Ok(Errand::Subscribe(ServerSubscription { recover, expires_at, .. })) => {
                assert_eq!((recover, expires_at), expected, "{body}");
            }
            other => panic!("{other:?}"),
        }
    }
    let over = read::<UserRequest<'_>>(r#"{"channel":"a","expire_at":7}"#).subscribe(BOUNDS, now());
    assert_eq!(over.map_err(|error| error.code), Err(ErrorCode::Expired));
}

#[test]
fn a_command_is_one_method_with_its_request() {
    let batch: BatchRequest<'_> = read(
        r#"{"commands":[{"publish":{"a": 1}},{"info":{},"publish":null},{},1,{"a":{},"b":{}}]}"#,
    );
    let commands: Vec<_> = batch.commands.0.into_iter().map(command).collect();
    let named = |at: usize| commands.get(at).and_then(|one| one.as_ref().ok());
    let shown = |at| named(at).map(|(name, request)| (name.to_string(), request.get().to_owned()));
    assert_eq!(shown(0), Some(("publish".to_owned(), "{\"a\": 1}".to_owned())));
    assert_eq!(shown(1), Some(("info".to_owned(), "{}".to_owned())));
    assert!((2..5).all(|at| named(at).is_none()));
}

#[test]
fn a_list_ends_while_it_is_read() {
    let list = |count: usize| format!(r#"{{"commands":[{}]}}"#, vec!["1"; count].join(","));
    assert!(decode::<BatchRequest<'_>>(&list(ITEMS_MAX)).is_ok());
    assert!(decode::<BatchRequest<'_>>(&list(ITEMS_MAX + 1)).is_err());
    // What comes behind the end is not looked at.
    let endless = list(ITEMS_MAX + 1).replace(']', ",");
    let refused = decode::<BatchRequest<'_>>(&endless).expect_err("too many");
    assert!(refused.message.contains("at most 10000 items"), "{refused}");
}

/// Reads `text` as every kind of request; nothing may panic.
fn read_all(text: &str) {
    if let Ok(mut request) = decode::<PublishRequest<'_>>(text) {
        let _ = (request.topic(BOUNDS).is_ok(), request.content(BOUNDS).is_ok());
        let _ = (request.idempotency_key().is_ok(), request.version().is_ok());
        assert!(request.topics(BOUNDS).map_or(0, Iterator::count) <= ITEMS_MAX);
    }
    if let Ok(request) = decode::<UserRequest<'_>>(text) {
        let _ = (request.whom().is_ok(), request.subscribe(BOUNDS, now()).is_ok());
        let _ = (request.disconnect().is_ok(), request.refresh().is_ok());
    }
    if let Ok(request) = decode::<TopicRequest<'_>>(text) {
        let _ = (request.topic(BOUNDS).is_ok(), request.span().is_ok());
    }
    if let Ok(request) = decode::<BatchRequest<'_>>(text) {
        request.commands.0.into_iter().for_each(|one| drop(command(one)));
    }
    let _ = decode::<ListRequest<'_>>(text).is_ok();
}

proptest! {
    #[test]
    fn any_text_is_a_request_or_refused(text in any::<String>()) {
        read_all(&text);
    }

    #[test]
    fn members_may_have_any_value(
        name in prop::sample::select(vec![
            "channel", "channels", "data", "b64data", "tags", "version", "user", "whitelist",
            "info", "override", "disconnect", "expire_at", "limit", "since", "commands", "pattern",
        ]),
        value in prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            "(\\[|\\{\"a\":){0,9}1?[\\]}]{0,9}",
        ],
    ) {
        read_all(&format!(r#"{{"{name}":{value}}}"#));
    }
}
