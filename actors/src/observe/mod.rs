//! What can be seen of the actors: each one is spawned through an [`ActorTable`], which gives it a [`Meter`] and a row, and keeps
//! its restarts with their reasons. ractor itself has no mailbox length and tells a restart's reason only to the supervisor.

mod actor_table;
mod call_log;
mod durations;
mod ingest_stats;
mod lane_stats;
mod latency;
mod lease_board;
mod mailbox;
mod meter;
mod metered;
mod pace;
mod synthetic;
mod traffic;

pub use actor_table::{ActorRow, ActorState, ActorTable, Ordered, Restart, Spot};
pub use call_log::{CallGuard, CallLog, CallSnapshot, Calls};
pub use durations::{Durations, DurationsSnapshot};
pub use ingest_stats::{IngestSnapshot, IngestStats};
pub use lane_stats::{FreshLetter, LaneSnapshot, LaneState, LaneStats, LeaseWrite, LeaseWrites};
pub use lease_board::{BoardSnapshot, LeaseBoard, LeaseState, SeenLease};
pub use mailbox::{ActorGone, Mailbox, Outlet};
pub use meter::{Meter, MeterSnapshot, Pause, Pausing, Percentiles, Waiting};
pub use synthetic::SyntheticActors;
pub use traffic::{Count, HourCount, Traffic, TrafficCounts, TrafficMark};
