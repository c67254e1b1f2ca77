//! Records from a Kinesis stream, by polling.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;

use super::aggregated::user_records;
use super::failure::{CallLimits, Caller, Failed, without_sdk_retries};
use super::throttles::Throttles;
use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{FailureKind, Page, Record, RemoteFailure, Shard, ShardIterator, ShardSource, SourceError, StartAt};

/// Most records of one GetRecords call (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>).
const MOST_RECORDS: usize = 10_000;
/// Most bytes that a shard gives in a second (same page).
const MOST_BYTES_PER_SECOND: f64 = 2e6;

/// The shards of one Kinesis stream.
pub struct KinesisSource {
    client: Client,
    stream: String,
    caller: Caller,
    throttles: Throttles,
}

impl KinesisSource {
    /// Reads the stream of this name.
    #[must_use]
    pub fn new(client: &Client, stream: &str, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_kinesis, client);
        let caller = Caller::new(stream.to_owned(), limits);
        Self { client, stream: stream.to_owned(), caller, throttles: Throttles::default() }
    }

    async fn open(&self, shard: &ShardId, from: &StartAt) -> Result<String, SourceError> {
        let (kind, sequence, time) = match from {
            StartAt::TrimHorizon => (ShardIteratorType::TrimHorizon, None, None),
            StartAt::Latest => (ShardIteratorType::Latest, None, None),
            StartAt::Timestamp(time) => (ShardIteratorType::AtTimestamp, None, Some(DateTime::from(*time))),
            StartAt::Sequence(number) => (ShardIteratorType::AtSequenceNumber, Some(number.as_str().to_owned()), None),
        };
        let answer = self
            .caller
            .retried("kinesis GetShardIterator", || {
                self.client
                    .get_shard_iterator()
                    .stream_name(&self.stream)
                    .shard_id(shard.as_str())
                    .shard_iterator_type(kind.clone())
                    .set_starting_sequence_number(sequence.clone())
                    .set_timestamp(time)
                    .send()
            })
            .await;
        match answer {
            Ok(answer) => answer.shard_iterator.ok_or_else(|| incomplete("kinesis GetShardIterator", "no iterator")),
            Err(failed) if failed.blames_content() && sequence.is_some() => {
                Box::pin(self.open(shard, &StartAt::TrimHorizon)).await
            }
            Err(failed) => Err(source_error(failed, shard)),
        }
    }
}

#[async_trait]
impl ShardSource for KinesisSource {
    fn stream(&self) -> &str {
        &self.stream
    }

    fn most_bytes_per_second(&self) -> f64 {
        MOST_BYTES_PER_SECOND
    }

    fn throttles(&self, shard: &ShardId) -> Option<u64> {
        Some(self.throttles.of(shard))
    }

    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        let mut shards = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self
                .caller
                .retried("kinesis ListShards", || {
                    // The stream's name must be left out where a token is given.
                    let name = token.is_none().then(|| self.stream.clone());
                    self.client.list_shards().set_stream_name(name).set_next_token(token.clone()).send()
                })
                .await
                .map_err(|failed| SourceError::Remote(failed.failure))?;
            shards.extend(page.shards.unwrap_or_default().into_iter().map(|shard| Shard {
                id: ShardId::new(&shard.shard_id),
                parents: shard.parent_shard_id.iter().chain(&shard.adjacent_parent_shard_id).map(|id| ShardId::new(id)).collect(),
                hash_range: shard.hash_key_range.map(|range| (range.starting_hash_key, range.ending_hash_key)),
            }));
            token = page.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
    }

    async fn iterator(&self, shard: &ShardId, from: &StartAt) -> Result<ShardIterator, SourceError> {
        Ok(named(shard, &self.open(shard, from).await?))
    }

    async fn read(&self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError> {
        let (shard, token) = parts(iterator);
        let limit = i32::try_from(limit.clamp(1, MOST_RECORDS)).expect("10,000 fits");
        let answer = self
            .caller
            .retried("kinesis GetRecords", || {
                self.throttles.counted(&shard, self.client.get_records().shard_iterator(token).limit(limit).send())
            })
            .await
            .map_err(|failed| source_error(failed, &shard))?;
        let mut records = Vec::with_capacity(answer.records.len());
        for record in answer.records {
            let sequence = SequenceNumber::parse(&record.sequence_number)
                .map_err(|error| incomplete("kinesis GetRecords", &error.to_string()))?;
            let arrived = record.approximate_arrival_timestamp.and_then(|time| SystemTime::try_from(time).ok());
            let data = Bytes::from(record.data.into_inner());
            let user_records = user_records(&data).unwrap_or_else(|| vec![data]);
            records.extend((0..).zip(user_records).map(|(sub, data)| {
                let position = Position { sequence: sequence.clone(), sub };
                Record { position, data, arrived }
            }));
        }
        Ok(Page {
            records,
            next: answer.next_shard_iterator.map(|token| named(&shard, &token)),
            millis_behind_latest: answer.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()),
        })
    }
}

/// An iterator that knows its shard, so that a shard that went away can be named.
pub(super) fn named(shard: &ShardId, token: &str) -> ShardIterator {
    ShardIterator(format!("{shard} {token}"))
}

/// The shard and the service's own iterator.
pub(super) fn parts(iterator: &ShardIterator) -> (ShardId, &str) {
    let (shard, token) = iterator.0.split_once(' ').unwrap_or(("", &iterator.0));
    (ShardId::new(shard), token)
}

/// What a failed call on one shard means to its reader; Kinesis and DynamoDB streams use the same codes.
pub(super) fn source_error<E>(failed: Failed<E>, shard: &ShardId) -> SourceError {
    match failed.code.as_str() {
        "ExpiredIteratorException" => SourceError::IteratorExpired,
        "ResourceNotFoundException" => SourceError::Gone(shard.clone()),
        _ => SourceError::Remote(failed.failure),
    }
}

/// An answer that lacks what the service promises.
pub(super) fn incomplete(call: &'static str, detail: &str) -> SourceError {
    SourceError::Remote(RemoteFailure { call, kind: FailureKind::ServerError, detail: detail.to_owned() })
}
