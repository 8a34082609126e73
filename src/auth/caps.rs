//! The capabilities of a token: which rights on which topics.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::identity::{Right, Rights};
use crate::hub::TOPIC_NAME_LEN_MAX;
use crate::limits::covers;

/// Patterns that one token may have: each check of a right looks at all of them.
pub const PATTERNS_COUNT_MAX: usize = 256;

/// What a token allows; what none of its entries covers is denied.
///
/// Invariant: [`PATTERNS_COUNT_MAX`] entries at most, no pattern longer than the longest name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps(Box<[(Box<str>, Rights)]>);

/// `{"topics": ["chat:*"], "allow": ["subscribe"]}`. A key that we do not know could narrow the
/// entry, so it is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    topics: Vec<Box<str>>,
    allow: Vec<String>,
}

impl Caps {
    /// The rights on the topic called `name`. Linear in the patterns.
    pub fn rights(&self, name: &str) -> Rights {
        let hits = self.0.iter().filter(|(pattern, _)| covers(pattern, name));
        hits.fold(Rights::NONE, |rights, (_, more)| rights.and(*more))
    }

    /// Bytes on the heap.
    pub(super) fn held_len(&self) -> usize {
        let patterns = self.0.iter().map(|(pattern, _)| pattern.len());
        patterns.fold(size_of_val(&*self.0), usize::saturating_add)
    }
}

impl<'de> Deserialize<'de> for Caps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut caps = Vec::new();
        for entry in Vec::<Entry>::deserialize(deserializer)? {
            // A word that we do not know allows nothing.
            let rights: Rights =
                entry.allow.iter().filter_map(|word| Right::of_word(word)).collect();
            caps.extend(entry.topics.into_iter().map(|pattern| (pattern, rights)));
        }
        if caps.len() > PATTERNS_COUNT_MAX {
            return Err(D::Error::custom("too many patterns"));
        }
        if caps.iter().any(|(pattern, _)| pattern.len() > TOPIC_NAME_LEN_MAX) {
            return Err(D::Error::custom("a pattern is longer than the longest name"));
        }
        Ok(Self(caps.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Caps, PATTERNS_COUNT_MAX};
    use crate::auth::Right::{History, Publish, Subscribe};
    use crate::auth::Rights;

    fn caps(json: &str) -> Result<Caps, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_topic_gets_the_rights_of_all_entries_that_cover_it() {
        let caps = caps(
            r#"[{"topics":["chat:*","news"],"allow":["subscribe","history"]},
                {"topics":["chat:lobby"],"allow":["publish"]},
                {"topics":["*:secret","x"],"allow":[]},
                {"topics":["y"],"allow":["everything","PUBLISH",""]}]"#,
        )
        .expect("good caps");
        for (name, expected) in [
            ("chat:1", &[Subscribe, History][..]),
            ("chat:lobby", &[Subscribe, History, Publish]),
            ("chat:secret", &[Subscribe, History]),
            ("news", &[Subscribe, History]),
            ("news:1", &[]),
            ("xnews", &[]),
            ("chat", &[]),
            ("CHAT:1", &[]),
            ("x", &[]),
            ("y", &[]),
            ("", &[]),
        ] {
            let expected: Rights = expected.iter().copied().collect();
            assert_eq!(caps.rights(name), expected, "{name}");
        }
        assert_eq!(Caps(Box::default()).rights("a"), Rights::NONE);
    }

    #[test]
    fn caps_that_are_not_understood_are_an_error() {
        for json in [
            "null",
            "{}",
            "\"*\"",
            "[1]",
            "[[]]",
            r#"[{"topics":["*"]}]"#,
            r#"[{"allow":["publish"]}]"#,
            r#"[{"topics":"*","allow":["publish"]}]"#,
            r#"[{"topics":["*"],"allow":"publish"}]"#,
            r#"[{"topics":[1],"allow":["publish"]}]"#,
            r#"[{"topics":["*"],"allow":["publish"],"except":["a"]}]"#,
            r#"[{"channels":["*"],"allow":["sub"]}]"#,
            r#"[{"topics":["a"],"topics":["*"],"allow":["publish"]}]"#,
        ] {
            assert!(caps(json).is_err(), "{json}");
        }
    }

    #[test]
    fn caps_are_bounded() {
        let of = |count: usize, len: usize| {
            let patterns = vec![format!("\"{}\"", "a".repeat(len)); count].join(",");
            caps(&format!(r#"[{{"topics":[{patterns}],"allow":["publish"]}}]"#))
        };
        let largest = of(PATTERNS_COUNT_MAX, 255).expect("it is within bounds");
        assert!(largest.held_len() >= PATTERNS_COUNT_MAX * 255);
        assert!(of(PATTERNS_COUNT_MAX + 1, 1).is_err());
        assert!(of(1, 256).is_err());
    }

    /// The plain meaning of a pattern, slowly.
    fn covers_slowly(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => {
                covers_slowly(rest, name)
                    || name.split_first().is_some_and(|(_, others)| covers_slowly(pattern, others))
            }
            Some((letter, rest)) => name
                .split_first()
                .is_some_and(|(first, others)| first == letter && covers_slowly(rest, others)),
        }
    }

    proptest! {
        #[test]
        fn any_text_is_caps_or_an_error(text in any::<String>(), name in any::<String>()) {
            let _ = caps(&text);
            let json = serde_json::json!([{ "topics": [text], "allow": ["publish"] }]);
            if let Ok(caps) = caps(&json.to_string()) {
                let _ = caps.rights(&name);
            }
        }

        #[test]
        fn a_pattern_covers_what_it_plainly_means(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            let json = serde_json::json!([{ "topics": [pattern], "allow": ["publish"] }]);
            let caps = caps(&json.to_string()).expect("good caps");
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = covers_slowly(&letters(&pattern), &letters(&name));
            prop_assert_eq!(caps.rights(&name).has(Publish), expected);
        }
    }
}
