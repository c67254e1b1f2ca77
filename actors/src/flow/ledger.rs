//! What a lane has let in and not yet ended: its credit, and how far the checkpoint may go (pure).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::Position;

/// The ledger of one lane generation. Only the reader lets records in, against this credit, and no stage multiplies events, so
/// the credit bounds every mailbox behind the reader.
#[derive(Debug)]
pub struct Ledger {
    most_events: usize,
    most_bytes: usize,
    open_events: usize,
    open_bytes: usize,
    next_number: u64,
    batches: VecDeque<Entry>,
    watermark: Option<Position>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    bytes: usize,
    positions: Arc<[Position]>,
    ended: Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    All,
    /// The first so many of its events; the rest will start again from the checkpoint.
    Prefix(usize),
}

impl Ledger {
    /// A ledger with nothing open.
    #[must_use]
    pub fn new(most_events: usize, most_bytes: usize) -> Self {
        Self { most_events, most_bytes, open_events: 0, open_bytes: 0, next_number: 0, batches: VecDeque::new(), watermark: None }
    }

    /// How many more events may be let in. What has ended but cannot be checkpointed yet still counts, so that a stuck head
    /// cannot grow the ledger.
    #[must_use]
    pub fn credit_events(&self) -> usize {
        self.most_events.saturating_sub(self.open_events)
    }

    /// Whether an event of so many bytes may be let in. A single one larger than the whole credit may, when nothing else is open.
    #[must_use]
    pub fn admits(&self, bytes: usize) -> bool {
        self.credit_events() > 0 && (self.open_bytes + bytes <= self.most_bytes || self.open_events == 0)
    }

    /// Whether it is worth asking the source again: at least half of the credit is free.
    #[must_use]
    pub fn worth_reading(&self) -> bool {
        self.open_events * 2 <= self.most_events && self.open_bytes * 2 <= self.most_bytes
    }

    /// Lets a batch in and numbers it.
    ///
    /// # Panics
    /// When the batch is empty.
    pub fn issue(&mut self, positions: Arc<[Position]>, bytes: usize) -> u64 {
        assert!(!positions.is_empty(), "a batch holds at least one event");
        let number = self.next_number;
        self.next_number += 1;
        self.open_events += positions.len();
        self.open_bytes += bytes;
        self.batches.push_back(Entry { number, bytes, positions, ended: Ended::No });
        number
    }

    /// Notes that a batch ended, whole or only its first `prefix` events. Returns the new watermark if it moved. Repeats and
    /// numbers that were never issued change nothing.
    pub fn resolve(&mut self, number: u64, prefix: usize) -> Option<&Position> {
        let entry = self.batches.iter_mut().find(|entry| entry.number == number && entry.ended == Ended::No)?;
        entry.ended = if prefix >= entry.positions.len() { Ended::All } else { Ended::Prefix(prefix) };
        let mut moved = false;
        while let Some(Entry { ended: Ended::All, .. }) = self.batches.front() {
            let done = self.batches.pop_front().expect("the front was just seen");
            self.open_events -= done.positions.len();
            self.open_bytes -= done.bytes;
            self.watermark = done.positions.last().cloned();
            moved = true;
        }
        if let Some(Entry { ended: Ended::Prefix(n @ 1..), positions, .. }) = self.batches.front() {
            let position = &positions[n - 1];
            if self.watermark.as_ref() != Some(position) {
                self.watermark = Some(position.clone());
                moved = true;
            }
        }
        if moved { self.watermark.as_ref() } else { None }
    }

    /// The end of the longest fully ended prefix of events: how far the checkpoint may go.
    #[must_use]
    pub fn watermark(&self) -> Option<&Position> {
        self.watermark.as_ref()
    }

    /// Events let in and not settled.
    #[must_use]
    pub fn open_events(&self) -> usize {
        self.open_events
    }

    /// Whether every batch was given back, if only abandoned.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.batches.iter().all(|entry| entry.ended != Ended::No)
    }

    /// Whether everything that was let in has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::SequenceNumber;

    fn at(n: usize) -> Position {
        Position { sequence: SequenceNumber::parse(&n.to_string()).expect("a number"), sub: 0 }
    }

    fn batch(from: usize, n: usize) -> Arc<[Position]> {
        (from..from + n).map(at).collect()
    }

    #[test]
    fn the_watermark_waits_for_the_oldest_batch() {
        let mut ledger = Ledger::new(10, 1000);
        let (first, second) = (ledger.issue(batch(0, 2), 10), ledger.issue(batch(2, 3), 10));
        assert_eq!(ledger.resolve(second, 3), None);
        assert_eq!(ledger.credit_events(), 5, "an ended batch behind a stuck one still takes credit");
        assert_eq!(ledger.resolve(first, 2), Some(&at(4)));
        assert!(ledger.is_empty());
        assert_eq!(ledger.resolve(first, 2), None, "a repeat changes nothing");
    }

    #[test]
    fn an_abandoned_batch_moves_the_watermark_to_its_ended_prefix_and_no_further() {
        let mut ledger = Ledger::new(10, 1000);
        let (first, second) = (ledger.issue(batch(0, 3), 10), ledger.issue(batch(3, 3), 10));
        assert_eq!(ledger.resolve(first, 2), Some(&at(1)));
        assert_eq!(ledger.resolve(second, 3), None);
        assert!(ledger.is_quiet() && !ledger.is_empty());
    }

    #[test]
    fn one_record_larger_than_the_credit_is_let_in_alone() {
        let mut ledger = Ledger::new(10, 1000);
        assert!(ledger.admits(5000));
        let number = ledger.issue(batch(0, 1), 5000);
        assert!(!ledger.admits(1));
        ledger.resolve(number, 1);
        assert!(ledger.admits(1) && ledger.worth_reading());
    }

    proptest! {
        /// Batches end in any order, some only in part and some twice: the watermark only moves forward, never beyond an open
        /// event, and reaches the end when everything ended.
        #[test]
        fn the_watermark_is_always_the_end_of_the_ended_prefix(
            sizes in proptest::collection::vec(1_usize..6, 1..20),
            order in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..7), 0..60),
        ) {
            let total: usize = sizes.iter().sum();
            let mut ledger = Ledger::new(total, total);
            let mut starts = vec![];
            let mut next = 0;
            for size in &sizes {
                starts.push(next);
                ledger.issue(batch(next, *size), *size);
                next += size;
            }
            prop_assert_eq!(ledger.credit_events(), 0);
            let mut ended: Vec<Option<usize>> = vec![None; sizes.len()];
            for (which, prefix) in order {
                let which = which.index(sizes.len());
                ended[which].get_or_insert(prefix.min(sizes[which]));
                let before = ledger.watermark().cloned();
                ledger.resolve(which as u64, prefix);
                prop_assert!(before <= ledger.watermark().cloned());
                let mut expected = None;
                for (start, (size, prefix)) in starts.iter().zip(sizes.iter().zip(&ended)) {
                    let done = prefix.unwrap_or(0);
                    if done > 0 { expected = Some(at(start + done - 1)); }
                    if done < *size { break; }
                }
                prop_assert_eq!(ledger.watermark().cloned(), expected);
            }
        }
    }
}
