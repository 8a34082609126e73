//! The query of a request for several topics.

use std::collections::HashSet;

use http::HeaderMap;

use super::{Format, Query, once};
use crate::auth::header::Field;
use crate::hub::{Since, Start, TopicName, decode_strict};
use crate::limits::Limits;
use crate::reason::{Refusal, Refused};

/// What stands between the positions of several topics.
const SEPARATOR: char = ',';

/// The parameters of a request for several topics.
///
/// Invariant: at least one topic, none twice; as many starts as topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsQuery {
    /// `topic`, as often as it came, in that order.
    pub topics: Vec<TopicName>,
    /// `format`.
    pub format: Format,
    /// `since`, a position for each topic, or `last`, which holds for each.
    starts: Vec<Start>,
}

impl TopicsQuery {
    /// Reads what follows the `?`.
    ///
    /// # Errors
    /// As [`Query::parse`]; `topic_name_invalid`; `query_invalid` for no topic or too many.
    pub fn parse(query: Option<&str>, limits: &Limits) -> Result<Self, Refused> {
        let parameters = query.unwrap_or_default().split('&');
        let (own, others): (Vec<_>, Vec<_>) =
            parameters.partition(|parameter| matches!(split(parameter).0, "topic" | "since"));
        let Query { format, start, .. } = Query::parse(Some(&others.join("&")))?;
        let (mut topics, mut known, mut since) = (Vec::new(), HashSet::new(), None);
        for (name, value) in own.into_iter().map(split) {
            if name == "since" {
                once(&mut since, name, decode_strict(value).and_then(|text| starts(&text)))?;
                continue;
            }
            let topic = TopicName::from_segment(value, limits.topic_name_bytes_max)
                .map_err(|fault| Refusal::TopicNameInvalid.because(fault.to_string()))?;
            if known.insert(topic.clone()) {
                topics.push(topic);
            }
            if topics.len() > limits.topics_per_session_max {
                let max = limits.topics_per_session_max;
                let message = format!("more than {max} topics (limits.topics_per_session_max)");
                return Err(Refusal::QueryInvalid.because(message));
            }
        }
        let message = match (&since, start) {
            _ if topics.is_empty() => "name the topics: /topics?topic=A&topic=B",
            (None, start) => {
                let starts = vec![start; topics.len()];
                return Ok(Self { topics, format, starts });
            }
            (Some(_), Start::Live) => {
                return match since.filter(|starts| starts.len() == topics.len()) {
                    Some(starts) => Ok(Self { topics, format, starts }),
                    None => Err(Refusal::SinceInvalid
                        .because("`since` has a position for each topic, joined by `,`")),
                };
            }
            (Some(_), _) => "`since` and `last` exclude each other",
        };
        Err(Refusal::QueryInvalid.because(message))
    }

    /// Where the stream begins in each topic: `Last-Event-ID` beats `since` and `last`.
    ///
    /// One that does not fit is a position that nobody can have, in every topic.
    pub fn starts(&self, headers: &HeaderMap) -> Vec<Start> {
        let given = match Field::of(headers, "last-event-id") {
            Field::Absent | Field::One("") => return self.starts.clone(),
            Field::One(text) => starts(text),
            Field::Faulty => None,
        };
        let count = self.topics.len();
        let fitting = given.filter(|starts| starts.len() == count);
        fitting.unwrap_or_else(|| vec![Start::Unknown; count])
    }
}

fn split(parameter: &str) -> (&str, &str) {
    parameter.split_once('=').unwrap_or((parameter, ""))
}

/// A position for each topic; none for one that had none to show.
fn starts(text: &str) -> Option<Vec<Start>> {
    let start = |place: &str| match place {
        "" => Some(Start::Live),
        position => Since::parse(position).map(Start::Since),
    };
    text.split(SEPARATOR).map(start).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{TopicsQuery, starts};
    use crate::http::query::Format;
    use crate::hub::{Epoch, Position, Since, Start, TopicName};
    use crate::limits::Limits;
    use crate::protocol::sse;
    use crate::reason::Refusal;

    const TOPICS_MAX: usize = 3;

    fn parse(query: &str) -> Result<TopicsQuery, Refusal> {
        let limits = Limits { topics_per_session_max: TOPICS_MAX, ..Limits::default() };
        TopicsQuery::parse(Some(query), &limits).map_err(|refused| refused.refusal)
    }

    fn since(offset: u64) -> Start {
        Start::Since(Since { epoch: Epoch::parse("e1"), offset })
    }

    fn at(offset: u64) -> Start {
        Start::Since(Since { epoch: None, offset })
    }

    #[test]
    fn topics_come_in_the_order_asked_and_each_with_its_start() {
        let live = Start::Live;
        for (query, topics, expected) in [
            ("topic=a", &["a"][..], vec![live]),
            ("topic=b&topic=a", &["b", "a"], vec![live, live]),
            ("topic=a&topic=b&topic=a&topic=b", &["a", "b"], vec![live, live]),
            ("topic=a%2Fb&utm=1&topic=a+b", &["a/b", "a+b"], vec![live, live]),
            ("topic=a%26topic=b", &["a&topic=b"], vec![live]),
            ("last=5&topic=a&topic=b", &["a", "b"], vec![Start::Last(5), Start::Last(5)]),
            ("since=e1:5,3&topic=a&topic=b", &["a", "b"], vec![since(5), at(3)]),
            ("topic=a&since=e1%3A5%2C0&topic=b", &["a", "b"], vec![since(5), at(0)]),
            ("topic=a&topic=b&since=,e1:5", &["a", "b"], vec![live, since(5)]),
            ("topic=a&topic=b&topic=c&since=,,", &["a", "b", "c"], vec![live, live, live]),
            ("topic=a&since=", &["a"], vec![live]),
        ] {
            let got = parse(query).expect(query);
            let names: Vec<_> = got.topics.iter().map(TopicName::as_str).collect();
            assert_eq!((names.as_slice(), got.starts), (topics, expected), "{query}");
        }
        assert_eq!(parse("topic=a&format=json").map(|query| query.format), Ok(Format::Json));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (query, expected) in [
            ("", Refusal::QueryInvalid),
            ("since=e1:5", Refusal::QueryInvalid),
            ("topic=a&topic=b&topic=c&topic=d", Refusal::QueryInvalid),
            ("topic=a&since=e1:5&since=e1:5", Refusal::QueryInvalid),
            ("topic=a&since=e1:5&last=5", Refusal::QueryInvalid),
            ("topic=a&format=xml", Refusal::QueryInvalid),
            ("topic=", Refusal::TopicNameInvalid),
            ("topic", Refusal::TopicNameInvalid),
            ("topic=a&topic=%zz", Refusal::TopicNameInvalid),
            ("topic=a&topic=*", Refusal::TopicNameInvalid),
            ("topic=a&since=e1:5,e1:5", Refusal::SinceInvalid),
            ("topic=a&topic=b&since=e1:5", Refusal::SinceInvalid),
            ("topic=a&topic=b&since=e1:5,x", Refusal::SinceInvalid),
            ("topic=a&since=%FF", Refusal::SinceInvalid),
        ] {
            assert_eq!(parse(query), Err(expected), "{query}");
        }
        let flood = vec!["topic=a"; 2_000].join("&");
        assert_eq!(parse(&flood).map(|query| query.topics.len()), Ok(1), "one topic is one");
    }

    #[test]
    fn last_event_id_beats_the_query_and_one_that_does_not_fit_recovers_nothing() {
        let unknown = || vec![Start::Unknown; 2];
        for (lines, expected) in [
            (&[][..], vec![since(1), Start::Live]),
            (&[""], vec![since(1), Start::Live]),
            (&["e1:5,e1:7"], vec![since(5), since(7)]),
            (&[",e1:7"], vec![Start::Live, since(7)]),
            (&["e1:5"], unknown()),
            (&["e1:5,e1:7,"], unknown()),
            (&["e1:5,x"], unknown()),
            (&["e1:5,e1:7", "e1:5,e1:7"], unknown()),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("last-event-id", HeaderValue::from_static(line));
            }
            let query = parse("topic=a&topic=b&since=e1:1,").expect("a good query");
            assert_eq!(query.starts(&headers), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_is_refused_or_keeps_what_is_promised(
            query in "((topic|since|last|token|x)=[a-c,:0-9%+]{0,4}&?){0,8}",
        ) {
            if let Ok(got) = parse(&query) {
                prop_assert!((1..=TOPICS_MAX).contains(&got.topics.len()));
                prop_assert_eq!(got.starts.len(), got.topics.len());
            }
        }

        #[test]
        fn the_id_of_an_event_is_where_its_reader_goes_on(
            places in prop::collection::vec(prop::option::of(("[0-9A-Za-z]{1,16}", any::<u64>())), 1..9),
        ) {
            let position = |(epoch, offset): &(String, u64)| Position {
                epoch: Epoch::parse(epoch).expect("an epoch"),
                offset: *offset,
            };
            let places: Vec<_> = places.iter().map(|place| place.as_ref().map(position)).collect();
            let mut line = Vec::new();
            sse::push_id(&mut line, &places);
            let line = String::from_utf8(line).expect("ASCII");
            let id = line.trim_end().strip_prefix("id: ").unwrap_or_default();
            let goes_on = |place: &Option<Position>| place.map_or(Start::Live, |at| {
                Start::Since(Since { epoch: Some(at.epoch), offset: at.offset })
            });
            let expected: Vec<_> = places.iter().map(goes_on).collect();
            if places.iter().any(Option::is_some) {
                prop_assert_eq!(starts(id), Some(expected));
            } else {
                prop_assert_eq!(id, "", "nothing to come back with");
            }
        }
    }
}
