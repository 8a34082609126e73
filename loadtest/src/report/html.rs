//! The page: one file that needs nothing else, with charts, figures, and the records themselves.
//!
//! It is made from the records as JSON, so it cannot say anything else than they do.

use serde_json::Value;

use super::{
    page::{cells, escaped, frame, grid, wide},
    sheet::{Named, rows},
    svg::{self, Line},
};

/// As many as the page has colours.
pub(crate) const RUNS_MAX: usize = 6;

/// Charts over time: title, member of a sample, factor.
const SERIES: [(&str, &str, f64); 5] = [
    ("Deliveries per second", "deliveries_per_second", 1.0),
    ("Latency p99 of each interval, ms", "p99_ms", 1.0),
    ("Connections", "connections", 1.0),
    ("Server CPU, % of a core", "server_busy", 100.0),
    ("Server memory (RSS), MiB", "server_rss_bytes", 1.0 / 1_048_576.0),
];
/// Names and members of the percentiles.
const PERCENTILES: [(&str, &str); 5] =
    [("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max")];
/// What a single run shows first.
const HEADLINES: [&str; 4] =
    ["deliveries/s, wall", "latency p99, ms", "deliveries/server-CPU s", "server RSS, MiB"];

/// The page of one run, or of several side by side.
pub(crate) fn page(runs: &[Named]) -> String {
    let title = match runs {
        [run] => format!("Load test: {}", run.text("/shape")),
        _ => format!("Load test: {} runs", runs.len()),
    };
    let body = [
        runs.iter().enumerate().map(|(index, run)| about(index, run)).collect::<String>(),
        if runs.len() == 1 { tiles(runs) } else { String::new() },
        charts(runs),
        figures(runs),
        runs.iter().map(samples).collect(),
    ];
    let records: Value = runs.iter().map(|run| run.record.clone()).collect();
    frame(&title, &body.concat(), &records)
}

/// What was run where, and what to know before quoting it.
fn about(index: usize, run: &Named) -> String {
    let mut text = format!("<div class=\"run run{index}\">\n");
    let mut line = |class: &str, inner: &str| {
        text += &["<p class=\"", class, "\">", inner, "</p>\n"].concat();
    };
    if !run.name.is_empty() {
        line(
            "",
            &format!("<strong>{}</strong>: {}", escaped(&run.name), escaped(run.text("/shape"))),
        );
    }
    // A line breaks between arguments, not after their dashes.
    let words =
        run.text("/command").split(' ').map(|word| format!("<span>{}</span>", escaped(word)));
    line("", &format!("<code>{}</code>", words.collect::<Vec<_>>().join(" ")));
    line("dim", &escaped(run.text("/machine")));
    match run.record.get("faults").and_then(Value::as_object) {
        Some(faults) if faults.values().all(|count| *count == 0) => {
            line("good", "No faults");
        }
        Some(faults) => {
            let counts = faults.iter().filter(|(_, count)| **count != 0);
            let counts: Vec<String> = counts.map(|(name, n)| format!("{n} {name}")).collect();
            line("bad", &format!("Faults: {}", escaped(&counts.join(", "))));
        }
        None => {}
    }
    for checked in run.record.get("slo").and_then(Value::as_array).into_iter().flatten() {
        let (class, word) = match checked["kept"].as_bool() {
            Some(true) => ("good", "kept"),
            _ => ("bad", "broken"),
        };
        let says = checked["says"].as_str().unwrap_or_default();
        line(class, &format!("Objective {word}: {}", escaped(says)));
    }
    for note in run.texts("/notes").chain(run.texts("/fault_samples")) {
        line("dim", &escaped(note));
    }
    text + "</div>\n"
}

fn tiles(runs: &[Named]) -> String {
    let rows = rows(runs);
    let tile = |name: &&str| {
        let row = rows.iter().find(|row| row.label == *name)?;
        Some(format!("<div><b>{}</b><span>{}</span></div>\n", row.cells[0], escaped(&row.label)))
    };
    let tiles: String = HEADLINES.iter().filter_map(tile).collect();
    grid("tiles", &tiles)
}

fn charts(runs: &[Named]) -> String {
    let over_time: String = SERIES.iter().map(|chart| over_time(chart, runs)).collect();
    grid("charts", &(percentiles(runs) + &over_time))
}

fn percentiles(runs: &[Named]) -> String {
    let names = PERCENTILES.map(|(name, _)| name);
    let of = |run: &Named| -> Vec<f64> {
        let value = |(_, member)| run.number(&format!("/latency_ms/{member}")).unwrap_or(0.0);
        PERCENTILES.map(value).to_vec()
    };
    let values: Vec<Vec<f64>> = runs.iter().map(of).collect();
    let any = values.iter().flatten().any(|value| *value > 0.0);
    if any { svg::dots("Latency, ms (logarithmic)", &names, &values) } else { String::new() }
}

fn over_time((title, member, factor): &(&str, &str, f64), runs: &[Named]) -> String {
    let line = |run: &Named| -> Line {
        let point = |sample: &Value| {
            let value = sample[member].as_f64().map(|value| value * factor);
            Some((sample["seconds"].as_f64()?, value))
        };
        series(run).iter().filter_map(point).collect()
    };
    let lines: Vec<Line> = runs.iter().map(line).collect();
    let mut values = lines.iter().flatten().filter_map(|(_, value)| *value);
    let first = values.next();
    // Connections that stay are no news.
    let any = first.is_some_and(|first| {
        *member != "connections" || { values.any(|value| (value - first).abs() >= 1.0) }
    });
    if any { svg::lines(title, &lines) } else { String::new() }
}

fn series(run: &Named) -> &[Value] {
    run.record.get("series").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn figures(runs: &[Named]) -> String {
    let caption = if runs.len() > 1 {
        "<p class=\"dim\">In brackets: the ratio to the first.</p>\n"
    } else {
        ""
    };
    let head = if runs.len() > 1 {
        let names = runs.iter().map(|run| escaped(&run.name));
        cells("th", std::iter::once(String::new()).chain(names))
    } else {
        String::new()
    };
    let body = rows(runs).into_iter().map(|row| {
        let texts = row.cells.into_iter().map(|text| escaped(&text));
        cells("td", std::iter::once(escaped(&row.label)).chain(texts))
    });
    let body: String = body.collect();
    format!("<h2>Figures</h2>\n{caption}{}", wide(&(head + &body)))
}

/// The numbers behind the charts.
fn samples(run: &Named) -> String {
    let head = ["s", "deliveries/s", "p99, ms", "connections", "server CPU, %", "server RSS, MiB"];
    let row = |sample: &Value| {
        let cell = |(member, factor, digits): (&str, f64, usize)| match sample[member].as_f64() {
            Some(value) => format!("{:.digits$}", value * factor),
            None => "-".to_owned(),
        };
        let digits = [0, 3, 0, 1, 1];
        let texts = SERIES
            .iter()
            .zip(digits)
            .map(|((_, member, factor), digits)| cell((member, *factor, digits)));
        cells("td", std::iter::once(cell(("seconds", 1.0, 2))).chain(texts))
    };
    let body: String = series(run).iter().map(row).collect();
    if body.is_empty() {
        return body;
    }
    let head = cells("th", head.map(str::to_owned).into_iter());
    format!(
        "<details><summary>Over time {}</summary>\n{}</details>\n",
        escaped(&run.name),
        wide(&(head + &body))
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(name: &str, rate: u64) -> Named {
        let record = json!({
            "command": "fanwire-loadtest fanout --url '</script><b>'",
            "machine": "2 x \"processor\"",
            "shape": "1 x 1",
            "deliveries_per_second": rate,
            "latency_ms": {"p50": 0.5, "p90": 1.25, "p99": 4.125, "p999": 20.5, "max": 31.75},
            "server": {"rss_bytes": 3_145_728, "busy": 0.875},
            "faults": {"lost": 2, "closed": 0},
            "slo": [{"objective": "p99", "kept": false, "says": "p99: 4.125 ms, wanted less"}],
            "notes": ["a note & more"],
            "series": [
                {"seconds": 0.25, "deliveries_per_second": 1111.0, "p99_ms": null, "connections": 7,
                 "server_busy": 0.5, "server_rss_bytes": 2_097_152},
                {"seconds": 0.5, "deliveries_per_second": 2222.0, "p99_ms": 3.5, "connections": 8,
                 "server_busy": 0.75, "server_rss_bytes": 3_145_728},
            ],
        });
        Named { name: name.to_owned(), record }
    }

    #[test]
    fn the_page_says_what_the_record_says() {
        let page = page(&[run("", 123_456)]);
        for (label, value) in [
            ("deliveries/s, wall", "123,456"),
            ("latency p50, ms", "0.500"),
            ("latency p90, ms", "1.250"),
            ("latency p99, ms", "4.125"),
            ("latency p99.9, ms", "20.500"),
            ("latency max, ms", "31.750"),
            ("server RSS, MiB", "3.0"),
            ("server busy, % of a core", "87.5"),
            ("lost", "2"),
        ] {
            let row = format!("<tr><td>{label}</td><td>{value}</td></tr>");
            assert!(page.contains(&row), "{row}: {page}");
        }
        for sample in [
            ["0.25", "1111", "-", "7", "50.0", "2.0"],
            ["0.50", "2222", "3.500", "8", "75.0", "3.0"],
        ] {
            let row = cells("td", sample.map(str::to_owned).into_iter());
            assert!(page.contains(&row), "{row}: {page}");
        }
        assert!(page.contains("Faults: 2 lost") && page.contains("Objective broken: p99: 4.125"));
        assert!(page.contains("a note &amp; more"));
        assert_eq!(page.matches("<svg").count(), 6);
    }

    #[test]
    fn the_page_holds_the_record_itself_and_nothing_of_it_is_markup() {
        let (first, second) = (run("one", 1), run("<two>", 2));
        let page = page(&[first.clone(), second.clone()]);
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(!page.contains("<b>'") && !page.contains("<two>"));
        let (_, rest) = page.split_once("id=\"records\">").expect("the records");
        let (records, _) = rest.split_once("</script>").expect("their end");
        let records: Value = serde_json::from_str(records).expect("JSON");
        assert_eq!(records, json!([first.record, second.record]));
        assert!(page.contains("<td>2 (2.00)</td>"), "{page}");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&[run("", 1)]);
        for reference in ["src=", "href=", "url(", "@import", "http://", "https://"] {
            assert!(!page.contains(reference), "{reference}");
        }
    }
}
