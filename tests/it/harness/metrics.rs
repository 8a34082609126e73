//! The text format of Prometheus, read back.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: String,
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(Sample::parse).collect();
        Self { samples }
    }

    /// Sum of the series of `name` that have all of `labels`; 0 if there is none.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(has).map(Sample::whole).sum()
    }

    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let names = self.samples.iter().map(|sample| sample.name.as_str());
        names.collect()
    }

    pub(crate) fn series_count(&self) -> usize {
        self.samples.len()
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",");
        let labels = labels.filter_map(|label| label.split_once("=\""));
        Self {
            name: name.to_owned(),
            labels: labels
                .map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()))
                .collect(),
            value: value.to_owned(),
        }
    }

    fn whole(&self) -> u64 {
        let whole = self.value.split('.').next().unwrap_or_default();
        whole.parse().unwrap_or_else(|_| panic!("not a count: {self:?}"))
    }
}

#[test]
fn series_are_summed_over_the_labels_not_asked() {
    let text = "# HELP a b\na{code=\"1002\",reason=\"protocol\"} 2\na{code=\"1000\"} 3\nb 4.5\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.get("a", &[]), 5);
    assert_eq!(metrics.get("a", &[("code", "1002")]), 2);
    assert_eq!(metrics.get("a", &[("code", "1002"), ("reason", "x")]), 0);
    assert_eq!(metrics.get("b", &[]), 4);
    assert_eq!(metrics.series_count(), 3);
}
