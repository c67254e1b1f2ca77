//! What the pipeline speaks of: parsed once at the edge, always valid afterwards.

mod driver;
mod event_id;
mod outcome;
mod plate;
mod sequence;
mod speed;
mod speed_event;
mod us_state;
mod violation;

pub use driver::{Driver, PhoneNumber, PhoneNumberError};
pub(crate) use event_id::hex_of_first_16;
pub use event_id::{EventId, EventIdError};
pub use outcome::{Outcome, OutcomeCounts};
pub use plate::{LicensePlate, PlateError, PlateKey};
pub use sequence::{Position, SequenceNumber, SequenceNumberError, ShardId};
pub use speed::{SpeedError, SpeedMph};
pub use speed_event::{Reading, SpeedEvent};
pub use us_state::UsState;
pub use violation::{PublishedViolation, Violation};
