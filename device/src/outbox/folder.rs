//! The files of an outbox: one folder with a lock, segments named by the sequence number of their first reading, and a
//! cursor that says which readings are done with.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::OutboxError;

/// Sequence number 8 and its checksum 4.
const CURSOR_BYTES: usize = 12;

pub(super) struct Folder {
    path: PathBuf,
    cursor: File,
    /// Held as long as the folder is in use; the system lets go of it however the process ends.
    _lock: File,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, OutboxError> {
        // What is in it says which car was where.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("make the folder", path, e))?;
        let lock_path = path.join("lock");
        let lock = open(&lock_path).map_err(|e| failed("open", &lock_path, e))?;
        match fs4::FileExt::try_lock(&lock) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Err(OutboxError::InUse { folder: path.to_owned() }),
            Err(fs4::TryLockError::Error(e)) => return Err(failed("lock", &lock_path, e)),
        }
        let cursor_path = path.join("done");
        let cursor = open(&cursor_path).map_err(|e| failed("open", &cursor_path, e))?;
        Ok(Self { path: path.to_owned(), cursor, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// First sequence numbers of all segments, in order.
    pub(super) fn segments(&self) -> Result<Vec<u64>, OutboxError> {
        let unreadable = |e| failed("read the folder", &self.path, e);
        let mut firsts = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            firsts.extend(name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|stem| stem.parse::<u64>().ok()));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    pub(super) fn open_segment(&self, first: u64) -> Result<File, OutboxError> {
        let path = self.segment_path(first);
        open(&path).map_err(|e| failed("open", &path, e))
    }

    /// An empty segment whose name is on disk, too, when this returns.
    pub(super) fn new_segment(&self, first: u64) -> Result<File, OutboxError> {
        let file = self.open_segment(first)?;
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync the folder", &self.path, e))?;
        Ok(file)
    }

    /// A removal that a power cut undoes does no harm: its readings are sent once more.
    pub(super) fn remove_segment(&self, first: u64) -> Result<(), OutboxError> {
        let path = self.segment_path(first);
        std::fs::remove_file(&path).map_err(|e| failed("remove", &path, e))
    }

    pub(super) fn segment_path(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:020}.log"))
    }

    /// Every reading below is done with. 0 if that is not known, which costs repeats and no reading.
    pub(super) fn done(&self) -> u64 {
        let mut bytes = [0; CURSOR_BYTES];
        if self.cursor.read_exact_at(&mut bytes, 0).is_err() {
            return 0;
        }
        let (seq, checksum) = bytes.split_at(8);
        if crc32fast::hash(seq).to_le_bytes() == checksum { u64::from_le_bytes(seq.try_into().expect("eight bytes")) } else { 0 }
    }

    /// Not synced, so that acknowledgements wear no flash: what a power cut takes back is sent once more.
    pub(super) fn set_done(&self, done: u64) -> Result<(), OutboxError> {
        let seq = done.to_le_bytes();
        let mut bytes = [0; CURSOR_BYTES];
        bytes[..8].copy_from_slice(&seq);
        bytes[8..].copy_from_slice(&crc32fast::hash(&seq).to_le_bytes());
        match self.cursor.write_all_at(&bytes, 0) {
            // On a full disk readings must go out all the more; without the note they go twice.
            Err(e) if e.kind() == io::ErrorKind::StorageFull => Ok(()),
            written => written.map_err(|e| failed("write", &self.path.join("done"), e)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> OutboxError {
    OutboxError::Io { action, path: path.to_owned(), source }
}
