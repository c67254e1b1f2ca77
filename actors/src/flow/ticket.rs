//! The duty to end every event of one batch exactly once.

use std::sync::Arc;

use crate::domain::{Outcome, OutcomeCounts, Position};
use crate::observe::Outlet;

/// Held by whichever actor has the batch. It cannot be copied and does not leave the node; when it is dropped with events still
/// open the reader hears of it, and the lane dies rather than lose an event.
#[must_use = "every event of the batch has to be ended"]
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    positions: Arc<[Position]>,
    outcomes: Vec<Option<Outcome>>,
    open: usize,
    reader: Outlet<Report>,
    reported: bool,
}

/// What a ticket tells the reader that issued it.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Which batch.
    pub number: u64,
    /// The place of the batch's last event.
    pub last: Position,
    /// How the events ended that did.
    pub outcomes: OutcomeCounts,
    /// How many events from the start of the batch ended without a gap.
    pub ended_prefix: usize,
    /// How it was given back.
    pub how: GivenBack,
}

/// How a ticket came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// Every event ended.
    Finished,
    /// The lane is closing, and what had not begun was dropped.
    Abandoned,
    /// It was dropped with this many events open.
    Lost {
        /// How many.
        open: usize,
    },
}

impl Ticket {
    /// A ticket for events at these positions, in order.
    pub fn new(number: u64, positions: Arc<[Position]>, reader: Outlet<Report>) -> Self {
        let open = positions.len();
        Self { number, outcomes: vec![None; open], positions, open, reader, reported: false }
    }

    /// The place of one of its events.
    #[must_use]
    pub fn position(&self, index: u16) -> &Position {
        &self.positions[usize::from(index)]
    }

    /// Ends one event.
    ///
    /// # Panics
    /// When that event ended before: an event that ends twice is a bug in a stage.
    pub fn end(&mut self, index: u16, outcome: Outcome) {
        let slot = &mut self.outcomes[usize::from(index)];
        assert!(slot.is_none(), "event {index} of batch {} ended twice", self.number);
        *slot = Some(outcome);
        self.open -= 1;
    }

    /// How many events have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Gives the ticket back with every event ended. One with open events counts as lost.
    pub fn finish(self) {
        drop(self);
    }

    /// Gives the ticket back with events open, because the lane is closing.
    pub fn abandon(mut self) {
        let how = if self.open == 0 { GivenBack::Finished } else { GivenBack::Abandoned };
        self.report(how);
    }

    fn report(&mut self, how: GivenBack) {
        self.reported = true;
        let mut outcomes = OutcomeCounts::default();
        self.outcomes.iter().flatten().for_each(|outcome| outcomes.add(*outcome));
        let ended_prefix = self.outcomes.iter().take_while(|outcome| outcome.is_some()).count();
        // A reader that is gone belongs to a dead generation, whose events start again from the checkpoint.
        let last = self.positions.last().expect("a batch holds at least one event").clone();
        let _reader_may_be_gone = self.reader.send(Report { number: self.number, last, outcomes, ended_prefix, how });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.reported {
            let how = if self.open == 0 { GivenBack::Finished } else { GivenBack::Lost { open: self.open } };
            self.report(how);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::domain::SequenceNumber;

    fn ticket(n: u64) -> (Ticket, Arc<Mutex<Vec<Report>>>) {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let outlet = Outlet::new(move |report| {
            sink.lock().expect("no test panics while holding it").push(report);
            Ok(())
        });
        let position = |at: u64| Position { sequence: SequenceNumber::parse(&at.to_string()).expect("a number"), sub: 0 };
        (Ticket::new(7, (0..n).map(position).collect(), outlet), reports)
    }

    #[test]
    fn a_finished_ticket_reports_once() {
        let (mut ticket, reports) = ticket(2);
        ticket.end(1, Outcome::UnderLimit);
        ticket.end(0, Outcome::Published);
        ticket.finish();
        let reports = reports.lock().expect("not poisoned");
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].how, reports[0].ended_prefix, reports[0].outcomes.total()), (GivenBack::Finished, 2, 2));
    }

    #[test]
    fn a_dropped_ticket_is_lost_and_says_how_much() {
        let (mut ticket, reports) = ticket(3);
        ticket.end(0, Outcome::UnderLimit);
        ticket.end(2, Outcome::UnderLimit);
        drop(ticket);
        let reports = reports.lock().expect("not poisoned");
        assert_eq!((reports[0].how, reports[0].ended_prefix), (GivenBack::Lost { open: 1 }, 1));
    }

    #[test]
    fn an_abandoned_ticket_reports_its_ended_prefix() {
        let (mut ticket, reports) = ticket(3);
        ticket.end(0, Outcome::Notified);
        ticket.abandon();
        let reports = reports.lock().expect("not poisoned");
        assert_eq!((reports[0].how, reports[0].ended_prefix), (GivenBack::Abandoned, 1));
    }
}
