//! What keeps a lane bounded and honest: credit, tickets, batches, delays. All of it is pure apart from a ticket's report and the
//! waits for a gate or a tenure.

mod backoff;
mod batch;
mod drain_gate;
mod failure;
mod ledger;
mod pulse;
mod tenure;
mod ticket;

pub use backoff::{Backoff, RetryBudget};
pub use batch::{Batch, Item, Leftovers, Reject, Unread};
pub use drain_gate::DrainGate;
pub use failure::LaneFailure;
pub use ledger::Ledger;
pub use pulse::Pulse;
pub use tenure::Tenure;
pub use ticket::{GivenBack, Report, Ticket};
