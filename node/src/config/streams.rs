//! Names of what stands in AWS: streams, tables, buckets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[kinesis]`: the streams that are read and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KinesisConfig {
    /// Name of the stream that readings arrive on, read by enrich lanes. Default `rtr-iot-kinesis-stream`; 1 to 128 characters
    /// `[A-Za-z0-9_.-]`, as Kinesis allows (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateStream.html>).
    pub(crate) in_stream: String,
    /// Name of the stream of violations with their drivers, written by enrich lanes and read by notify lanes. Default
    /// `rtr-iot-kinesis-out-stream`; as `in_stream`.
    pub(crate) out_stream: String,
    /// Name of the stream that the IoT rule's error action writes, read by errors lanes. Default
    /// `rtr-iot-kinesis-error-stream`; as `in_stream`.
    pub(crate) error_stream: String,
    /// Time between two reads of a shard that has nothing more to give; a lane that is behind reads on at once, within the same
    /// limit. Default 200ms; 200ms to 10s: Kinesis answers 5 reads a second and shard, shared by all readers
    /// (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>).
    #[serde(with = "humantime_serde")]
    pub(crate) poll_interval: Duration,
    /// Most records asked for in one read. Default 2000; 1 to 10000, the most that GetRecords gives. The archive lane asks the
    /// table's stream for at most 1000, which is the most there
    /// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>).
    pub(crate) read_limit: usize,
}

/// `[dynamodb]`: the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DynamoDbConfig {
    /// Table of violations; its stream feeds the archive lanes. Default `rtr-iot-speeding`; 3 to 255 characters
    /// `[A-Za-z0-9_.-]`, as DynamoDB allows (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>).
    pub(crate) speeding_table: String,
    /// Table of the claims that keep a text from being sent twice. Default `rtr-iot-alerts`; as `speeding_table`.
    pub(crate) alerts_table: String,
    /// Table of records that cannot be processed. Default `rtr-iot-dead-letters`; as `speeding_table`.
    pub(crate) dead_letters_table: String,
    /// Table through which nodes find each other and show that they live. Made by the node when absent. Default `rtr-iot-nodes`;
    /// as `speeding_table`, or empty: nodes meet only by `cluster.join`, and a dead one's leases are taken when they expire.
    pub(crate) nodes_table: String,
    /// Lease table of the enrich lanes, which is the name of their consumer application. Made by the node when absent. Default
    /// `IotFastCarSensor`; as `speeding_table`.
    pub(crate) enrich_leases: String,
    /// Lease table of the notify lanes. Default `rtr-iot-notify`; as `enrich_leases`.
    pub(crate) notify_leases: String,
    /// Lease table of the archive lanes. Default `rtr-iot-archive`; as `enrich_leases`.
    pub(crate) archive_leases: String,
    /// Lease table of the errors lanes. Default `rtr-iot-errors`; as `enrich_leases`.
    pub(crate) errors_leases: String,
}

/// `[archive]`: where violations and long dead letters are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ArchiveConfig {
    /// Firehose delivery stream that archive lanes append to. Default `rtr-iot-dynamodb-stream`; 1 to 64 characters
    /// `[A-Za-z0-9_.-]` (<https://docs.aws.amazon.com/firehose/latest/APIReference/API_CreateDeliveryStream.html>).
    pub(crate) delivery_stream: String,
    /// Bucket for the payloads of dead letters that are too long for their table, under `dead-letters/`. Default empty:
    /// `rtr-iot-archive-<account>`, with the account that owns the streams and tables; else 3 to 63 characters
    /// `[a-z0-9.-]` (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
    pub(crate) bucket: String,
}

/// `[persist]`: what else is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PersistConfig {
    /// Table for every event, not only violations, such as `rtr-iot-raw`. Default empty: not kept; as
    /// `dynamodb.speeding_table`.
    pub(crate) raw_table: String,
}

impl Default for KinesisConfig {
    fn default() -> Self {
        Self {
            in_stream: "rtr-iot-kinesis-stream".into(),
            out_stream: "rtr-iot-kinesis-out-stream".into(),
            error_stream: "rtr-iot-kinesis-error-stream".into(),
            poll_interval: Duration::from_millis(200),
            read_limit: 2_000,
        }
    }
}

impl Default for DynamoDbConfig {
    fn default() -> Self {
        Self {
            speeding_table: "rtr-iot-speeding".into(),
            alerts_table: "rtr-iot-alerts".into(),
            dead_letters_table: "rtr-iot-dead-letters".into(),
            nodes_table: "rtr-iot-nodes".into(),
            enrich_leases: "IotFastCarSensor".into(),
            notify_leases: "rtr-iot-notify".into(),
            archive_leases: "rtr-iot-archive".into(),
            errors_leases: "rtr-iot-errors".into(),
        }
    }
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { delivery_stream: "rtr-iot-dynamodb-stream".into(), bucket: String::new() }
    }
}
