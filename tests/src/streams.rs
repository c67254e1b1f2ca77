//! Reading and writing Kinesis streams as a client of AWS does, apart from the pipeline's own code.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Record, ShardIteratorType};

pub const IN_STREAM: &str = "rtr-iot-kinesis-stream";
pub const OUT_STREAM: &str = "rtr-iot-kinesis-out-stream";
pub const ERROR_STREAM: &str = "rtr-iot-kinesis-error-stream";

/// Most records of one PutRecords call.
const MOST_AT_ONCE: usize = 500;

/// Every record of a stream, shard by shard, from the oldest on.
///
/// # Errors
/// When the stream cannot be read.
pub async fn all_records(kinesis: &Client, stream: &str) -> Result<Vec<Record>> {
    Ok(records_by_shard(kinesis, stream).await?.into_values().flatten().collect())
}

/// The same, by shard.
///
/// # Errors
/// When the stream cannot be read.
pub async fn records_by_shard(kinesis: &Client, stream: &str) -> Result<BTreeMap<String, Vec<Record>>> {
    let mut by_shard = BTreeMap::new();
    let shards = kinesis.list_shards().stream_name(stream).send().await.context("ListShards failed")?;
    for shard in shards.shards() {
        let records: &mut Vec<Record> = by_shard.entry(shard.shard_id().to_owned()).or_default();
        let start = kinesis.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.context("GetShardIterator failed")?;
        let mut iterator = start.shard_iterator;
        while let Some(at) = iterator {
            let page = kinesis.get_records().shard_iterator(at).limit(10_000).send().await.context("GetRecords failed")?;
            let at_end = page.records.is_empty() && page.millis_behind_latest.unwrap_or_default() == 0;
            records.extend(page.records);
            iterator = if at_end { None } else { page.next_shard_iterator };
        }
    }
    Ok(by_shard)
}

/// Puts records, all of which must be accepted.
///
/// # Errors
/// When one is not.
pub async fn put(kinesis: &Client, stream: &str, records: &[(String, Vec<u8>)]) -> Result<()> {
    for chunk in records.chunks(MOST_AT_ONCE) {
        let mut request = kinesis.put_records().stream_name(stream);
        for (key, data) in chunk {
            request =
                request.records(PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data.clone())).build()?);
        }
        let answer = request.send().await.context("PutRecords failed")?;
        ensure!(answer.failed_record_count.unwrap_or_default() == 0, "some records were not accepted: {answer:?}");
    }
    Ok(())
}

/// Puts the records of a stream onto it once more, as a replay or a doubled delivery does.
///
/// # Errors
/// When they cannot be read or put.
pub async fn repeat_all(kinesis: &Client, stream: &str) -> Result<usize> {
    let records: Vec<_> = all_records(kinesis, stream)
        .await?
        .into_iter()
        .map(|record| (record.partition_key.unwrap_or_default(), record.data.into_inner()))
        .collect();
    put(kinesis, stream, &records).await?;
    Ok(records.len())
}
