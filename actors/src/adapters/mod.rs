//! The ports on AWS and the warehouse.
//!
//! Each adapter takes a client, the names of what it uses, and [`CallLimits`]; it reads no environment. SDK errors stay in here:
//! `failure` turns them into [`RemoteFailure`](crate::ports::RemoteFailure)s and holds the only retry loop.

mod aggregated;
mod cached_drivers;
mod client_tls;
mod cluster_socket;
mod driver_queries;
mod driver_rows;
mod dynamo_alerts;
mod dynamo_dead_letters;
mod dynamo_leases;
mod dynamo_nodes;
mod dynamo_streams;
mod dynamo_table;
mod dynamo_violations;
mod failure;
mod firehose;
mod kinesis;
mod kinesis_out;
mod lease_rows;
mod letter_desk;
mod mqtt;
mod redshift_drivers;
mod sns;
mod throttles;
mod trace_desk;
mod warehouse_look;
mod warehouse_pool;

pub use cached_drivers::{CachedDrivers, DriverCacheLimits, DriverCacheSnapshot};
pub use client_tls::{ClientTlsError, authorities, crypto};
pub use cluster_socket::{ClusterSocket, ClusterTls, ClusterTlsError};
pub use deadpool_postgres::Pool as WarehousePool;
pub use driver_rows::DriverRows;
pub use dynamo_alerts::DynamoAlertLedger;
pub use dynamo_dead_letters::DynamoDeadLetters;
pub use dynamo_leases::DynamoLeaseTable;
pub use dynamo_nodes::DynamoNodeTable;
pub use dynamo_streams::DynamoStreamSource;
pub use dynamo_violations::{DynamoViolationStore, violation_item};
pub use failure::CallLimits;
pub use firehose::FirehoseArchive;
pub use kinesis::KinesisSource;
pub use kinesis_out::KinesisViolationStream;
pub use letter_desk::{LetterDesk, LetterPlaces, Settled, StoredLetter};
pub use mqtt::{MqttBroker, MqttTls, MqttTlsError};
pub use redshift_drivers::RedshiftDriverDirectory;
pub use sns::SnsAlertSender;
pub use trace_desk::{ArchiveObject, ScanPlace, StoredClaim, StreamReach, TraceDesk};
pub use warehouse_look::{WarehouseLook, look_at_warehouse};
pub use warehouse_pool::{WarehouseError, WarehouseOptions, warehouse_failure, warehouse_pool};
