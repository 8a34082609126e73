//! Faults that are planted into a record, to prove that the judge sees them.

use super::record::{Heard, Record, Stay};

/// What a server could do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A publication in the middle does not come.
    Dropped,
    Twice,
    /// The last publications for a session that lives on do not come.
    LostAtTheEnd,
    /// A member that nobody was told of.
    JoinUnheard,
    LeaveUnheard,
    /// `recovered` says the contrary.
    Recovered,
    /// Who is there is not listed.
    Unlisted,
    /// Something stays when all have left.
    Leaked,
    /// A close is not counted.
    Uncounted,
}

impl Fault {
    pub(crate) const ALL: [Self; 9] = [
        Self::Dropped,
        Self::Twice,
        Self::LostAtTheEnd,
        Self::JoinUnheard,
        Self::LeaveUnheard,
        Self::Recovered,
        Self::Unlisted,
        Self::Leaked,
        Self::Uncounted,
    ];

    /// Plants the fault in what the witness of everything saw, or the last session. Returns whether
    /// there was a place for it.
    pub(crate) fn plant(self, record: &mut Record) -> bool {
        match self {
            Self::Leaked => record.forced.is_none() && record.left_behind.add_one(),
            Self::Uncounted => {
                // Who was gone was not told.
                record.counted.get(1006, "abnormal") == 0 && record.counted.remove_one()
            }
            Self::Unlisted => {
                let answer = record.seen.looks.last_mut().and_then(|look| look.answer.as_mut());
                answer.is_some_and(|(_, clients)| clients.pop_last().is_some())
            }
            Self::Recovered => record.seen.stays.iter_mut().any(Stay::deny_recovery),
            _ => {
                if record.end_of(0).is_some() {
                    return false;
                }
                let healed = record.healed;
                record.seen.stays[..record.setup.topics.len()]
                    .iter_mut()
                    .any(|stay| self.plant_heard(stay, healed))
            }
        }
    }

    fn plant_heard(self, stay: &mut Stay, healed: usize) -> bool {
        let answered = stay.start().map_or(0, |(tick, ..)| tick);
        let heard = &mut stay.heard;
        let places = |is_it: fn(&Heard) -> bool| -> Vec<usize> {
            (0..heard.len()).filter(|at| is_it(&heard[*at].1)).collect()
        };
        let publications = places(|one| matches!(one, Heard::Publication { .. }));
        let at = match self {
            Self::Dropped | Self::Twice if publications.len() > 2 => publications[1],
            Self::LostAtTheEnd => match publications.last() {
                Some(last) if heard[*last].0 < healed => *last,
                _ => return false,
            },
            Self::JoinUnheard | Self::LeaveUnheard => {
                let joins = places(|one| matches!(one, Heard::Join(_)));
                let leaves = places(|one| matches!(one, Heard::Leave(_)));
                let of = if self == Self::JoinUnheard { joins } else { leaves };
                match of.into_iter().find(|at| heard[*at].0 > answered) {
                    Some(at) => at,
                    None => return false,
                }
            }
            _ => return false,
        };
        if self == Self::Twice {
            heard.insert(at, heard[at].clone());
        } else {
            heard.remove(at);
        }
        true
    }
}

impl Stay {
    /// Makes a recovery one that failed, if there was one.
    fn deny_recovery(&mut self) -> bool {
        use super::record::Answer::Subscribed;
        match &mut self.answer {
            Some((_, Subscribed { recovered: Some(recovered), .. })) if *recovered => {
                *recovered = false;
                true
            }
            _ => false,
        }
    }
}
