//! The pipeline of Speedtrap: lanes of actors that turn speed readings into text messages.
//!
//! ```text
//! enrich   ShardReader > SpeedFilter > DriverLookup > ViolationPersister > ViolationPublisher > LaneEnd
//! notify   ShardReader > OwnerNotifier > LaneEnd
//! archive  ShardReader > ArchiveWriter > LaneEnd
//! errors   ShardReader > RuleErrorReader > LaneEnd
//! ```
//!
//! In reading order: [`domain`] (values), [`wire`] (bytes to values and back), [`flow`] (what keeps a lane bounded and honest),
//! [`ports`] (what lanes need from outside), [`lane`] (the actors), [`ingest`] (readings from other MQTT brokers), [`cluster`] (who
//! runs which lane), [`observe`] (what can be seen of them), [`adapters`] (the ports on AWS and the warehouse). This library reads no environment and has no `main`.

pub mod adapters;
pub mod cluster;
pub mod domain;
pub mod flow;
pub mod ingest;
pub mod lane;
pub mod observe;
pub mod ports;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
