//! Variants for subscribers that take deltas: the first publication whole, then what changed.
//!
//! A publication is made a delta once, against the one before it, for all who have that one. Who
//! has just come gets its first publications in the same format, but whole.

use bytes::Bytes;

use super::centrifugo::{self, Wire};
use super::deflate;
use crate::hub::{Publication, TopicName, Variant, VariantId};

/// Place of the first of them in the table.
pub(super) const FIRST: usize = super::CENTRIFUGO_UNI_EVENTS.index() + 1;

/// Wires whose clients can ask for deltas.
const WIRES: [Wire; 5] =
    [Wire::JsonFrames, Wire::ProtobufFrames, Wire::JsonBody, Wire::ProtobufBody, Wire::Events];

/// How many there are.
pub(super) const COUNT: usize = 2 * WIRES.len();

/// Those of WebSocket frames.
pub(super) const JSON_WHOLE: VariantId = at(0);
pub(super) const JSON_DELTA: VariantId = at(1);
pub(super) const PROTOBUF_WHOLE: VariantId = at(2);
pub(super) const PROTOBUF_DELTA: VariantId = at(3);

/// What those who have just come get on `wire`; the whole where there are no deltas.
pub fn opening(wire: Wire) -> VariantId {
    let place = WIRES.iter().position(|one| *one == wire);
    place.map_or(wire.variant(), |place| at(2 * place))
}

/// What comes for a subscriber that was served in `variant`: deltas after whole publications in
/// their format, and otherwise the same.
pub fn following(variant: VariantId) -> VariantId {
    let base = deflate::base(variant);
    match base.index().checked_sub(FIRST) {
        Some(offset) if offset < COUNT && offset % 2 == 0 => {
            deflate::as_twin_of(variant, at(offset + 1))
        }
        _ => variant,
    }
}

/// Whether subscribers in `variant` get deltas, now or later.
pub fn is_of_deltas(variant: VariantId) -> bool {
    (FIRST..FIRST + COUNT).contains(&deflate::base(variant).index())
}

/// All of them, in the order of their places.
pub(super) fn variants() -> [Variant; COUNT] {
    [
        Variant::new("centrifugo_json_whole", |it, at| whole(Wire::JsonFrames, it, at)),
        Variant::new("centrifugo_json_delta", |it, at| changed(Wire::JsonFrames, it, at)),
        Variant::new("centrifugo_protobuf_whole", |it, at| whole(Wire::ProtobufFrames, it, at)),
        Variant::new("centrifugo_protobuf_delta", |it, at| changed(Wire::ProtobufFrames, it, at)),
        Variant::new("centrifugo_json_body_whole", |it, at| whole(Wire::JsonBody, it, at)),
        Variant::new("centrifugo_json_body_delta", |it, at| changed(Wire::JsonBody, it, at)),
        Variant::new("centrifugo_protobuf_body_whole", |it, at| whole(Wire::ProtobufBody, it, at)),
        Variant::new("centrifugo_protobuf_body_delta", |it, at| {
            changed(Wire::ProtobufBody, it, at)
        }),
        Variant::new("centrifugo_events_whole", |it, at| whole(Wire::Events, it, at)),
        Variant::new("centrifugo_events_delta", |it, at| changed(Wire::Events, it, at)),
    ]
}

fn whole(wire: Wire, it: &Publication, topic: &TopicName) -> Bytes {
    centrifugo::delta(wire, it, None, topic)
}

fn changed(wire: Wire, it: &Publication, topic: &TopicName) -> Bytes {
    centrifugo::delta(wire, it, it.before(), topic)
}

#[expect(clippy::cast_possible_truncation, reason = "it is looked at first")]
const fn at(offset: usize) -> VariantId {
    assert!(FIRST + offset <= u8::MAX as usize, "the table is short");
    VariantId::new((FIRST + offset) as u8)
}

#[cfg(test)]
mod tests {
    use super::{WIRES, following, is_of_deltas, opening};
    use crate::protocol::centrifugo::Wire;
    use crate::protocol::{NATIVE, deflate, variants};
    use crate::ws::Window;

    #[test]
    fn every_wire_has_a_whole_and_a_delta_variant() {
        let names: Vec<_> = variants(Some(0)).encodings().map(|(name, _)| name).collect();
        for wire in WIRES {
            let base = names[wire.variant().index()];
            let first = opening(wire);
            assert_eq!(names[first.index()], format!("{base}_whole"));
            assert_eq!(names[following(first).index()], format!("{base}_delta"));
            assert_eq!(following(following(first)), following(first));
            assert_eq!(following(wire.variant()), wire.variant());
            assert!(is_of_deltas(first) && is_of_deltas(following(first)));
            assert!(!is_of_deltas(wire.variant()));
        }
        assert!(!is_of_deltas(NATIVE));
        for wire in Wire::ALL.into_iter().filter(|wire| wire.is_unidirectional()) {
            assert_eq!(opening(wire), wire.variant());
        }
    }

    #[test]
    fn a_compressed_client_stays_compressed() {
        let names: Vec<_> = variants(Some(0)).encodings().map(|(name, _)| name).collect();
        for wire in [Wire::JsonFrames, Wire::ProtobufFrames] {
            for window in Window::ALL {
                let base = names[wire.variant().index()];
                let first = deflate::twin(opening(wire), window);
                let bits = window.bits();
                assert_eq!(names[first.index()], format!("{base}_whole_deflate_{bits}"));
                let next = following(first);
                assert_eq!(names[next.index()], format!("{base}_delta_deflate_{bits}"));
                assert!(is_of_deltas(first) && is_of_deltas(next));
            }
        }
    }
}
