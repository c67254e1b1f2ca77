//! What keeps a lane bounded and honest.

mod backoff;

pub use backoff::{Backoff, RetryBudget};
