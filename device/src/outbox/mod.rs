//! Readings on disk, from the press of the button until the broker has acknowledged them.
//!
//! An append log in segments. `stage` and `commit` bring readings to disk, `next_unsent` hands each out once, `acknowledged`
//! ends its stay; a segment goes when all in it have ended. What was handed out and not acknowledged is handed out again by
//! the next process, so a reading may go twice (with the same event id) and none is lost. A power cut in the middle of a
//! write costs the record that was being written, which nobody was told was safe; damage in the middle of a segment costs
//! the records it lies in.

mod args;
mod folder;
mod reader;
mod record;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

pub(crate) use self::args::OutboxArgs;
use self::folder::{Folder, failed};
use self::reader::Reader;

/// Segments are what is removed at a time: small enough that little is kept for one slow reading, large enough that a day
/// offline makes few files.
const MAX_SEGMENT_BYTES: u64 = 1024 * 1024;
/// A full outbox drops a segment, hence an eighth of it at most.
const SEGMENTS_AT_LEAST: u64 = 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error("the outbox `{}` is in use by another process; one device has one outbox, so stop the other, or give --outbox", folder.display())]
    InUse { folder: PathBuf },
    #[error("there is no place for the outbox: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set; give --outbox DIR")]
    NoPlace,
    #[error("failed to {action} `{}` of the outbox ({source}); check the disk, or give --outbox", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

pub(crate) struct Outbox {
    folder: Folder,
    max_bytes: u64,
    /// Oldest first, never empty; the last one is written to.
    segments: VecDeque<Segment>,
    active: File,
    staged: Vec<u8>,
    /// Sequence number of the next reading to be staged, and of the first that is not on disk yet.
    next_seq: u64,
    committed_seq: u64,
    reader: Reader,
    /// Handed out and not acknowledged.
    in_flight: BTreeSet<u64>,
    done: u64,
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    first: u64,
    bytes: u64,
}

impl Outbox {
    /// Takes the folder for this process, makes it if need be, and cuts what a power cut left half-written.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Self, OutboxError> {
        let folder = Folder::open(path)?;
        let saved = folder.done();
        let mut segments = VecDeque::new();
        let firsts = folder.segments()?;
        for first in &firsts {
            let path = folder.segment_path(*first);
            let bytes = std::fs::metadata(&path).map_err(|e| failed("read", &path, e))?.len();
            segments.push_back(Segment { first: *first, bytes });
        }
        let mut next_seq = saved.max(1);
        let mut active = None;
        if let Some(last) = segments.back_mut() {
            let file = folder.open_segment(last.first)?;
            let (end_seq, end) = cut_torn_tail(&folder, &file, *last)?;
            last.bytes = end;
            // Lower than what is done only if the file lost its end behind our back: no number is used twice.
            if end_seq >= saved {
                next_seq = end_seq;
                active = Some(file);
            }
        }
        let active = match active {
            Some(file) => file,
            None => {
                segments.push_back(Segment { first: next_seq, bytes: 0 });
                folder.new_segment(next_seq)?
            }
        };
        let oldest = segments.front().map_or(next_seq, |segment| segment.first);
        let done = saved.max(oldest);
        Ok(Self {
            folder,
            max_bytes,
            segments,
            active,
            staged: Vec::new(),
            next_seq,
            committed_seq: next_seq,
            reader: Reader::new(done),
            in_flight: BTreeSet::new(),
            done,
            dropped: 0,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Readings on disk that the broker has not acknowledged.
    pub(crate) fn waiting(&self) -> u64 {
        self.in_flight.len() as u64 + (self.committed_seq - self.reader.next_seq())
    }

    /// Readings given up since the start because the outbox was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Readings found unreadable since the start.
    pub(crate) fn damaged(&self) -> u64 {
        self.reader.damaged()
    }

    /// The sequence number of the next reading to be staged.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The sequence number that `next_unsent` will give, or a lower one.
    pub(crate) fn next_unsent_seq(&self) -> u64 {
        self.reader.next_seq()
    }

    pub(crate) fn stage(&mut self, payload: &[u8]) {
        record::append(&mut self.staged, self.next_seq, payload);
        self.next_seq += 1;
    }

    pub(crate) fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    /// When this returns, all that was staged outlives a power cut. After an error it is unknown what is on disk, and the
    /// outbox must be opened anew.
    ///
    /// Makes room first if the outbox is full; then it gives the sequence number below which nothing is left.
    pub(crate) fn commit(&mut self) -> Result<Option<u64>, OutboxError> {
        if self.staged.is_empty() {
            return Ok(None);
        }
        if self.last().bytes >= MAX_SEGMENT_BYTES.min(self.max_bytes / SEGMENTS_AT_LEAST) {
            self.start_segment()?;
        }
        let dropped_below = self.make_room()?;
        let Segment { first, bytes } = self.last();
        let written = self.active.write_all_at(&self.staged, bytes).and_then(|()| self.active.sync_data());
        written.map_err(|e| failed("write", &self.folder.segment_path(first), e))?;
        self.segments.back_mut().expect("never empty").bytes += self.staged.len() as u64;
        self.staged.clear();
        self.committed_seq = self.next_seq;
        Ok(dropped_below)
    }

    /// The next reading that this process has not handed out yet.
    pub(crate) fn next_unsent(&mut self) -> Result<Option<(u64, Vec<u8>)>, OutboxError> {
        let next = self.reader.next(&self.folder, &self.segments, self.committed_seq)?;
        match &next {
            Some((seq, _)) => drop(self.in_flight.insert(*seq)),
            None => self.advance()?,
        }
        Ok(next)
    }

    /// The broker has it.
    pub(crate) fn acknowledged(&mut self, seq: u64) -> Result<(), OutboxError> {
        self.in_flight.remove(&seq);
        self.advance()
    }

    /// Leaves an empty outbox small. To be called at an orderly end; without it nothing is lost.
    pub(crate) fn close(mut self) -> Result<(), OutboxError> {
        if self.waiting() == 0 && self.last().bytes > 0 {
            self.start_segment()?;
            self.remove_done()?;
        }
        Ok(())
    }

    fn last(&self) -> Segment {
        *self.segments.back().expect("never empty")
    }

    fn start_segment(&mut self) -> Result<(), OutboxError> {
        self.active = self.folder.new_segment(self.committed_seq)?;
        self.segments.push_back(Segment { first: self.committed_seq, bytes: 0 });
        Ok(())
    }

    /// Drops the oldest segments until what is staged fits. The newest one stays, whatever its size.
    fn make_room(&mut self) -> Result<Option<u64>, OutboxError> {
        let mut below = None;
        while self.segments.len() > 1 && self.bytes() + self.staged.len() as u64 > self.max_bytes {
            let (oldest, next) = (self.segments[0].first, self.segments[1].first);
            let unsent = next - self.reader.next_seq().clamp(oldest, next);
            let kept = self.in_flight.split_off(&next);
            let n = unsent + self.in_flight.len() as u64;
            self.in_flight = kept;
            self.reader.skip_to(next);
            self.folder.remove_segment(oldest)?;
            self.segments.pop_front();
            self.dropped += n;
            warn!("the outbox is full ({} bytes): the oldest {n} readings, before number {next}, are dropped", self.max_bytes);
            below = Some(next);
        }
        self.advance()?;
        Ok(below)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn advance(&mut self) -> Result<(), OutboxError> {
        let done = self.in_flight.first().copied().unwrap_or(self.reader.next_seq());
        if done > self.done {
            self.done = done;
            self.folder.set_done(done)?;
            self.remove_done()?;
        }
        Ok(())
    }

    fn remove_done(&mut self) -> Result<(), OutboxError> {
        while self.segments.len() > 1 && self.segments[1].first <= self.done {
            self.folder.remove_segment(self.segments[0].first)?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// The sequence number after the last whole record, and where that record ends.
fn cut_torn_tail(folder: &Folder, file: &File, segment: Segment) -> Result<(u64, u64), OutboxError> {
    let path = folder.segment_path(segment.first);
    let bytes = std::fs::read(&path).map_err(|e| failed("read", &path, e))?;
    let (mut seq, mut end) = (segment.first, 0);
    while let Some(record) = record::find(&bytes, end) {
        seq = seq.max(record.seq + 1);
        end = record.payload.end;
    }
    if end < bytes.len() {
        warn!("the outbox ends with {} bytes of an unfinished write; they are cut", bytes.len() - end);
        file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(|e| failed("cut", &path, e))?;
    }
    Ok((seq, end as u64))
}
