//! Packs rows into Firehose records, and records into calls, within Firehose's limits (pure).
//!
//! Firehose bills each record rounded up to 5 KiB: a thousand drivers of 273 bytes cost 18 times less in records of many rows
//! than in records of one (<https://aws.amazon.com/firehose/pricing/>).

use bytes::Bytes;

/// Records in one PutRecordBatch call (<https://docs.aws.amazon.com/firehose/latest/dev/limits.html>).
pub(crate) const MAX_RECORDS_PER_CALL: usize = 500;

/// Bytes in one PutRecordBatch call; the same page.
pub(crate) const MAX_BYTES_PER_CALL: usize = 4 * 1024 * 1024;

/// Bytes in one record, before base64; the same page.
pub(crate) const MAX_BYTES_PER_RECORD: usize = 1000 * 1024;

/// Many rows in one Firehose record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedRecord {
    pub(crate) data: Bytes,
    pub(crate) rows: u64,
    /// The lines of its first and its last row. Rows come in the order of the file, so no row between them is in another record.
    pub(crate) lines: (u64, u64),
}

/// Gathers lines until a record is full.
#[derive(Debug)]
pub(crate) struct Packer {
    limit: usize,
    data: Vec<u8>,
    rows: u64,
    lines: (u64, u64),
}

impl Packer {
    /// Packs into records of at most `record_bytes`.
    pub(crate) fn new(record_bytes: usize) -> Self {
        Self { limit: record_bytes.min(MAX_BYTES_PER_RECORD), data: Vec::new(), rows: 0, lines: (0, 0) }
    }

    /// Adds the JSON of the row on line `line`; gives the record that it did not fit into any more.
    pub(crate) fn push(&mut self, line: u64, json: &[u8]) -> Option<PackedRecord> {
        let full = if self.data.len() + json.len() > self.limit { self.take() } else { None };
        if self.data.is_empty() {
            self.data.reserve_exact(self.limit.max(json.len()));
            self.lines.0 = line;
        }
        self.data.extend_from_slice(json);
        self.rows += 1;
        self.lines.1 = line;
        full
    }

    /// The last record, if any row is left.
    pub(crate) fn take(&mut self) -> Option<PackedRecord> {
        let rows = std::mem::take(&mut self.rows);
        let data = std::mem::take(&mut self.data);
        (rows > 0).then(|| PackedRecord { data: Bytes::from(data), rows, lines: self.lines })
    }
}

/// How many of the first records, given their sizes, fit into one call.
pub(crate) fn call_len(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    sizes
        .take(MAX_RECORDS_PER_CALL)
        .take_while(|size| {
            bytes += size;
            bytes <= MAX_BYTES_PER_CALL
        })
        .count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_hold_whole_lines_in_order_within_the_limit(
            lines in prop::collection::vec("[a-z]{0,40}\n", 0..200),
            limit in 50_usize..400,
        ) {
            let mut packer = Packer::new(limit);
            let mut records: Vec<PackedRecord> = (2..).zip(&lines).filter_map(|(n, line)| packer.push(n, line.as_bytes())).collect();
            records.extend(packer.take());
            prop_assert!(records.iter().all(|record| record.data.len() <= limit && record.data.ends_with(b"\n")));
            prop_assert_eq!(records.iter().map(|record| record.rows).sum::<u64>(), lines.len() as u64);
            let span = |record: &PackedRecord| record.lines.1 + 1 - record.lines.0;
            prop_assert!(records.iter().all(|record| span(record) == record.rows), "each record knows its lines");
            prop_assert_eq!(records.iter().flat_map(|record| record.data.to_vec()).collect::<Vec<u8>>(), lines.concat().into_bytes());
        }

        #[test]
        fn a_call_holds_as_many_records_as_firehose_takes(sizes in prop::collection::vec(1_usize..=MAX_BYTES_PER_RECORD, 0..600)) {
            let n = call_len(sizes.iter().copied());
            let bytes: usize = sizes[..n].iter().sum();
            prop_assert!(n <= MAX_RECORDS_PER_CALL && bytes <= MAX_BYTES_PER_CALL);
            prop_assert!(n == sizes.len() || n == MAX_RECORDS_PER_CALL || bytes + sizes[n] > MAX_BYTES_PER_CALL);
        }
    }

    #[test]
    fn no_record_is_larger_than_firehose_takes() {
        assert_eq!(Packer::new(usize::MAX).limit, MAX_BYTES_PER_RECORD);
        assert_eq!(call_len(std::iter::repeat_n(1, 600)), 500);
    }
}
