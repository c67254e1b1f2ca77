//! Kinesis records that the Kinesis Producer Library filled with several user records
//! (<https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md>).

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

/// Of the library's message only what a reader needs: keys matter only to who routes records.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

/// The user records in a record, whose place in this list is their sub-sequence number. `None` for a record that is none of the
/// library's, damaged ones among them.
///
/// The Kinesis Client Library drops user records that came to another shard than their keys say, since the producer sends those
/// again. Here they stay: a repeated reading changes nothing, and a producer that gave up would have lost them.
pub(super) fn user_records(data: &Bytes) -> Option<Vec<Bytes>> {
    if !data.starts_with(&MAGIC) || data.len() <= MAGIC.len() + DIGEST_BYTES {
        return None;
    }
    let (message, digest) = (data.slice(MAGIC.len()..data.len() - DIGEST_BYTES), &data[data.len() - DIGEST_BYTES..]);
    if Md5::digest(&message)[..] != *digest {
        return None;
    }
    let aggregated = AggregatedRecord::decode(message).ok()?;
    Some(aggregated.records.into_iter().map(|record| record.data).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::aggregated_record;

    #[test]
    fn a_record_of_the_producer_library_is_opened() {
        let (record, readings) = aggregated_record();
        assert_eq!(user_records(&record.into()), Some(readings.into_iter().map(Bytes::from).collect()));
    }

    #[test]
    fn other_records_and_damaged_ones_are_left_closed() {
        let (record, _) = aggregated_record();
        for n in 0..record.len() {
            let mut damaged = record.clone();
            damaged[n] ^= 1;
            assert_eq!(user_records(&damaged.into()), None, "byte {n}");
            assert_eq!(user_records(&record[..n].to_vec().into()), None, "{n} bytes");
        }
        assert_eq!(user_records(&Bytes::from_static(br#"{"licensePlate":"4-2288B"}"#)), None);
        let no_message = [0xff; 5];
        let sealed = [&MAGIC[..], &no_message, &Md5::digest(no_message)].concat();
        assert_eq!(user_records(&sealed.into()), None);
    }
}
