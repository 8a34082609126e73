//! Makes a failing run smaller: steps that it fails without are left out.

/// Runs that are tried at most.
const TRIES_MAX: usize = 600;

/// The fewest steps that `fails` still holds for, as far as leaving out leads.
pub(crate) fn shrink<Step: Clone>(
    mut steps: Vec<Step>,
    fails: impl Fn(&[Step]) -> bool,
) -> Vec<Step> {
    let mut tries = 0;
    let mut len = steps.len().div_ceil(2);
    while len > 0 && tries < TRIES_MAX {
        let mut at = 0;
        while at < steps.len() && tries < TRIES_MAX {
            let end = (at + len).min(steps.len());
            let without = [&steps[..at], &steps[end..]].concat();
            tries += 1;
            if fails(&without) {
                steps = without;
            } else {
                at = end;
            }
        }
        len = if len == 1 { 0 } else { len.div_ceil(2) };
    }
    steps
}
