//! Reads what is on disk in order, each reading once, and steps over what is damaged.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;

use tracing::warn;

use super::folder::{Folder, failed};
use super::{OutboxError, Segment, record};

pub(super) struct Reader {
    /// No reading below this is handed out any more.
    next_seq: u64,
    damaged: u64,
    at: Option<Position>,
}

/// A stretch of one segment in memory: at most a segment long.
struct Position {
    segment: u64,
    /// Where in the segment the stretch ends.
    read_to: u64,
    bytes: Vec<u8>,
    parsed: usize,
}

impl Reader {
    pub(super) fn new(next_seq: u64) -> Self {
        Self { next_seq, damaged: 0, at: None }
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Everything below `seq` is gone from disk.
    pub(super) fn skip_to(&mut self, seq: u64) {
        if self.next_seq < seq {
            self.next_seq = seq;
            self.at = None;
        }
    }

    /// The next whole record below `end_seq`, the end of what is safely on disk.
    pub(super) fn next(
        &mut self,
        folder: &Folder,
        segments: &VecDeque<Segment>,
        end_seq: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, OutboxError> {
        while self.next_seq < end_seq {
            if let Some(found) = self.next_in_memory() {
                return Ok(Some(found));
            }
            let index = match &self.at {
                Some(at) => segments.iter().position(|segment| segment.first == at.segment),
                None => segments.iter().rposition(|segment| segment.first <= self.next_seq),
            };
            let index = index.unwrap_or(0);
            if self.read_on(folder, segments[index])? {
                continue;
            }
            // All that is in this segment has been seen; what is still missing from it cannot be read.
            let following = segments.get(index + 1);
            self.missing_until(following.map_or(end_seq, |segment| segment.first));
            if let Some(segment) = following {
                self.at = Some(Position::start(segment.first));
            }
        }
        Ok(None)
    }

    fn next_in_memory(&mut self) -> Option<(u64, Vec<u8>)> {
        loop {
            let at = self.at.as_mut()?;
            let found = record::find(&at.bytes, at.parsed)?;
            at.parsed = found.payload.end;
            // Below are those that were done with before this process began.
            if found.seq >= self.next_seq {
                let payload = at.bytes[found.payload].to_vec();
                self.missing_until(found.seq);
                self.next_seq = found.seq + 1;
                return Some((found.seq, payload));
            }
        }
    }

    fn missing_until(&mut self, seq: u64) {
        if self.next_seq < seq {
            let n = seq - self.next_seq;
            self.damaged += n;
            warn!("{n} readings of the outbox, from number {} on, are damaged and lost", self.next_seq);
            self.next_seq = seq;
        }
    }

    /// Reads what has been written to the segment since the last time; false if that is nothing.
    fn read_on(&mut self, folder: &Folder, segment: Segment) -> Result<bool, OutboxError> {
        let at = self.at.get_or_insert_with(|| Position::start(segment.first));
        if at.read_to >= segment.bytes {
            return Ok(false);
        }
        // Writes are whole records, so what is left in memory without one is damaged.
        let wanted = usize::try_from(segment.bytes - at.read_to).expect("a segment fits into memory");
        at.bytes = vec![0; wanted];
        at.parsed = 0;
        let path = folder.segment_path(segment.first);
        let read = std::fs::File::open(&path).and_then(|file| file.read_exact_at(&mut at.bytes, at.read_to));
        read.map_err(|e| failed("read", &path, e))?;
        at.read_to = segment.bytes;
        Ok(true)
    }
}

impl Position {
    fn start(segment: u64) -> Self {
        Self { segment, read_to: 0, bytes: Vec::new(), parsed: 0 }
    }
}
