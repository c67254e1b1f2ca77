//! The duty to end every event of one batch exactly once.

use std::sync::Arc;

use super::DrainGate;
use crate::domain::{Outcome, OutcomeCounts, Position};
use crate::observe::{Outlet, TrafficMark};

/// Held by whichever actor has the batch. It cannot be copied and does not leave the node; when it is dropped with events still
/// open the reader hears of it, and the lane dies rather than lose an event.
#[must_use = "every event of the batch has to be ended"]
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    positions: Arc<[Position]>,
    outcomes: Vec<Option<Outcome>>,
    /// Empty until the first event is marked.
    marks: Vec<TrafficMark>,
    open: usize,
    reader: Outlet<Report>,
    gate: DrainGate,
    cut: bool,
    reported: bool,
}

/// What a ticket tells the reader that issued it.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Which batch.
    pub number: u64,
    /// How the events ended that did.
    pub outcomes: OutcomeCounts,
    /// How many events from the start of the batch ended without a gap.
    pub ended_prefix: usize,
    /// The place of the last of these, and how they ended; `None` when there is none.
    pub prefix: Option<(Position, OutcomeCounts)>,
    /// The marks of the events of the prefix; none in lanes that mark no events.
    pub marks: Vec<TrafficMark>,
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
    pub fn new(number: u64, positions: Arc<[Position]>, reader: Outlet<Report>, gate: DrainGate) -> Self {
        let open = positions.len();
        Self { number, outcomes: vec![None; open], marks: Vec::new(), positions, open, reader, gate, cut: false, reported: false }
    }

    /// Whether the batch's effects may begin, or have begun. A batch that may not is to be given back with
    /// [`Ticket::abandon`].
    #[must_use]
    pub fn begin(&self) -> bool {
        self.gate.pass(self.number)
    }

    /// Whether the batch will be let begin as things stand: asked by work that has no effect.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.gate.lets_pass(self.number)
    }

    /// The gate that the batch has to pass.
    #[must_use]
    pub fn gate(&self) -> &DrainGate {
        &self.gate
    }

    /// Drops the events that have not ended when the ticket is given back: they had not begun when the lane began to drain.
    pub fn cut(&mut self) {
        self.cut = true;
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

    /// Notes what the map needs to know of one event.
    pub fn mark(&mut self, index: u16, mark: TrafficMark) {
        if self.marks.is_empty() {
            self.marks = vec![TrafficMark::default(); self.positions.len()];
        }
        self.marks[usize::from(index)] = mark;
    }

    /// How many events have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Gives the ticket back with every event ended. One with open events counts as lost, unless it was cut.
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
        let mut of_prefix = OutcomeCounts::default();
        let mut ended_prefix = 0;
        for outcome in self.outcomes.iter().map_while(|outcome| *outcome) {
            of_prefix.add(outcome);
            ended_prefix += 1;
        }
        let prefix = self.positions[..ended_prefix].last().map(|last| (last.clone(), of_prefix));
        let mut marks = std::mem::take(&mut self.marks);
        marks.truncate(ended_prefix);
        // A reader that is gone belongs to a dead generation, whose events start again from the checkpoint.
        let _reader_may_be_gone = self.reader.send(Report { number: self.number, outcomes, ended_prefix, prefix, marks, how });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.reported {
            self.report(match self.open {
                0 => GivenBack::Finished,
                _ if self.cut => GivenBack::Abandoned,
                open => GivenBack::Lost { open },
            });
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
        (Ticket::new(7, (0..n).map(position).collect(), outlet, DrainGate::default()), reports)
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

    #[test]
    fn a_cut_ticket_reports_how_its_prefix_ended() {
        let (mut ticket, reports) = ticket(4);
        ticket.end(0, Outcome::Notified);
        ticket.end(1, Outcome::Duplicate);
        ticket.end(3, Outcome::Duplicate);
        ticket.cut();
        ticket.finish();
        let reports = reports.lock().expect("not poisoned");
        assert_eq!(reports[0].how, GivenBack::Abandoned);
        let (last, outcomes) = reports[0].prefix.as_ref().expect("two events ended without a gap");
        assert_eq!((last.sequence.as_str(), outcomes.total(), outcomes.get(Outcome::Notified)), ("1", 2, 1));
    }
}
