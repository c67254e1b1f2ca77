//! A slice of one answer of the source, on its way through the stages of a lane.

use bytes::Bytes;

use super::Ticket;

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
    /// Turns each event into what the next stage takes. `None` means that the event ended, which `change` has noted in the
    /// ticket; an error turns it into a dead letter.
    pub fn convert<F>(mut self, mut change: impl FnMut(&mut Ticket, u16, &Bytes, E) -> Result<Option<F>, String>) -> Batch<F> {
        let mut items = Vec::new();
        for Item { index, record, event } in self.items {
            match change(&mut self.ticket, index, &record, event) {
                Ok(Some(event)) => items.push(Item { index, record, event }),
                Ok(None) => {}
                Err(reason) => self.rejects.push(Reject { index, reason, payload: record }),
            }
        }
        Batch { ticket: self.ticket, items, rejects: self.rejects }
    }

    /// Turns the events at these places of `items` into dead letters.
    pub fn reject(&mut self, refused: Vec<(usize, String)>) {
        for (at, reason) in refused.into_iter().rev() {
            let Item { index, record, .. } = self.items.remove(at);
            self.rejects.push(Reject { index, reason, payload: record });
        }
    }
}
