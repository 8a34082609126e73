//! Deflated twins of the variants that are WebSocket frames, one for each window.
//!
//! A twin is made from its base's bytes, and shares them where deflating does not pay.

use bytes::Bytes;

use super::{CENTRIFUGO_JSON, CENTRIFUGO_PROTOBUF, CENTRIFUGO_UNI_FRAMES, JSON, NATIVE, delta};
use crate::hub::{Derive, Variant, VariantId};
use crate::ws::{Deflater, Window};

/// Place of the first twin in the table: behind all that are no twins.
const FIRST: usize = delta::FIRST + delta::COUNT;

/// Variants with twins, and their names by window.
const ROWS: [(VariantId, [&str; Window::ALL.len()]); 9] = [
    (NATIVE, ["plain_deflate_15", "plain_deflate_12", "plain_deflate_9"]),
    (JSON, ["json_deflate_15", "json_deflate_12", "json_deflate_9"]),
    (
        CENTRIFUGO_JSON,
        ["centrifugo_json_deflate_15", "centrifugo_json_deflate_12", "centrifugo_json_deflate_9"],
    ),
    (
        CENTRIFUGO_PROTOBUF,
        [
            "centrifugo_protobuf_deflate_15",
            "centrifugo_protobuf_deflate_12",
            "centrifugo_protobuf_deflate_9",
        ],
    ),
    (
        CENTRIFUGO_UNI_FRAMES,
        [
            "centrifugo_uni_frames_deflate_15",
            "centrifugo_uni_frames_deflate_12",
            "centrifugo_uni_frames_deflate_9",
        ],
    ),
    (
        delta::JSON_WHOLE,
        [
            "centrifugo_json_whole_deflate_15",
            "centrifugo_json_whole_deflate_12",
            "centrifugo_json_whole_deflate_9",
        ],
    ),
    (
        delta::JSON_DELTA,
        [
            "centrifugo_json_delta_deflate_15",
            "centrifugo_json_delta_deflate_12",
            "centrifugo_json_delta_deflate_9",
        ],
    ),
    (
        delta::PROTOBUF_WHOLE,
        [
            "centrifugo_protobuf_whole_deflate_15",
            "centrifugo_protobuf_whole_deflate_12",
            "centrifugo_protobuf_whole_deflate_9",
        ],
    ),
    (
        delta::PROTOBUF_DELTA,
        [
            "centrifugo_protobuf_delta_deflate_15",
            "centrifugo_protobuf_delta_deflate_12",
            "centrifugo_protobuf_delta_deflate_9",
        ],
    ),
];

/// The twin of `base` for clients that agreed on `window`; `base` itself if it has none.
pub fn twin(base: VariantId, window: Window) -> VariantId {
    let row = ROWS.iter().position(|(its, _)| *its == base);
    let index = row.map(|row| FIRST + row * Window::ALL.len() + window as usize);
    index.and_then(|index| u8::try_from(index).ok()).map_or(base, VariantId::new)
}

/// The variant that `variant` is a twin of, or itself.
pub(super) fn base(variant: VariantId) -> VariantId {
    let row = variant.index().checked_sub(FIRST).map(|index| index / Window::ALL.len());
    row.and_then(|row| ROWS.get(row)).map_or(variant, |(base, _)| *base)
}

/// The twin of `base` for the window that `example` is a twin for; `base` if it is none.
pub(super) fn as_twin_of(example: VariantId, base: VariantId) -> VariantId {
    let column = example.index().checked_sub(FIRST).map(|index| index % Window::ALL.len());
    column.map_or(base, |column| twin(base, Window::ALL[column]))
}

/// All twins, in the order of their places. Payloads shorter than `len_min` are left as they are.
pub(super) fn twins(len_min: usize) -> impl Iterator<Item = Variant> {
    ROWS.into_iter().flat_map(move |(base, names)| {
        let windows = Window::ALL.into_iter().zip(names);
        windows.map(move |(window, name)| {
            Variant::derived(name, base, Frames(Deflater::new(window, len_min)))
        })
    })
}

/// Deflates frames.
#[derive(Debug)]
struct Frames(Deflater);

impl Derive for Frames {
    fn derive(&self, base: &[u8]) -> Option<Bytes> {
        self.0.deflate(base).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS, base, twin};
    use crate::hub::VariantId;
    use crate::protocol::{
        CENTRIFUGO_JSON, CENTRIFUGO_PROTOBUF, CENTRIFUGO_UNI_BODY, CENTRIFUGO_UNI_FRAMES, JSON,
        NATIVE, NDJSON, SSE, SSE_JSON, skipped, variants,
    };
    use crate::ws::Window;

    #[test]
    fn every_twin_has_a_place_and_a_name_of_its_own() {
        let names: Vec<_> = variants(Some(0)).encodings().map(|(name, _)| name).collect();
        let without: Vec<_> = variants(None).encodings().map(|(name, _)| name).collect();
        assert_eq!(names[..without.len()], without);
        for (variant, word) in [
            (NATIVE, "plain"),
            (JSON, "json"),
            (CENTRIFUGO_JSON, "centrifugo_json"),
            (CENTRIFUGO_PROTOBUF, "centrifugo_protobuf"),
            (CENTRIFUGO_UNI_FRAMES, "centrifugo_uni_frames"),
        ] {
            for window in Window::ALL {
                let twin = twin(variant, window);
                assert_eq!(names[twin.index()], format!("{word}_deflate_{}", window.bits()));
                assert_eq!(base(twin), variant);
            }
        }
        assert_eq!(names.len(), without.len() + ROWS.len() * Window::ALL.len());
    }

    #[test]
    fn other_variants_have_no_twin() {
        for variant in [SSE, SSE_JSON, NDJSON, CENTRIFUGO_UNI_BODY] {
            assert_eq!(twin(variant, Window::Full), variant);
        }
        for variant in [NATIVE, JSON, SSE, SSE_JSON, NDJSON, VariantId::new(200)] {
            assert_eq!(base(variant), variant);
        }
    }

    #[test]
    fn a_twin_has_the_words_of_its_base() {
        for window in Window::ALL {
            assert_eq!(skipped(twin(JSON, window), 3), skipped(JSON, 3));
            assert_eq!(skipped(twin(NATIVE, window), 3), None);
        }
    }
}
