//! The out-stream in Kinesis.

use std::collections::{HashSet, VecDeque};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::ports::{FailureKind, OutRecord, Refused, RemoteFailure, ViolationStream};

/// Most records of one call (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>).
const MOST_RECORDS: usize = 500;
/// Most bytes of one call, keys included. The limit was 5 MiB for years and is 10 MiB now; this fits both.
const MOST_BYTES: usize = 4_500 * 1024;

/// A stream that violations are appended to.
pub struct KinesisViolationStream {
    client: Client,
    stream: String,
    caller: Caller,
}

impl KinesisViolationStream {
    /// Appends to the stream of this name.
    #[must_use]
    pub fn new(client: &Client, stream: &str, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_kinesis, client);
        Self { client, stream: stream.to_owned(), caller: Caller::new(stream.to_owned(), limits) }
    }
}

/// The records of the next call: the oldest pending one of each key, because PutRecords may accept a later record and fail an
/// earlier one, and two of one key would then be in the wrong order.
fn next_call(records: &[OutRecord], pending: &VecDeque<usize>, most: usize) -> Vec<usize> {
    let mut keys = HashSet::new();
    let mut bytes = 0;
    let mut call = Vec::new();
    for &index in pending {
        let record = &records[index];
        if !keys.insert(record.partition_key.as_str()) {
            continue;
        }
        bytes += record.data.len() + record.partition_key.len();
        if !call.is_empty() && bytes > MOST_BYTES {
            break;
        }
        call.push(index);
        if call.len() == most {
            break;
        }
    }
    call
}

fn entry(record: &OutRecord) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder()
        .partition_key(&record.partition_key)
        .data(Blob::new(record.data.to_vec()))
        .build()
        .expect("key and data are given")
}

#[async_trait]
impl ViolationStream for KinesisViolationStream {
    async fn publish(&self, records: &[OutRecord]) -> Result<Vec<Refused>, RemoteFailure> {
        let call = "kinesis PutRecords";
        let mut pending: VecDeque<usize> = (0..records.len()).collect();
        let mut refused = Vec::new();
        let mut most = MOST_RECORDS;
        let mut retries = self.caller.retries();
        while !pending.is_empty() {
            let chosen = next_call(records, &pending, most);
            let entries = chosen.iter().map(|&index| entry(&records[index])).collect();
            let request = self.client.put_records().stream_name(&self.stream).set_records(Some(entries)).send();
            let failure = match self.caller.once(call, request).await {
                Ok(answer) => {
                    let failed = answer.records.iter().find_map(|result| result.error_code.clone());
                    let accepted: HashSet<usize> = chosen
                        .iter()
                        .zip(&answer.records)
                        .filter(|(_, result)| result.error_code.is_none())
                        .map(|(&index, _)| index)
                        .collect();
                    pending.retain(|index| !accepted.contains(index));
                    match failed {
                        None => {
                            // Calls that follow only from keys met twice are no retries.
                            retries = self.caller.retries();
                            continue;
                        }
                        Some(code) => self.caller.left_out(call, &code),
                    }
                }
                // One call does not say which record it refuses, so from here on records go alone.
                Err(failed) if failed.blames_content() && chosen.len() > 1 => {
                    most = 1;
                    continue;
                }
                Err(failed) if failed.blames_content() => {
                    pending.retain(|index| *index != chosen[0]);
                    refused.push(Refused { index: chosen[0], reason: failed.failure.detail });
                    continue;
                }
                Err(failed) => failed.failure,
            };
            if failure.kind == FailureKind::Refused || !retries.wait().await {
                return Err(failure);
            }
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(key: &str, bytes: usize) -> OutRecord {
        OutRecord { partition_key: key.to_owned(), data: Bytes::from(vec![b'x'; bytes]) }
    }

    #[test]
    fn a_call_takes_the_oldest_record_of_each_key() {
        let records = [record("a", 1), record("b", 1), record("a", 1), record("c", 1)];
        assert_eq!(next_call(&records, &VecDeque::from([0, 1, 2, 3]), 500), [0, 1, 3]);
        assert_eq!(next_call(&records, &VecDeque::from([2]), 500), [2]);
        assert_eq!(next_call(&records, &VecDeque::from([0, 1, 2, 3]), 1), [0]);
    }

    #[test]
    fn a_call_stays_within_its_bytes_but_takes_at_least_one() {
        let records = [record("a", 4_000 * 1024), record("b", 1_000 * 1024), record("c", 9_000 * 1024)];
        assert_eq!(next_call(&records, &VecDeque::from([0, 1, 2]), 500), [0]);
        assert_eq!(next_call(&records, &VecDeque::from([2]), 500), [2]);
    }
}
