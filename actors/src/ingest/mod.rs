//! The ingest lane: readings from an MQTT broker that has no rule into Kinesis.
//!
//! ```text
//! IngestSupervisor     elects by a lease the one node that ingests; one-for-all over its children
//!   ├ MqttReader       holds the connection; acknowledges a message when its reading is stored, and not before
//!   └ StreamWriter     puts readings on the in-stream in batches, and what is no reading among the dead letters
//! ```
//!
//! The broker's session is the checkpoint: what is not acknowledged comes again to whichever node connects next under the same
//! client id. So a node may die at any time, and repeats are recognised downstream by their event id.

mod intake;
mod lease_watch;
mod mqtt_reader;
mod stream_writer;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::{ShardId, hex_of_first_16};
use crate::observe::IngestStats;
use crate::ports::{DeadLetters, LeaseTable, MessageSource, ViolationStream};

pub(crate) use supervisor::{IngestArgs, IngestSupervisor, IngestSupervisorMsg};

/// What the ingest lane of a node needs.
#[derive(Clone)]
pub struct IngestSettings {
    /// The broker.
    pub source: Arc<dyn MessageSource>,
    /// The in-stream.
    pub stream: Arc<dyn ViolationStream>,
    /// Where messages go that are no readings.
    pub letters: Arc<dyn DeadLetters>,
    /// The table with the row that says which node ingests.
    pub leases: Arc<dyn LeaseTable>,
    /// The topics.
    pub topic_filter: String,
    /// The client that the broker knows.
    pub client_id: String,
    /// Most messages that came and are not acknowledged yet.
    pub in_flight: usize,
    /// How long a reading waits for others to share a call.
    pub linger: Duration,
    /// Time between two renewals of the lease.
    pub renew_every: Duration,
    /// A lease that was not renewed for so long is nobody's.
    pub expires_after: Duration,
    /// What the lane did.
    pub stats: IngestStats,
}

impl IngestSettings {
    /// The row of this topic filter.
    fn lease_key(&self) -> ShardId {
        ShardId::new(&format!("ingest-{}", hex_of_first_16(&Sha256::digest(self.topic_filter.as_bytes()))))
    }
}
