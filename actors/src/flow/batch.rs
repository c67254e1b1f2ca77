//! A slice of one answer of the source, on its way through the stages of a lane.

use bytes::Bytes;

use super::Ticket;
use crate::domain::Outcome;
use crate::observe::{ActorGone, Outlet};
use crate::ports::Refused;

/// Events that travel together, with the duty to end each of them.
#[derive(Debug)]
#[must_use = "a batch holds a ticket"]
pub struct Batch<E> {
    /// The duty to end every event.
    pub ticket: Ticket,
    /// The events that have not ended, in order.
    pub items: Vec<Item<E>>,
    /// The events that will end as dead letters.
    pub rejects: Vec<Reject>,
}

/// One event of a batch.
#[derive(Debug)]
pub struct Item<E> {
    /// Which event of the batch it is.
    pub index: u16,
    /// The record as it came, for the dead letter that it may become.
    pub record: Bytes,
    /// What the stage before made of it.
    pub event: E,
}

/// An event that will end as a dead letter.
#[derive(Debug)]
pub struct Reject {
    /// Which event of the batch it is.
    pub index: u16,
    /// Why, in words; holds nothing personal.
    pub reason: String,
    /// What goes into the letter.
    pub payload: Bytes,
}

/// The record of an [`Item`] that no stage has read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread;

impl<E> Batch<E> {
    /// The batch, if its effects may begin. Else the lane drains, and the batch is given back with its events open.
    #[must_use]
    pub fn begin(self) -> Option<Self> {
        if self.ticket.begin() {
            return Some(self);
        }
        self.ticket.abandon();
        None
    }

    /// The batch, unless the lane drains and its effects will not be let begin.
    #[must_use]
    pub fn wanted(self) -> Option<Self> {
        if self.ticket.is_wanted() {
            return Some(self);
        }
        self.ticket.abandon();
        None
    }

    /// Turns each event into what the next stage takes. `None` means that the event ended, which `change` has noted in the
    /// ticket; an error turns it into a dead letter.
    pub fn convert<F>(mut self, mut change: impl FnMut(&mut Ticket, u16, &Bytes, E) -> Result<Option<F>, String>) -> Batch<F> {
        let mut items = Vec::with_capacity(self.items.len());
        for Item { index, record, event } in self.items {
            match change(&mut self.ticket, index, &record, event) {
                Ok(Some(event)) => items.push(Item { index, record, event }),
                Ok(None) => {}
                Err(reason) => self.rejects.push(Reject { index, reason, payload: record }),
            }
        }
        Batch { ticket: self.ticket, items, rejects: self.rejects }
    }

    /// Ends every item that is left with the same outcome.
    pub fn end_all(mut self, outcome: Outcome) -> Leftovers {
        for item in &self.items {
            self.ticket.end(item.index, outcome);
        }
        Leftovers { ticket: self.ticket, rejects: self.rejects }
    }

    /// Turns the items that the other side refused, by their place in `items`, into dead letters.
    pub fn reject(&mut self, mut refused: Vec<Refused>) {
        refused.sort_by_key(|one| one.index);
        for Refused { index: at, reason } in refused.into_iter().rev() {
            let Item { index, record, .. } = self.items.remove(at);
            self.rejects.push(Reject { index, reason, payload: record });
        }
    }
}

/// What is left of a batch once all its items ended: the ticket, and the events that still have to become dead letters.
#[derive(Debug)]
#[must_use = "leftovers hold a ticket"]
pub struct Leftovers {
    /// The duty to end the rejects.
    pub ticket: Ticket,
    /// The events that will end as dead letters.
    pub rejects: Vec<Reject>,
}

impl Leftovers {
    /// The leftovers, if their effects may begin; see [`Batch::begin`].
    #[must_use]
    pub fn begin(self) -> Option<Self> {
        if self.ticket.begin() {
            return Some(self);
        }
        self.ticket.abandon();
        None
    }

    /// Finishes the ticket at once if nothing is left to do, else hands the leftovers to the end of the lane.
    ///
    /// # Errors
    /// When the end of the lane is gone.
    pub fn settle(self, lane_end: &Outlet<Self>) -> Result<(), ActorGone> {
        if self.rejects.is_empty() {
            self.ticket.finish();
            return Ok(());
        }
        lane_end.send(self)
    }
}
