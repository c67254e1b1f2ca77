//! Fakes of the ports, and the contracts that fakes and adapters both keep.
//!
//! A fake is a handle: clones share its state, so a test keeps one and gives the lane another. Each records what it was asked
//! for and can be told to fail by its [`Outage`].

pub mod contracts;
mod golden_leases;
mod memory_alerts;
mod memory_archive;
mod memory_broker;
mod memory_dead_letters;
mod memory_drivers;
mod memory_leases;
mod memory_nodes;
mod memory_out_stream;
mod memory_outage;
mod memory_violations;
mod recording_alerts;
mod sample_events;
mod scripted_shard;

pub use golden_leases::{
    GoldenLease, GoldenWrite, aggregated_record, dumped_kcl_2_5_8, golden_kcl_1_12, golden_kcl_2_5, golden_writes, item,
    item_json, lease_json,
};
pub use memory_alerts::{MemoryAlertLedger, MemoryClaim, MemoryClaimState};
pub use memory_archive::MemoryArchive;
pub use memory_broker::MemoryBroker;
pub use memory_dead_letters::MemoryDeadLetters;
pub use memory_drivers::MemoryDriverDirectory;
pub use memory_leases::MemoryLeaseTable;
pub use memory_nodes::MemoryNodeTable;
pub use memory_out_stream::MemoryViolationStream;
pub use memory_outage::{Outage, failure};
pub use memory_violations::MemoryViolationStore;
pub use recording_alerts::{RecordingAlertSender, ScriptedSend, SentText};
pub use sample_events::{sample_driver, sample_event};
pub use scripted_shard::ScriptedShard;
