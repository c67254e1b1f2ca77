//! Looking back at single events: what the tables and the archive still hold of them, and how far back the streams go.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::domain::{EventId, LicensePlate, SpeedEvent, SpeedMph};
use crate::ports::{FailureKind, RemoteFailure};

type Item = HashMap<String, AttributeValue>;

/// Violations of one plate that are read for one list.
const MOST_OF_PLATE: usize = 1_000;

/// The tables and the archive, read only.
pub struct TraceDesk {
    dynamodb: aws_sdk_dynamodb::Client,
    kinesis: aws_sdk_kinesis::Client,
    s3: aws_sdk_s3::Client,
    speeding_table: String,
    alerts_table: String,
    limits: CallLimits,
}

/// How far back a stream goes, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReach {
    /// How long a record stays on it.
    pub keeps: Duration,
    /// The AWS account that it belongs to.
    pub account: Option<String>,
}

/// The claim on a text as it stands in the alerts table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredClaim {
    /// `claimed`, `sent` or `failed`.
    pub state: String,
    /// Who holds it: `<node>#<boot>/<shard>#<generation>@<sequence>`, of the record on the out-stream.
    pub owner: String,
    /// When it was claimed, in RFC 3339.
    pub claimed_at: Option<String>,
    /// When the text was taken for delivery.
    pub sent_at: Option<String>,
    /// What SNS called it.
    pub message_id: Option<String>,
}

/// Where a scan goes on.
#[derive(Debug, Clone)]
pub struct ScanPlace(Item);

/// An object of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveObject {
    /// Its key.
    pub key: String,
    /// When it was written.
    pub written: Option<SystemTime>,
    /// Its length.
    pub bytes: u64,
}

impl TraceDesk {
    /// Reads with what these clients reach.
    #[must_use]
    pub fn new(
        dynamodb: &aws_sdk_dynamodb::Client,
        kinesis: &aws_sdk_kinesis::Client,
        s3: &aws_sdk_s3::Client,
        speeding_table: &str,
        alerts_table: &str,
        limits: CallLimits,
    ) -> Self {
        Self {
            dynamodb: without_sdk_retries!(aws_sdk_dynamodb, dynamodb),
            kinesis: without_sdk_retries!(aws_sdk_kinesis, kinesis),
            s3: without_sdk_retries!(aws_sdk_s3, s3),
            speeding_table: speeding_table.to_owned(),
            alerts_table: alerts_table.to_owned(),
            limits,
        }
    }

    /// How far back a stream goes.
    ///
    /// # Errors
    /// When it cannot be described.
    pub async fn reach(&self, stream: &str) -> Result<StreamReach, RemoteFailure> {
        let answer = self
            .caller(stream)
            .retried("kinesis DescribeStreamSummary", || self.kinesis.describe_stream_summary().stream_name(stream).send())
            .await
            .map_err(|failed| failed.failure)?;
        let summary = answer.stream_description_summary();
        let hours = summary.map_or(24, |summary| summary.retention_period_hours);
        Ok(StreamReach {
            keeps: Duration::from_secs(u64::try_from(hours).unwrap_or(24) * 3_600),
            account: summary.and_then(|summary| account_of(&summary.stream_arn)),
        })
    }

    /// The claim on the text of an event.
    ///
    /// # Errors
    /// When the alerts table cannot be read.
    pub async fn claim(&self, event_id: &str) -> Result<Option<StoredClaim>, RemoteFailure> {
        let answer = self
            .caller(&self.alerts_table)
            .retried("dynamodb GetItem", || {
                let request = self.dynamodb.get_item().table_name(&self.alerts_table);
                request.key("eventId", AttributeValue::S(event_id.to_owned())).consistent_read(true).send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok(answer.item().map(|item| StoredClaim {
            state: text(item, "state").unwrap_or_default(),
            owner: text(item, "owner").unwrap_or_default(),
            claimed_at: text(item, "claimedAt"),
            sent_at: text(item, "sentAt"),
            message_id: text(item, "messageId"),
        }))
    }

    /// A stored violation by its key.
    ///
    /// # Errors
    /// When the speeding table cannot be read.
    pub async fn violation(&self, plate: &str, event_id: &str) -> Result<Option<SpeedEvent>, RemoteFailure> {
        let answer = self
            .caller(&self.speeding_table)
            .retried("dynamodb GetItem", || {
                let request = self.dynamodb.get_item().table_name(&self.speeding_table);
                let request = request.key("licensePlate", AttributeValue::S(plate.to_owned()));
                request.key("eventId", AttributeValue::S(event_id.to_owned())).consistent_read(true).send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok(answer.item().and_then(event))
    }

    /// The stored violations of a plate as it was received, in no order, and whether these are all.
    ///
    /// # Errors
    /// When the speeding table cannot be read.
    pub async fn violations_of(&self, plate: &str) -> Result<(Vec<SpeedEvent>, bool), RemoteFailure> {
        let mut found = Vec::new();
        let mut from: Option<Item> = None;
        loop {
            let page = self
                .caller(&self.speeding_table)
                .retried("dynamodb Query", || {
                    self.dynamodb
                        .query()
                        .table_name(&self.speeding_table)
                        .key_condition_expression("licensePlate = :plate")
                        .expression_attribute_values(":plate", AttributeValue::S(plate.to_owned()))
                        .set_exclusive_start_key(from.clone())
                        .send()
                })
                .await
                .map_err(|failed| failed.failure)?;
            found.extend(page.items().iter().filter_map(event));
            from = page.last_evaluated_key;
            if from.is_none() || found.len() >= MOST_OF_PLATE {
                return Ok((found, from.is_none()));
            }
        }
    }

    /// Looks through one page of the speeding table for an event, since its key begins with the plate. A page is 1 MB
    /// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html>).
    ///
    /// # Errors
    /// When the speeding table cannot be read.
    pub async fn scan(
        &self,
        event_id: &str,
        from: Option<ScanPlace>,
    ) -> Result<(Option<SpeedEvent>, Option<ScanPlace>), RemoteFailure> {
        let from = from.map(|ScanPlace(key)| key);
        let page = self
            .caller(&self.speeding_table)
            .retried("dynamodb Scan", || {
                self.dynamodb
                    .scan()
                    .table_name(&self.speeding_table)
                    .filter_expression("eventId = :id")
                    .expression_attribute_values(":id", AttributeValue::S(event_id.to_owned()))
                    .set_exclusive_start_key(from.clone())
                    .send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok((page.items().iter().find_map(event), page.last_evaluated_key.map(ScanPlace)))
    }

    /// One page of all stored violations; `None` stands for an item that is none.
    ///
    /// # Errors
    /// When the speeding table cannot be read.
    pub async fn page(&self, from: Option<ScanPlace>) -> Result<(Vec<Option<SpeedEvent>>, Option<ScanPlace>), RemoteFailure> {
        let from = from.map(|ScanPlace(key)| key);
        let page = self
            .caller(&self.speeding_table)
            .retried("dynamodb Scan", || {
                self.dynamodb.scan().table_name(&self.speeding_table).set_exclusive_start_key(from.clone()).send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok((page.items().iter().map(event).collect(), page.last_evaluated_key.map(ScanPlace)))
    }

    /// Up to 1,000 objects of the archive after a key, in the order of their keys, and whether there are more.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn objects(&self, bucket: &str, prefix: &str, after: &str) -> Result<(Vec<ArchiveObject>, bool), RemoteFailure> {
        let page = self
            .caller(bucket)
            .retried("s3 ListObjectsV2", || {
                let after = (!after.is_empty()).then(|| after.to_owned());
                self.s3.list_objects_v2().bucket(bucket).prefix(prefix).set_start_after(after).send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        let object = |object: &aws_sdk_s3::types::Object| {
            Some(ArchiveObject {
                key: object.key.clone()?,
                written: object.last_modified.and_then(|time| SystemTime::try_from(time).ok()),
                bytes: u64::try_from(object.size.unwrap_or_default()).unwrap_or_default(),
            })
        };
        Ok((page.contents().iter().filter_map(object).collect(), page.is_truncated.unwrap_or_default()))
    }

    /// The lines of an object.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Bytes, RemoteFailure> {
        let object = self
            .caller(bucket)
            .retried("s3 GetObject", || self.s3.get_object().bucket(bucket).key(key).send())
            .await
            .map_err(|failed| failed.failure)?;
        let body = object.body.collect().await.map_err(|error| RemoteFailure {
            call: "s3 GetObject",
            kind: FailureKind::Unreachable,
            detail: format!("`{bucket}`: {error}"),
        })?;
        Ok(body.into_bytes())
    }

    fn caller(&self, resource: &str) -> Caller {
        Caller::new(resource.to_owned(), self.limits.clone())
    }
}

fn text(item: &Item, name: &str) -> Option<String> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned()
}

/// An item of the speeding table, unless somebody else wrote it.
fn event(item: &Item) -> Option<SpeedEvent> {
    let names = ["iottimestamp", "licensePlate", "longitude", "latitude", "city", "state"];
    let values = names.map(|name| text(item, name));
    let [Some(timestamp), Some(plate), Some(longitude), Some(latitude), Some(city), Some(state)] = &values else { return None };
    let (id, speed) = (text(item, "eventId")?, item.get("speed")?.as_n().ok()?);
    let speed = SpeedMph::parse(speed).ok()?;
    LicensePlate::check(plate).ok()?;
    EventId::check(&id).ok()?;
    let bytes: usize = [timestamp, plate, longitude, latitude, city, state].iter().map(|value| value.len()).sum();
    (bytes < usize::from(u16::MAX) - id.len())
        .then(|| SpeedEvent::new([timestamp, plate, longitude, latitude, city, state], &id, speed))
}

fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::violation_item;
    use crate::testing::sample_event;

    #[test]
    fn what_was_stored_is_read_back() {
        let stored = sample_event("4-2288B", "e-1", 80);
        assert_eq!(event(&violation_item(&stored)), Some(stored.clone()));
        for name in ["city", "speed", "eventId", "licensePlate"] {
            let mut item = violation_item(&stored);
            item.remove(name);
            assert_eq!(event(&item), None, "{name}");
        }
    }
}
