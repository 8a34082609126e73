//! Charts as inline SVG. Colours are the page's: classes `run0` to `run5`, `grid`, and the text's.
//!
//! Written by hand: a chart library sets colours as attributes, which no dark mode reaches.

use std::fmt::Write as _;

use super::page::escaped;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
/// Where the data goes.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 348.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 166.0;
/// A value axis has about so many steps.
const STEPS: f64 = 4.0;

/// What one run has over time: seconds, and the value if there is one.
pub(super) type Line = Vec<(f64, Option<f64>)>;

/// Values over seconds, a line for each run, from 0 on.
pub(super) fn lines(title: &str, runs: &[Line]) -> String {
    let points = runs.iter().flatten();
    let x_max = points.clone().map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
    let y_max = points.filter_map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let (x_step, y_step) = (step(x_max), step(y_max));
    // A line may cross the top by a hair: better than an axis half empty.
    let y_top = (y_max / y_step - 0.05).ceil().max(1.0) * y_step;
    let x_at = |x: f64| LEFT + x / x_max * (RIGHT - LEFT);
    let y_at = |y: f64| BOTTOM - y / y_top * (BOTTOM - TOP);
    let mut body = String::new();
    for y in steps(y_top, y_step) {
        let at = y_at(y);
        rule(&mut body, (LEFT, at), (RIGHT, at));
        label(&mut body, (LEFT - 6.0, at + 4.0), "end", &short(y, y_step));
    }
    for x in steps(x_max, x_step) {
        label(&mut body, (x_at(x), BOTTOM + 16.0), "middle", &format!("{} s", short(x, x_step)));
    }
    for (run, line) in runs.iter().enumerate() {
        let mut path = String::new();
        let mut pen = 'M';
        for (x, y) in line {
            let Some(y) = y else {
                pen = 'M';
                continue;
            };
            write!(path, "{pen}{:.1} {:.1}", x_at(*x), y_at(*y)).expect("to a string");
            pen = 'L';
        }
        writeln!(body, r#"<path class="run{run}" d="{path}"/>"#).expect("to a string");
    }
    frame(title, &body)
}

/// One row for each name and a dot for each run, on a logarithmic axis.
pub(super) fn dots(title: &str, names: &[&str], runs: &[Vec<f64>]) -> String {
    let decades = decades(runs);
    let span = f64::from(decades.end - decades.start);
    let x_at =
        |value: f64| LEFT + (value.log10() - f64::from(decades.start)) / span * (RIGHT - LEFT);
    let row = (BOTTOM - TOP) / crate::figure::float(names.len() as u64);
    let rows = std::iter::successors(Some(TOP + row / 2.0), |y| Some(y + row));
    let mut body = String::new();
    for decade in decades.start..=decades.end {
        let value = 10_f64.powi(decade);
        rule(&mut body, (x_at(value), TOP), (x_at(value), BOTTOM));
        label(&mut body, (x_at(value), BOTTOM + 16.0), "middle", &short(value, value));
    }
    for (name, y) in names.iter().zip(rows.clone()) {
        label(&mut body, (LEFT - 8.0, y + 4.0), "end", name);
    }
    for (run, values) in runs.iter().enumerate() {
        for (value, y) in values.iter().zip(rows.clone()).filter(|(value, _)| **value > 0.0) {
            let x = x_at(*value);
            writeln!(body, r#"<circle class="run{run}" cx="{x:.1}" cy="{y:.1}" r="5"/>"#)
                .expect("to a string");
            if runs.len() == 1 {
                // On the side that has room.
                let (x, anchor) = if x > f64::midpoint(LEFT, RIGHT) {
                    (x - 9.0, "end")
                } else {
                    (x + 9.0, "start")
                };
                label(&mut body, (x, y + 4.0), anchor, &format!("{value:.3}"));
            }
        }
    }
    frame(title, &body)
}

/// The middle of some values, and how far they spread.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) name: String,
    /// The median as it is written.
    pub(crate) label: String,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// A row for each range, with its name above its line, from 0 on.
pub(crate) fn ranges(title: &str, ranges: &[Range]) -> String {
    let x_max = ranges.iter().map(|range| range.max).fold(f64::MIN_POSITIVE, f64::max);
    let x_step = step(x_max);
    let left = 8.0;
    let x_at = |value: f64| left + value.max(0.0) / x_max * (RIGHT - left);
    let row = (BOTTOM - TOP) / crate::figure::float(ranges.len().max(1) as u64);
    let mut body = String::new();
    for x in steps(x_max, x_step) {
        rule(&mut body, (x_at(x), TOP), (x_at(x), BOTTOM));
        label(&mut body, (x_at(x), BOTTOM + 16.0), "middle", &short(x, x_step));
    }
    let middles = std::iter::successors(Some(TOP + row * 0.7), |y| Some(y + row));
    for (index, (range, y)) in ranges.iter().zip(middles).enumerate() {
        let run = index % super::RUNS_MAX;
        let (x, x1, x2) = (x_at(range.median), x_at(range.min), x_at(range.max));
        let text = format!("{}  {}", escaped(&range.name), escaped(&range.label));
        label(&mut body, (left, y - 9.0), "start", &text);
        writeln!(body, r#"<path class="run{run}" d="M{x1:.1} {y:.1}L{x2:.1} {y:.1}"/>"#)
            .expect("to a string");
        writeln!(body, r#"<circle class="run{run}" cx="{x:.1}" cy="{y:.1}" r="5"/>"#)
            .expect("to a string");
    }
    frame(title, &body)
}

/// The powers of ten around all positive values.
#[expect(clippy::cast_possible_truncation, reason = "a logarithm of an f64 is small")]
fn decades(runs: &[Vec<f64>]) -> std::ops::Range<i32> {
    let values = runs.iter().flatten().copied().filter(|value| *value > 0.0);
    let low = values.clone().reduce(f64::min).unwrap_or(1.0).log10().floor() as i32;
    let high = values.reduce(f64::max).unwrap_or(1.0).log10().ceil() as i32;
    low..high.max(low + 1)
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<figure><figcaption>{title}</figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         {body}</svg></figure>\n"
    )
}

fn rule(body: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    writeln!(body, r#"<line class="grid" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#)
        .expect("to a string");
}

fn label(body: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    writeln!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#)
        .expect("to a string");
}

/// 1, 2 or 5 times a power of ten, so that `max` takes about [`STEPS`].
fn step(max: f64) -> f64 {
    let rough = max / STEPS;
    let power = 10_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0];
    let fits = factors.into_iter().find(|factor| factor * power >= rough * 0.999);
    fits.unwrap_or(10.0) * power
}

/// 0, `step`, ... up to `max`.
fn steps(max: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=20).map(move |index| f64::from(index) * step).take_while(move |at| *at <= max * 1.001)
}

/// `value` with the digits that tell it from its neighbours, one `step` away.
fn short(value: f64, step: f64) -> String {
    let (unit, suffix) = match step {
        step if step >= 5e5 => (1e6, "M"),
        step if step >= 5e2 => (1e3, "k"),
        _ => (1.0, ""),
    };
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = [1.0, 0.1, 0.01, 0.001].iter().position(|digit| step / unit >= digit * 0.999);
    format!("{:.*}{suffix}", digits.unwrap_or(4), value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps() {
        for (max, expected) in [(4.0, 1.0), (7.3, 2.0), (230_000.0, 100_000.0), (0.9, 0.5)] {
            assert!((step(max) - expected).abs() < 1e-9, "{max}: {}", step(max));
        }
        let texts: Vec<String> = steps(0.4, 0.1).map(|at| short(at, 0.1)).collect();
        assert_eq!(texts, ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(short(1_500_000.0, 500_000.0), "1.5M");
        assert_eq!(short(100_000.0, 50_000.0), "100k");
        assert_eq!(short(0.01, 0.01), "0.01");
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let svg = lines("t", &[vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(1.0))]]);
        assert!(svg.contains(r#"d="M46.0 10.0M348.0 10.0""#), "{svg}");
    }

    #[test]
    fn nothing_still_makes_a_chart() {
        for svg in [lines("t", &[]), lines("t", &[Vec::new()]), dots("t", &["a"], &[vec![0.0]])] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
