//! What the lanes need from outside, one trait a role. Each has an adapter that talks to the real thing and a fake in `testing`;
//! the same contract tests run against both.
//!
//! Every call ends within a timeout of its adapter. Adapters retry throttling, timeouts and server errors within a budget of
//! their own; a [`RemoteFailure`] that reaches the caller means that the budget is used up, and never blames a record.

mod alert_ledger;
mod alert_sender;
mod archive;
mod dead_letters;
mod driver_directory;
mod lease_table;
mod lease_write;
mod message_source;
mod node_table;
mod peers;
mod shard_source;
mod violation_store;
mod violation_stream;

use std::fmt;

pub use alert_ledger::{AlertLedger, Claim, ClaimLost, MarkError};
pub use alert_sender::{AlertSender, SendError};
pub use archive::Archive;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use driver_directory::{Connections, DriverDirectory};
pub use lease_table::{Checkpoint, Lease, LeaseError, LeaseTable, NewLease};
pub use lease_write::{LeaseWrite, Refusal};
pub use message_source::{Acks, Connection, Message, MessageSource, Messages, Receipt};
pub use node_table::{NodeRow, NodeTable, NodeTableError};
pub use peers::{PeerFailure, Peers};
pub use shard_source::{Page, Record, Shard, ShardIterator, ShardSource, SourceError, StartAt};
pub use violation_store::ViolationStore;
pub use violation_stream::{OutRecord, ViolationStream};

/// A remote call failed for reasons that lie outside the records: throttled, timed out, refused, unreachable, or a server error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed ({kind}): {detail}")]
pub struct RemoteFailure {
    /// The API call, such as `kinesis GetRecords`.
    pub call: &'static str,
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// What the other side or the transport said; holds nothing personal.
    pub detail: String,
}

/// Kinds of remote failure, by what an operator does about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A rate or capacity limit: wait.
    Throttled,
    /// No answer in time; the call may have taken effect.
    TimedOut,
    /// Nothing answered at the address, or the connection broke.
    Unreachable,
    /// The other side failed (5xx).
    ServerError,
    /// Credentials or permissions are missing, or a named resource does not exist.
    Refused,
}

/// The other side refused one record for its content. It will refuse it again, so it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Index of the record in the call's input.
    pub index: usize,
    /// What the other side said about it.
    pub reason: String,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttled => "throttled",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::ServerError => "server error",
            Self::Refused => "refused",
        })
    }
}
