//! One reading as it lies in a segment: mark, length, sequence number, checksum, payload. Pure functions over bytes.
//!
//! The mark holds a byte that no UTF-8 text has, so the next whole record behind a damaged one is found again: payloads are
//! JSON and can never look like the beginning of a record.

use std::ops::Range;

const MARK: [u8; 2] = [0xF5, b'R'];
/// Mark 2, payload length 4, sequence number 8, checksum over these two and the payload 4; all little-endian.
pub(super) const HEADER_BYTES: usize = 18;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) payload: Range<usize>,
}

pub(super) fn append(out: &mut Vec<u8>, seq: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a payload is at most 128 KiB").to_le_bytes();
    let seq = seq.to_le_bytes();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&length);
    out.extend_from_slice(&seq);
    out.extend_from_slice(&checksum(length, seq, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The first whole record at or after `from`. Whatever lies before it is damaged; what follows the last one is torn.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<Record> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.windows(MARK.len()).position(|w| w == MARK)?;
        if let Some(record) = parse(bytes, at) {
            return Some(record);
        }
        at += 1;
    }
}

fn parse(bytes: &[u8], at: usize) -> Option<Record> {
    let header = bytes.get(at..at + HEADER_BYTES)?;
    let length: [u8; 4] = header[2..6].try_into().ok()?;
    let seq: [u8; 8] = header[6..14].try_into().ok()?;
    let wanted = u32::from_le_bytes(header[14..18].try_into().ok()?);
    let start = at + HEADER_BYTES;
    let end = start.checked_add(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    let payload = bytes.get(start..end)?;
    (checksum(length, seq, payload) == wanted).then(|| Record { seq: u64::from_le_bytes(seq), payload: start..end })
}

fn checksum(length: [u8; 4], seq: [u8; 8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(&seq);
    hasher.update(payload);
    hasher.finalize()
}
