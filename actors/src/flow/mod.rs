//! What keeps a lane bounded and honest: credit, tickets, batches, delays. All of it is pure apart from a ticket's report.

mod backoff;
mod batch;
mod failure;
mod ledger;
mod pulse;
mod ticket;

pub use backoff::{Backoff, RetryBudget};
pub use batch::{Batch, Item, Leftovers, Reject, Unread};
pub use failure::LaneFailure;
pub use ledger::Ledger;
pub use pulse::Pulse;
pub use ticket::{GivenBack, Report, Ticket};
