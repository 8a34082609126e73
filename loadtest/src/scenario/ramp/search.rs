//! Which rate to try next, and what several tries of one say: no clock, no connections.

/// A search ends when the highest rate that passed and the lowest that failed are so close.
const PRECISION_PERCENT: u64 = 4;
/// How the first search looks for the limit from far away, in percent of the rate before.
const STRIDE_PERCENT: u64 = 400;
/// How the others look for it where the first found it.
const STEP_PERCENT: u64 = 116;
/// One hiccup of the machine is not the server's limit: so many steps decide.
const MAJORITY: usize = 2;
/// Failed steps in which others took the cores do not count, but no more of them than this.
const EXCUSED_MAX: usize = 2;
/// Searches agree that find their middle, give or take this.
const AGREED_PERCENT: u64 = 5;
/// Searches, at most, for each that was asked for.
const SEARCHES_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
}

/// How one step at a rate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// With so much room that another step would pass, too.
    Clear,
    Passed,
    Failed,
    /// While other processes had the server's or the tester's core.
    Disturbed,
}

/// What the steps at one rate say.
#[derive(Debug, Default)]
pub(super) struct Vote {
    passed: usize,
    failed: usize,
    excused: usize,
}

impl Vote {
    /// Takes note of one more step; `None` = another one is needed.
    pub(super) fn add(&mut self, step: Try) -> Option<Outcome> {
        match step {
            Try::Clear => return Some(Outcome::Passed),
            Try::Passed => self.passed += 1,
            Try::Disturbed if self.excused < EXCUSED_MAX => self.excused += 1,
            Try::Failed | Try::Disturbed => self.failed += 1,
        }
        if self.passed >= MAJORITY {
            Some(Outcome::Passed)
        } else {
            (self.failed >= MAJORITY).then_some(Outcome::Failed)
        }
    }
}

/// Strides until one rate passed and another failed, then bisection.
#[derive(Debug)]
pub(super) struct Search {
    start: u64,
    rate_max: u64,
    stride_percent: u64,
    /// The highest.
    pub(super) passed: Option<u64>,
    /// The lowest.
    pub(super) failed: Option<u64>,
}

impl Search {
    /// From `start`, which may be far from the limit.
    pub(super) fn new(start: u64, rate_max: u64) -> Self {
        let start = start.min(rate_max);
        Self { start, rate_max, stride_percent: STRIDE_PERCENT, passed: None, failed: None }
    }

    /// Around `rate`, knowing nothing of it but that another search ended there.
    pub(super) fn around(rate: u64, rate_max: u64) -> Self {
        Self { stride_percent: STEP_PERCENT, ..Self::new(rate, rate_max) }
    }

    /// The rate to try next; `None` when the limit is known.
    pub(super) fn next(&self) -> Option<u64> {
        let stride = self.stride_percent;
        match (self.passed, self.failed) {
            (None, None) => Some(self.start),
            (Some(passed), None) => (passed < self.rate_max)
                .then(|| (passed * stride / 100).max(passed + 1).min(self.rate_max)),
            (None, Some(failed)) => (failed > 1).then(|| (failed * 100 / stride).max(1)),
            (Some(passed), Some(failed)) => {
                let near = (passed * PRECISION_PERCENT / 100).max(1);
                (failed - passed > near).then(|| u64::midpoint(passed, failed))
            }
        }
    }

    pub(super) fn note(&mut self, rate: u64, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passed = self.passed.max(Some(rate)),
            Outcome::Failed => {
                self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
            }
        }
    }
}

/// Whether `wanted` searches or more have found enough: they agree, or it is no use.
pub(super) fn is_settled(rates: &[u64], wanted: usize) -> bool {
    rates.len() >= wanted && (is_agreed(rates) || rates.len() >= wanted * SEARCHES_MAX)
}

/// Whether most searches agree, and the last of them, too: otherwise the limit has moved.
pub(super) fn is_agreed(rates: &[u64]) -> bool {
    let Some((middle, last)) = middle(rates).zip(rates.last()) else { return false };
    let is_near = |rate: &&u64| rate.abs_diff(middle) * 100 <= middle * AGREED_PERCENT;
    is_near(&last) && rates.iter().filter(is_near).count() * 2 > rates.len()
}

/// The middle of what several searches found, the lower one of two.
pub(super) fn middle(rates: &[u64]) -> Option<u64> {
    let mut sorted = rates.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate found and the steps it took, of a server that can do `capacity`.
    fn found(mut search: Search, capacity: u64) -> (Option<u64>, usize) {
        let mut count = 0;
        while let Some(rate) = search.next() {
            search.note(rate, if rate <= capacity { Outcome::Passed } else { Outcome::Failed });
            count += 1;
            assert!(count < 60, "the search ends");
        }
        (search.passed, count)
    }

    #[test]
    fn the_limit_is_found_within_the_precision_from_below() {
        for capacity in [1, 2, 3, 99, 100, 101, 777, 12_345, 999_999] {
            for start in [100, 1_000, capacity] {
                let (rate, count) = found(Search::new(start, 1_000_000), capacity);
                let rate = rate.expect("one passes");
                assert!(
                    rate <= capacity && capacity - rate <= (rate / 25).max(1),
                    "{capacity}: {rate}"
                );
                assert!(count <= 24, "{capacity}: {count} steps");
            }
            let (rate, count) = found(Search::around(capacity, 1_000_000), capacity);
            assert_eq!(rate, Some(capacity));
            assert!(count <= 5, "{capacity}: {count} steps");
        }
    }

    #[test]
    fn the_search_keeps_to_its_bounds() {
        assert_eq!(found(Search::new(100, 1_000), u64::MAX).0, Some(1_000));
        assert_eq!(found(Search::new(5_000, 1_000), u64::MAX), (Some(1_000), 1));
        assert_eq!(found(Search::new(100, 1_000), 0).0, None);
        assert_eq!(found(Search::around(10, 1_000), 0).0, None);
    }

    #[test]
    fn two_steps_of_three_decide_and_others_are_no_excuse_for_ever() {
        let vote = |steps: &[Try]| {
            let mut vote = Vote::default();
            steps.iter().map(|step| vote.add(*step)).collect::<Vec<_>>()
        };
        let (passed, failed) = (Some(Outcome::Passed), Some(Outcome::Failed));
        assert_eq!(vote(&[Try::Clear]), [passed]);
        assert_eq!(vote(&[Try::Passed, Try::Passed]), [None, passed]);
        assert_eq!(vote(&[Try::Failed, Try::Passed, Try::Passed]), [None, None, passed]);
        assert_eq!(vote(&[Try::Passed, Try::Failed, Try::Failed]), [None, None, failed]);
        assert_eq!(vote(&[Try::Disturbed; 4]), [None, None, None, failed]);
        assert_eq!(vote(&[Try::Failed, Try::Clear]), [None, passed]);
    }

    #[test]
    fn searches_go_on_until_most_agree_but_not_for_ever() {
        assert!(!is_settled(&[], 1) && is_settled(&[7], 1));
        assert!(!is_settled(&[100, 100], 3) && is_settled(&[100, 100, 100], 3));
        assert!(is_settled(&[80, 100, 105], 3), "two of three");
        assert!(!is_settled(&[100, 105, 80], 3), "but the limit has moved");
        assert!(is_settled(&[100, 105, 80, 80, 81], 3));
        assert!(!is_settled(&[90, 100, 110], 3));
        assert!(!is_settled(&[90, 100, 110, 100], 3), "half of them is not most");
        assert!(is_settled(&[90, 100, 110, 100, 98], 3));
        let apart = [10, 20, 30, 40, 50, 60, 70, 80, 90];
        assert!(!is_settled(&apart[..8], 3) && is_settled(&apart, 3));
    }

    #[test]
    fn the_middle_is_one_of_them() {
        assert_eq!(middle(&[3, 1, 2]), Some(2));
        assert_eq!(middle(&[4, 1, 2, 3]), Some(2));
        assert_eq!(middle(&[]), None);
    }

    /// One ramp over a server whose capacity wavers by up to 10 % from step to step, and of whose
    /// steps one in 20 fails whatever the rate is.
    fn wavering(random: &mut fastrand::Rng) -> u64 {
        let capacity = 5_000.0;
        let mut rates = Vec::new();
        while !is_settled(&rates, 3) {
            let mut search = match rates.last() {
                None => Search::new(100, 1_000_000),
                Some(rate) => Search::around(*rate, 1_000_000),
            };
            while let Some(rate) = search.next() {
                let mut vote = Vote::default();
                let outcome = loop {
                    let now = capacity * (0.9 + 0.2 * random.f64());
                    let load = crate::figure::float(rate) / now;
                    let step = match () {
                        () if random.u8(0..20) == 0 || load > 1.0 => Try::Failed,
                        () if load < 0.8 => Try::Clear,
                        () => Try::Passed,
                    };
                    if let Some(outcome) = vote.add(step) {
                        break outcome;
                    }
                };
                search.note(rate, outcome);
            }
            rates.push(search.passed.expect("one passes"));
        }
        middle(&rates).expect("three")
    }

    #[test]
    fn a_ramp_over_a_wavering_server_repeats_itself() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut found: Vec<u64> = (0..1_000).map(|_| wavering(&mut random)).collect();
        found.sort_unstable();
        let (low, high) = (found[25], found[974]);
        assert!(high * 100 <= low * 115, "95 % within 15 %: {low}..{high}");
        assert!((4_500..=5_500).contains(&found[500]), "{}", found[500]);
    }
}
