//! How lanes work: their bounds, their leases, the speed limit, texts.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use speedtrap_actors::wire::SmsTemplate;

/// `[lane]`: the bounds of every lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LaneConfig {
    /// Most events that a lane has let in and not ended. Default 2000; 1 to 100000. With `credit_bytes` it bounds the memory
    /// of a lane.
    pub(crate) credit_events: usize,
    /// Most bytes of records that a lane has let in and not ended. Default 2 MiB; 1 KiB to 1 GiB. One record is always let in,
    /// however long it is.
    pub(crate) credit_bytes: ByteSize,
    /// Most events in one message between actors. Default 500, the most records of one PutRecords call
    /// (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>); 1 to 10000, no more
    /// than `credit_events`.
    pub(crate) batch_events: usize,
    /// Most bytes of records in one message between actors. Default 512 KiB; 1 KiB to `credit_bytes`.
    pub(crate) batch_bytes: ByteSize,
    /// Time between two checkpoints of a lane that moves on; each is one write unit of its lease table. Default 1s; 100ms to
    /// 1min. It is also how much is read again after a crash.
    #[serde(with = "humantime_serde")]
    pub(crate) checkpoint_interval: Duration,
    /// Longest first delay before a failed lane is started again; it doubles with every failure. Default 200ms; 10ms to
    /// `backoff_most`.
    #[serde(with = "humantime_serde")]
    pub(crate) backoff_first: Duration,
    /// Longest delay of all. Default 30s; up to 10min.
    #[serde(with = "humantime_serde")]
    pub(crate) backoff_most: Duration,
    /// An actor that makes no progress for so long is killed and started again with its lane; one that waits for a rate limit or
    /// the delay before a repeat is let wait, and a remote call may use up its retries first. Default 30s; 5s to 10min.
    #[serde(with = "humantime_serde")]
    pub(crate) stall_after: Duration,
}

/// `[lease]`: the timing of leases. The defaults are those of the Kinesis Client Library, whose consumers may share the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LeaseConfig {
    /// Time between two renewals of a lease. Default 3308ms, a third of `expires_after` less 25 ms; 100ms to a third of
    /// `expires_after`, so that two renewals may fail.
    #[serde(with = "humantime_serde")]
    pub(crate) renew_every: Duration,
    /// A lease that nobody renewed for so long may be taken: how long a crashed node's shards stand still. Default 10s, KCL's
    /// failoverTimeMillis; 1s to 5min.
    #[serde(with = "humantime_serde")]
    pub(crate) expires_after: Duration,
    /// Time between two looks for new shards and free leases. Default 9975ms; 100ms to 5min.
    #[serde(with = "humantime_serde")]
    pub(crate) sync_every: Duration,
}

/// `[rule]`: what a violation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RuleConfig {
    /// Speed limit in miles an hour; a reading above it is a violation, one at it is none. Default 75; 0 to 998, since speeds
    /// end at 999.
    pub(crate) limit_mph: u16,
}

/// `[notify]`: texts to drivers. A number without a country code is taken as North American (+1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NotifyConfig {
    /// Most texts of this node that are sent and not yet marked as sent: what a crash may repeat. Default 4; 1 to 100.
    pub(crate) in_flight: usize,
    /// Most texts a second of this node. Default 20, which SNS accepts of an account unless its quota is raised
    /// (<https://docs.aws.amazon.com/general/latest/gr/sns.html#limits_sns>); 1 to 10000. Several nodes share the account's
    /// quota.
    pub(crate) max_texts_per_second: u32,
    /// The text. Placeholders: `{first_name} {last_name} {licensePlate} {city} {state} {speed} {longitude} {latitude}
    /// {iottimestamp} {eventId}`. Default below; 1 to 1600 characters, the most that SNS takes
    /// (<https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html>).
    pub(crate) template: String,
    /// Most events that a notify lane has let in and not ended. Default 32; 1 to 10000. Texts are slow, so more would only wait.
    pub(crate) credit_events: usize,
    /// Most events in one message of a notify lane. Default 16; 1 to `credit_events`.
    pub(crate) batch_events: usize,
    /// A claim that its owner has not marked as sent for so long is taken over and its text sent again. Default 10s; 6s to
    /// 10min, since one call to SNS may take 5 s.
    #[serde(with = "humantime_serde")]
    pub(crate) claim_expiry: Duration,
}

impl Default for LaneConfig {
    fn default() -> Self {
        Self {
            credit_events: 2_000,
            credit_bytes: ByteSize::mib(2),
            batch_events: 500,
            batch_bytes: ByteSize::kib(512),
            checkpoint_interval: Duration::from_secs(1),
            backoff_first: Duration::from_millis(200),
            backoff_most: Duration::from_secs(30),
            stall_after: Duration::from_secs(30),
        }
    }
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self {
            renew_every: Duration::from_millis(3_308),
            expires_after: Duration::from_secs(10),
            sync_every: Duration::from_millis(9_975),
        }
    }
}

impl Default for RuleConfig {
    fn default() -> Self {
        Self { limit_mph: 75 }
    }
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            in_flight: 4,
            max_texts_per_second: 20,
            template: SmsTemplate::DEFAULT.into(),
            credit_events: 32,
            batch_events: 16,
            claim_expiry: Duration::from_secs(10),
        }
    }
}
