//! Why a generation of a lane ends before its time.

use crate::observe::ActorGone;
use crate::ports::{LeaseError, RemoteFailure, SourceError};

/// What a lane's actor returns from `handle` when it cannot go on. The lane dies whole and starts again from its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum LaneFailure {
    /// Something outside did not answer. It blames no record, however long it lasts.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
    /// A sibling is gone already; its own end says why.
    #[error(transparent)]
    Sibling(#[from] ActorGone),
    /// A ticket was dropped with events still open: a bug, or a panic in slow work.
    #[error("a batch was dropped with {open} of its events not ended")]
    TicketLost {
        /// How many.
        open: usize,
    },
    /// The lease is another node's now: the lane closes and does not start again here.
    #[error("the lease is lost")]
    LeaseLost,
    /// The shard does not exist any more.
    #[error("shard is gone: its records expired before they were read")]
    ShardGone,
}

impl LaneFailure {
    /// Whether it counts against the record that the lane was working on.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::TicketLost { .. })
    }
}

impl From<SourceError> for LaneFailure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Remote(failure) => Self::Remote(failure),
            SourceError::Gone(_) | SourceError::IteratorExpired => Self::ShardGone,
        }
    }
}

impl From<LeaseError> for LaneFailure {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Remote(failure) => Self::Remote(failure),
            LeaseError::Lost(_) | LeaseError::Unusable(_) => Self::LeaseLost,
        }
    }
}
