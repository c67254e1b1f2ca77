//! The archive, by way of a Firehose delivery stream.

use async_trait::async_trait;
use aws_sdk_firehose::Client;
use aws_sdk_firehose::primitives::Blob;
use aws_sdk_firehose::types::Record;
use bytes::Bytes;

use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::ports::{Archive, FailureKind, Refused, RemoteFailure};

/// Most bytes of one record (<https://docs.aws.amazon.com/firehose/latest/dev/limits.html>).
const MOST_RECORD_BYTES: usize = 1000 * 1024;
/// Records are packed up to here: each is billed in steps of 5 KB, so full ones cost what their bytes cost.
const GOOD_RECORD_BYTES: usize = 500 * 1024;
const MOST_CALL_RECORDS: usize = 500;
/// Just below the limit of 4 MiB for one call.
const MOST_CALL_BYTES: usize = 4_000 * 1024;

/// A delivery stream that lines are appended to.
pub struct FirehoseArchive {
    client: Client,
    stream: String,
    caller: Caller,
}

impl FirehoseArchive {
    /// Appends to the delivery stream of this name.
    #[must_use]
    pub fn new(client: &Client, stream: &str, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_firehose, client);
        Self { client, stream: stream.to_owned(), caller: Caller::new(stream.to_owned(), limits) }
    }
}

/// One record: consecutive lines, by their indices.
type Pack = Vec<usize>;

fn packed(lines: &[Bytes], fits: impl Iterator<Item = usize>) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::new();
    let mut bytes = 0;
    for index in fits {
        match packs.last_mut() {
            Some(pack) if bytes + lines[index].len() <= GOOD_RECORD_BYTES => pack.push(index),
            _ => {
                packs.push(vec![index]);
                bytes = 0;
            }
        }
        bytes += lines[index].len();
    }
    packs
}

fn record(lines: &[Bytes], pack: &Pack) -> Record {
    let data: Vec<u8> = pack.iter().flat_map(|&index| lines[index].iter().copied()).collect();
    Record::builder().data(Blob::new(data)).build().expect("the data is given")
}

/// How many of the pending packs go into the next call.
fn call_len(lines: &[Bytes], pending: &[Pack], most: usize) -> usize {
    let mut bytes = 0;
    let fits = pending.iter().take(most).take_while(|pack| {
        bytes += pack.iter().map(|&index| lines[index].len()).sum::<usize>();
        bytes <= MOST_CALL_BYTES
    });
    fits.count().max(1)
}

#[async_trait]
impl Archive for FirehoseArchive {
    async fn append(&self, lines: &[Bytes]) -> Result<Vec<Refused>, RemoteFailure> {
        let call = "firehose PutRecordBatch";
        let too_long = |index: &usize| lines[*index].len() > MOST_RECORD_BYTES;
        let mut refused: Vec<Refused> = (0..lines.len())
            .filter(too_long)
            .map(|index| Refused {
                index,
                reason: format!("a line of {} bytes, more than {MOST_RECORD_BYTES}", lines[index].len()),
            })
            .collect();
        let mut pending = packed(lines, (0..lines.len()).filter(|index| !too_long(index)));
        let mut most = MOST_CALL_RECORDS;
        let mut retries = self.caller.retries();
        while !pending.is_empty() {
            let rest = pending.split_off(call_len(lines, &pending, most));
            let records = pending.iter().map(|pack| record(lines, pack)).collect();
            let request = self.client.put_record_batch().delivery_stream_name(&self.stream).set_records(Some(records)).send();
            let failure = match self.caller.once(call, request).await {
                Ok(answer) => {
                    let results = answer.request_responses;
                    let code = results.iter().find_map(|result| result.error_code.clone());
                    let failed = |n: usize| results.get(n).is_some_and(|result| result.error_code.is_some());
                    pending = pending.into_iter().enumerate().filter(|(n, _)| failed(*n)).map(|(_, pack)| pack).collect();
                    pending.extend(rest);
                    match code {
                        None => {
                            retries = self.caller.retries();
                            continue;
                        }
                        Some(code) => self.caller.left_out(call, &code),
                    }
                }
                Err(failed) if failed.blames_content() => {
                    if let [pack] = pending.as_slice()
                        && let [index] = pack.as_slice()
                    {
                        refused.push(Refused { index: *index, reason: failed.failure.detail });
                        pending = rest;
                    } else {
                        // One call does not say which line it refuses, so from here on lines go alone.
                        most = 1;
                        pending.extend(rest);
                        pending = pending.into_iter().flatten().map(|index| vec![index]).collect();
                    }
                    continue;
                }
                Err(failed) => {
                    pending.extend(rest);
                    failed.failure
                }
            };
            if failure.kind == FailureKind::Refused || !retries.wait().await {
                return Err(failure);
            }
        }
        refused.sort_by_key(|refused| refused.index);
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(kib: &[usize]) -> Vec<Bytes> {
        kib.iter().map(|kib| Bytes::from(vec![b'x'; kib * 1024])).collect()
    }

    #[test]
    fn lines_are_packed_up_to_half_a_record_and_longer_ones_stand_alone() {
        let lines = lines(&[200, 200, 200, 900, 100]);
        assert_eq!(packed(&lines, 0..5), [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert_eq!(record(&lines, &vec![0, 1]).data.as_ref().len(), 400 * 1024);
    }

    #[test]
    fn a_call_stays_within_records_and_bytes() {
        let lines = lines(&[900, 900, 900, 900, 900]);
        let packs = packed(&lines, 0..5);
        assert_eq!(call_len(&lines, &packs, MOST_CALL_RECORDS), 4);
        assert_eq!(call_len(&lines, &packs, 1), 1);
    }
}
