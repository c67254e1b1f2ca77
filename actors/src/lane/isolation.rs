//! Finds the record that kills a lane, without ever blaming an outage or an innocent neighbour (pure).

use std::collections::BTreeMap;

use crate::domain::Position;

/// Faults without progress after which records are let in one at a time.
const BARREN_FAULTS: u32 = 3;
/// Faults of one record that was alone in its lane after which it becomes a dead letter.
const LONE_FAULTS: u32 = 3;

/// What is known about the faults of a lane. A *fault* is a panic or a broken invariant; a remote failure is none.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    barren: u32,
    alone: bool,
    lone_faults: BTreeMap<Position, u32>,
    condemned: Option<Position>,
}

/// How the next generation lets records in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// Batch by batch.
    Batches,
    /// One record at a time; the condemned one goes straight to the dead letters.
    Alone { condemned: Option<Position> },
}

impl Isolation {
    /// Notes a fault, with the record that was alone in the lane if one was.
    pub(super) fn fault(&mut self, alone: Option<&Position>) {
        match alone {
            Some(position) if self.alone => {
                let faults = self.lone_faults.entry(position.clone()).or_default();
                *faults += 1;
                if *faults >= LONE_FAULTS {
                    self.condemned = Some(position.clone());
                }
            }
            _ => {
                self.barren += 1;
                self.alone |= self.barren >= BARREN_FAULTS;
            }
        }
    }

    /// Notes that the checkpoint may move on.
    pub(super) fn progress(&mut self) {
        self.barren = 0;
    }

    /// Notes that as many records passed alone as a lane holds at once: the culprit, if any, is behind us.
    pub(super) fn cleared(&mut self) {
        *self = Self::default();
    }

    pub(super) fn admission(&self) -> Admission {
        if self.alone { Admission::Alone { condemned: self.condemned.clone() } } else { Admission::Batches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SequenceNumber;

    fn at(n: u64) -> Position {
        Position { sequence: SequenceNumber::parse(&n.to_string()).expect("a number"), sub: 0 }
    }

    #[test]
    fn three_barren_faults_let_records_in_alone_and_three_lone_ones_condemn() {
        let mut isolation = Isolation::default();
        for _ in 0..2 {
            isolation.fault(None);
        }
        assert_eq!(isolation.admission(), Admission::Batches);
        isolation.fault(None);
        assert_eq!(isolation.admission(), Admission::Alone { condemned: None });
        isolation.fault(Some(&at(7)));
        isolation.progress();
        isolation.fault(Some(&at(8)));
        isolation.fault(Some(&at(7)));
        assert_eq!(isolation.admission(), Admission::Alone { condemned: None });
        isolation.fault(Some(&at(7)));
        assert_eq!(isolation.admission(), Admission::Alone { condemned: Some(at(7)) });
        isolation.cleared();
        assert_eq!(isolation.admission(), Admission::Batches);
    }

    #[test]
    fn progress_between_faults_keeps_a_lane_in_batches() {
        let mut isolation = Isolation::default();
        for _ in 0..10 {
            isolation.fault(None);
            isolation.progress();
        }
        assert_eq!(isolation.admission(), Admission::Batches);
    }
}
