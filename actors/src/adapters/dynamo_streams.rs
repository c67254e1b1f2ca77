//! Changes of a DynamoDB table, read from its stream.

use std::sync::Mutex;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client as TableClient;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::types::{AttributeValue, Record as Change, ShardIteratorType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::failure::{CallLimits, Caller, without_sdk_retries};
use super::kinesis::{incomplete, named, parts, source_error};
use super::throttles::Throttles;
use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{FailureKind, Page, Record, RemoteFailure, Shard, ShardIterator, ShardSource, SourceError, StartAt};

/// Most records of one call (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>).
const MOST_RECORDS: usize = 1000;

/// The shards of a table's latest stream.
///
/// A record's data is JSON: `{"eventName":"INSERT|MODIFY|REMOVE","newImage":{<attribute>:{"S":"…"}}}`, each attribute as
/// DynamoDB's own JSON writes it; a removal has no `newImage`.
pub struct DynamoStreamSource {
    tables: TableClient,
    streams: Client,
    table: String,
    caller: Caller,
    /// Changes when the stream is switched off and on again, so it is looked up anew with every list of shards.
    arn: Mutex<Option<String>>,
    throttles: Throttles,
}

impl DynamoStreamSource {
    /// Reads the latest stream of this table.
    #[must_use]
    pub fn new(tables: &TableClient, streams: &Client, table: &str, limits: CallLimits) -> Self {
        Self {
            tables: without_sdk_retries!(aws_sdk_dynamodb, tables),
            streams: without_sdk_retries!(aws_sdk_dynamodbstreams, streams),
            table: table.to_owned(),
            caller: Caller::new(table.to_owned(), limits),
            arn: Mutex::new(None),
            throttles: Throttles::default(),
        }
    }

    async fn find_stream(&self) -> Result<String, SourceError> {
        let call = "dynamodb DescribeTable";
        let answer = self
            .caller
            .retried(call, || self.tables.describe_table().table_name(&self.table).send())
            .await
            .map_err(|failed| SourceError::Remote(failed.failure))?;
        let arn = answer.table.and_then(|table| table.latest_stream_arn).ok_or_else(|| {
            SourceError::Remote(RemoteFailure {
                call,
                kind: FailureKind::Refused,
                detail: format!("table `{}` has no stream", self.table),
            })
        })?;
        *self.arn.lock().expect("nothing panics with the name locked") = Some(arn.clone());
        Ok(arn)
    }

    async fn stream_arn(&self) -> Result<String, SourceError> {
        let known = self.arn.lock().expect("nothing panics with the name locked").clone();
        match known {
            Some(arn) => Ok(arn),
            None => self.find_stream().await,
        }
    }

    async fn open(&self, shard: &ShardId, from: &StartAt) -> Result<String, SourceError> {
        let arn = self.stream_arn().await?;
        let (kind, sequence) = match from {
            // These streams cannot be opened at a time, so the oldest record is the only start that misses nothing.
            StartAt::TrimHorizon | StartAt::Timestamp(_) => (ShardIteratorType::TrimHorizon, None),
            StartAt::Latest => (ShardIteratorType::Latest, None),
            StartAt::Sequence(number) => (ShardIteratorType::AtSequenceNumber, Some(number.as_str().to_owned())),
        };
        let answer = self
            .caller
            .retried("dynamodbstreams GetShardIterator", || {
                self.streams
                    .get_shard_iterator()
                    .stream_arn(&arn)
                    .shard_id(shard.as_str())
                    .shard_iterator_type(kind.clone())
                    .set_sequence_number(sequence.clone())
                    .send()
            })
            .await;
        match answer {
            Ok(answer) => answer.shard_iterator.ok_or_else(|| incomplete("dynamodbstreams GetShardIterator", "no iterator")),
            Err(failed) if sequence.is_some() && (failed.blames_content() || failed.code == "TrimmedDataAccessException") => {
                Box::pin(self.open(shard, &StartAt::TrimHorizon)).await
            }
            Err(failed) => Err(source_error(failed, shard)),
        }
    }
}

#[async_trait]
impl ShardSource for DynamoStreamSource {
    fn stream(&self) -> &str {
        &self.table
    }

    /// AWS names a limit for one answer (1 MB) and none for a second.
    fn most_bytes_per_second(&self) -> f64 {
        f64::INFINITY
    }

    fn throttles(&self, shard: &ShardId) -> Option<u64> {
        Some(self.throttles.of(shard))
    }

    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        let arn = self.find_stream().await?;
        let mut shards = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .caller
                .retried("dynamodbstreams DescribeStream", || {
                    self.streams.describe_stream().stream_arn(&arn).set_exclusive_start_shard_id(after.clone()).send()
                })
                .await
                .map_err(|failed| SourceError::Remote(failed.failure))?;
            let Some(description) = page.stream_description else { return Ok(shards) };
            shards.extend(description.shards.unwrap_or_default().into_iter().filter_map(|shard| {
                let parents = shard.parent_shard_id.iter().map(|id| ShardId::new(id)).collect();
                Some(Shard { id: ShardId::new(&shard.shard_id?), parents, hash_range: None })
            }));
            after = description.last_evaluated_shard_id;
            if after.is_none() {
                return Ok(shards);
            }
        }
    }

    async fn iterator(&self, shard: &ShardId, from: &StartAt) -> Result<ShardIterator, SourceError> {
        Ok(named(shard, &self.open(shard, from).await?))
    }

    async fn read(&self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError> {
        let (shard, token) = parts(iterator);
        let limit = i32::try_from(limit.clamp(1, MOST_RECORDS)).expect("1,000 fits");
        let call = "dynamodbstreams GetRecords";
        let request = || self.throttles.counted(&shard, self.streams.get_records().shard_iterator(token).limit(limit).send());
        let answer = self.caller.retried(call, request).await.map_err(|failed| match failed.code.as_str() {
            // The place of the iterator is trimmed away: opening the shard anew finds the oldest record left.
            "TrimmedDataAccessException" => SourceError::IteratorExpired,
            _ => source_error(failed, &shard),
        })?;
        let records = answer
            .records
            .unwrap_or_default()
            .into_iter()
            .map(|change| record(change).ok_or_else(|| incomplete(call, "a record without name or sequence number")));
        Ok(Page {
            records: records.collect::<Result<_, _>>()?,
            next: answer.next_shard_iterator.map(|token| named(&shard, &token)),
            millis_behind_latest: None,
        })
    }
}

fn record(change: Change) -> Option<Record> {
    let name = change.event_name?;
    let details = change.dynamodb?;
    let sequence = SequenceNumber::parse(&details.sequence_number?).ok()?;
    let mut data = Map::new();
    data.insert("eventName".to_owned(), name.as_str().into());
    if let Some(image) = details.new_image {
        data.insert("newImage".to_owned(), image.iter().map(|(key, value)| (key.clone(), rendered(value))).collect());
    }
    Some(Record {
        position: Position { sequence, sub: 0 },
        data: Bytes::from(Value::Object(data).to_string()),
        arrived: details.approximate_creation_date_time.and_then(|time| SystemTime::try_from(time).ok()),
    })
}

fn rendered(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
        AttributeValue::Bool(bool) => json!({ "BOOL": bool }),
        AttributeValue::Null(is_null) => json!({ "NULL": is_null }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::Bs(all) => json!({ "BS": all.iter().map(|bytes| STANDARD.encode(bytes)).collect::<Vec<_>>() }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(rendered).collect::<Vec<_>>() }),
        AttributeValue::M(map) => {
            json!({ "M": map.iter().map(|(key, value)| (key.clone(), rendered(value))).collect::<Map<_, _>>() })
        }
        // A kind of value that this SDK does not know cannot be in a table that it wrote.
        _ => json!({ "NULL": true }),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::primitives::Blob;

    use super::*;

    #[test]
    fn every_kind_of_attribute_is_rendered_as_dynamodb_writes_it() {
        let text = || AttributeValue::S("a".to_owned());
        for (value, expected) in [
            (text(), json!({"S": "a"})),
            (AttributeValue::N("76".to_owned()), json!({"N": "76"})),
            (AttributeValue::B(Blob::new(b"hello")), json!({"B": "aGVsbG8="})),
            (AttributeValue::Bool(true), json!({"BOOL": true})),
            (AttributeValue::Null(true), json!({"NULL": true})),
            (AttributeValue::Ss(vec!["a".to_owned()]), json!({"SS": ["a"]})),
            (AttributeValue::Ns(vec!["1".to_owned()]), json!({"NS": ["1"]})),
            (AttributeValue::Bs(vec![Blob::new(b"hi")]), json!({"BS": ["aGk="]})),
            (AttributeValue::L(vec![text()]), json!({"L": [{"S": "a"}]})),
            (AttributeValue::M([("k".to_owned(), text())].into()), json!({"M": {"k": {"S": "a"}}})),
        ] {
            assert_eq!(rendered(&value), expected);
        }
    }
}
