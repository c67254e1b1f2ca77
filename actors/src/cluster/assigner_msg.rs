//! What a `ShardAssigner` is told.

use std::sync::Arc;
use std::time::Duration;

use ractor::RpcReplyPort;
use tokio::time::Instant;

use super::ClusterView;
use super::lease_steps::{Finding, SyncError};
use super::orders::OrderAnswer;
use crate::domain::ShardId;
use crate::lane::LaneRenewal;
use crate::ports::Lease;

#[derive(Debug)]
pub(super) enum ShardAssignerMsg {
    SyncDue,
    /// Looks at the leases at once, outside the regular rhythm.
    LookAgain,
    /// Looks at the shards too.
    LookAtAll,
    /// A lease of another node may have expired just now.
    ExpiryDue,
    /// A lease that nobody took may be left to this node now.
    FreeDue,
    Found(Result<Finding, SyncError>),
    /// A lease was taken by a write that began then.
    Taken(Lease, Instant),
    /// The answer of a node that was asked for a lease.
    Promised(Option<ShardId>),
    Performed,
    NodesChanged(Arc<ClusterView>),
    /// Another node asks for a lease.
    LeaseAsked {
        taker: String,
        answer: RpcReplyPort<Option<ShardId>>,
    },
    /// An operator hands a lease over; answered when that has begun.
    HandOver {
        shard: ShardId,
        /// Else whoever holds the fewest.
        to: Option<String>,
        answer: RpcReplyPort<OrderAnswer>,
    },
    /// An operator wants a fair spread now, not after a pause.
    Balance(RpcReplyPort<OrderAnswer>),
    /// An operator drains a lane, which goes on with a new generation.
    RenewLane {
        shard: ShardId,
        renewal: LaneRenewal,
        answer: RpcReplyPort<OrderAnswer>,
    },
    /// The node gives all leases away and takes none.
    StandAside,
    /// It takes part again.
    Resume,
    Drain {
        patience: Duration,
        done: RpcReplyPort<bool>,
    },
    /// Every lane is closed; answered with whether everything that they had begun ended.
    Drained(RpcReplyPort<bool>, bool),
}

impl ractor::Message for ShardAssignerMsg {}
