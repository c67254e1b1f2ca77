//! A lane: one shard's reader and the actors behind it, on one node.
//!
//! ```text
//! LaneSupervisor ─ LeaseKeeper                     renews the lease, writes the checkpoint; outlives the generations
//!   └ one generation, spawned from the end to the front, killed whole when any of it fails
//!     enrich   ShardReader ▶ (RawPersister ▶) SpeedFilter ▶ DriverLookup ▶ ViolationPersister ▶ ViolationPublisher ▶ LaneEnd
//!     notify   ShardReader ▶ OwnerNotifier ▶ LaneEnd
//!     archive  ShardReader ▶ ArchiveWriter ▶ LaneEnd
//!     errors   ShardReader ▶ RuleErrorReader ▶ LaneEnd
//! ```
//!
//! Only the reader lets records in, against the ledger's credit, and no stage multiplies events: that bounds every mailbox.
//! Each stage does its slow work one batch at a time in a `Workbench` of its own, so batches stay in order.
//! `LaneEnd` turns rejected events into dead letters; until it has stored them the batch's ticket is not given back.

mod archive_writer;
mod claim_owner;
mod driver_lookup;
mod generation;
mod isolation;
mod lane_end;
mod lease_keeper;
mod owner_notifier;
mod raw_persister;
mod renewal;
mod rule_error_reader;
mod shard_end;
mod shard_reader;
mod shard_search;
mod speed_filter;
mod stall;
mod supervisor;
mod text_rate;
mod violation_persister;
mod violation_publisher;
mod workbench;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::adapters::CachedDrivers;
use crate::domain::SpeedMph;
use crate::flow::Backoff;
use crate::ports::{AlertLedger, AlertSender, Archive, ViolationStore, ViolationStream};
use crate::wire::SmsTemplate;

pub use lease_keeper::LeaseTiming;
pub use renewal::LaneRenewal;
pub(crate) use shard_search::last_before;
pub use supervisor::{LaneArgs, LaneSupervisor, LaneSupervisorMsg};
pub use text_rate::TextRate;

/// The four kinds of lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Readings to violations.
    Enrich,
    /// Violations to text messages.
    Notify,
    /// Stored violations to archive lines.
    Archive,
    /// The IoT rule's error records to dead letters.
    Errors,
}

/// How much a lane takes in, and how often it looks.
#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// Events let in and not settled, at most.
    pub credit_events: usize,
    /// Their bytes, at most; a single larger record is let in alone.
    pub credit_bytes: usize,
    /// Events in one batch, at most.
    pub batch_events: usize,
    /// Bytes in one batch, at most; a single larger record travels alone.
    pub batch_bytes: usize,
    /// Shortest time between two reads of the shard.
    pub poll_interval: Duration,
    /// Records asked for in one read, at most.
    pub read_limit: usize,
    /// Longest time between an event's end and its checkpoint.
    pub checkpoint_interval: Duration,
    /// Delays before a dead lane starts again.
    pub backoff: Backoff,
    /// An actor that makes no progress for so long is killed with its lane, unless it waits on purpose.
    pub stall_after: Duration,
    /// How long work on one batch may take when every call in it needs its whole budget; it is no standstill before.
    pub longest_call: Duration,
}

/// The stages behind a lane's reader, with what they need from outside.
#[derive(Clone)]
pub enum Stages {
    /// See [`Role::Enrich`].
    Enrich(EnrichStages),
    /// See [`Role::Notify`].
    Notify(NotifyStages),
    /// See [`Role::Archive`].
    Archive(ArchiveStages),
    /// See [`Role::Errors`].
    Errors,
}

/// What enrich lanes need.
#[derive(Clone)]
pub struct EnrichStages {
    /// A reading is a violation above this speed, not at it.
    pub limit: SpeedMph,
    /// Stores every event, not only violations, if set.
    pub raw: Option<Arc<dyn ViolationStore>>,
    /// Who owns which plate.
    pub drivers: Arc<CachedDrivers>,
    /// The speeding table.
    pub store: Arc<dyn ViolationStore>,
    /// The out-stream.
    pub stream: Arc<dyn ViolationStream>,
}

/// What notify lanes need.
#[derive(Clone)]
pub struct NotifyStages {
    /// Keeps a text from being sent twice.
    pub ledger: Arc<dyn AlertLedger>,
    /// Sends texts.
    pub sender: Arc<dyn AlertSender>,
    /// Sends begun and not marked, over all lanes of the node.
    pub in_flight: Arc<Semaphore>,
    /// Texts a second, over all lanes of the node.
    pub rate: Arc<TextRate>,
    /// The text.
    pub template: SmsTemplate,
    /// A claim of another node that is older than this was left by a dead one.
    pub claim_expiry: Duration,
}

/// What archive lanes need.
#[derive(Clone)]
pub struct ArchiveStages {
    /// The delivery stream into the archive.
    pub archive: Arc<dyn Archive>,
}

impl Role {
    /// The name used in paths, in the API and as the stage of a dead letter.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Enrich => "enrich",
            Self::Notify => "notify",
            Self::Archive => "archive",
            Self::Errors => "errors",
        }
    }
}

impl Stages {
    /// The kind of lane that these stages make.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Enrich(_) => Role::Enrich,
            Self::Notify(_) => Role::Notify,
            Self::Archive(_) => Role::Archive,
            Self::Errors => Role::Errors,
        }
    }
}
