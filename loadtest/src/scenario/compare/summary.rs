//! What the rounds say together: of each figure the median and range, and those of its ratio to
//! the baseline of the same round. A shared machine changes its mind between rounds.

use serde::Serialize;
use serde_json::Value;

use super::{Run, case::Case};
use crate::{figure::median, report::figures};

/// The middle of some values, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(values.to_vec()), min, max })
    }
}

/// A figure of one server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    pub(crate) server: String,
    /// By round; none of a run that failed or did not measure it.
    pub(crate) rounds: Vec<Option<f64>>,
    pub(crate) value: Option<Spread>,
    /// To the baseline of the same rounds; none of the baseline itself.
    pub(crate) ratio: Option<Spread>,
}

/// A figure of all servers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) label: String,
    /// Where a run's record has it.
    pub(crate) pointer: String,
    #[serde(skip)]
    pub(crate) show: fn(f64) -> String,
    pub(crate) cells: Vec<Cell>,
}

/// All figures of one case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) case: String,
    pub(crate) title: String,
    pub(crate) baseline: String,
    pub(crate) figures: Vec<Figure>,
}

impl Summary {
    /// Of what `runs` measured of `case` in `rounds` rounds.
    pub(super) fn of(case: &Case, servers: &[&str], rounds: u32, runs: &[Run]) -> Self {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.case == case.name).collect();
        let records: Vec<&Value> = runs.iter().filter_map(|run| run.record.as_ref()).collect();
        let baseline = case.baseline.of(servers);
        let figure = |(pointer, label, show): (String, String, fn(f64) -> String)| {
            let of = |server: &str| -> Vec<Option<f64>> {
                let value = |round| {
                    let of = |run: &&&Run| run.server == server && run.round == round;
                    runs.iter().find(of)?.record.as_ref()?.pointer(&pointer)?.as_f64()
                };
                (0..rounds).map(value).collect()
            };
            let base = of(baseline);
            let cells = servers.iter().map(|server| {
                let mut cell = cell(server, of(server), &base);
                cell.ratio = cell.ratio.filter(|_| *server != baseline);
                cell
            });
            Figure { cells: cells.collect(), label, pointer, show }
        };
        Self {
            case: case.name.clone(),
            title: case.title.clone(),
            baseline: baseline.to_owned(),
            figures: figures(&records).into_iter().map(figure).collect(),
        }
    }

    /// The figure that records have at `pointer`, if any has.
    pub(crate) fn figure(&self, pointer: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.pointer == pointer)
    }
}

fn cell(server: &str, rounds: Vec<Option<f64>>, base: &[Option<f64>]) -> Cell {
    let values: Vec<f64> = rounds.iter().copied().flatten().collect();
    let (value, ratio) = (Spread::of(&values), ratio(&rounds, base));
    Cell { server: server.to_owned(), value, ratio, rounds }
}

/// The ratios of values to those of the same rounds.
pub(super) fn ratio(rounds: &[Option<f64>], base: &[Option<f64>]) -> Option<Spread> {
    let ratios: Vec<f64> = rounds
        .iter()
        .zip(base)
        .filter_map(|(value, base)| Some(((*value)?, (*base).filter(|base| *base > 0.0)?)))
        .map(|(value, base)| value / base)
        .collect();
    Spread::of(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as fast in round 1; the server always took half of the base.
        let base = [Some(100.0), Some(200.0), Some(100.0)];
        let half = cell("ours", vec![Some(50.0), Some(100.0), Some(50.0)], &base);
        assert_eq!(half.value, Some(Spread { median: 50.0, min: 50.0, max: 100.0 }));
        assert_eq!(half.ratio, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
        // A round in which either failed has no ratio.
        let failed = cell("ours", vec![Some(50.0), None, Some(60.0)], &base);
        assert_eq!(failed.ratio, Some(Spread { median: 0.55, min: 0.5, max: 0.6 }));
        let nothing = cell("ours", vec![None, None, Some(1.0)], &[None, None, None]);
        assert_eq!((nothing.ratio, nothing.value.map(|value| value.median)), (None, Some(1.0)));
    }
}
