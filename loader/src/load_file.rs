//! The identity of a file: the same bytes under the same contract are the same load, wherever they lie.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::contract;
use crate::csv_rows::FileFault;
use crate::fault::LoadFault;
use crate::journal::FileMark;
use crate::progress::Progress;
use crate::staged_row::hex;

/// A file with its identity. It stays open, so that it may be moved or deleted while it is loaded.
#[derive(Debug, Clone)]
pub(crate) struct LoadFile {
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// The name without the folder.
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) load_id: String,
    /// What the folder says of it; the same file is known again by it.
    pub(crate) mark: FileMark,
    content: Arc<File>,
}

/// Reads a file from its beginning, whoever else reads it.
pub(crate) struct Content {
    file: Arc<File>,
    place: u64,
    progress: Progress,
}

/// Passes bytes on and sums them up.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl LoadFile {
    /// Reads the whole file once; blocks.
    pub(crate) fn identify(path: &Path) -> Result<Self, LoadFault> {
        let content = Arc::new(File::open(path).map_err(|source| unreadable(path, source))?);
        let mark = FileMark::of(path, &content.metadata().map_err(|source| unreadable(path, source))?);
        let mut file = Hashing::new(Content { file: Arc::clone(&content), place: 0, progress: Progress::default() });
        io::copy(&mut file, &mut io::sink()).map_err(|source| unreadable(path, source))?;
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into_owned();
        let mut with_contract = file.hasher.clone();
        with_contract.update(contract::VERSION);
        let load_id = hex(&with_contract.finalize()[..16]);
        Ok(Self { path: path.to_owned(), name, sha256: file.sha256(), load_id, mark, content })
    }

    /// Reads the file once more.
    pub(crate) fn read(&self, progress: &Progress) -> Hashing<Content> {
        progress.file_is(self.mark.size);
        Hashing::new(Content { file: Arc::clone(&self.content), place: 0, progress: progress.clone() })
    }
}

impl FileMark {
    /// What is said of a file at this path.
    pub(crate) fn of(path: &Path, metadata: &Metadata) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned();
        let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { path, inode: metadata.ino(), size: metadata.size(), modified }
    }
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// Hex of the SHA-256 of what was read.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.place)?;
        self.place += n as u64;
        self.progress.read_bytes(self.place);
        Ok(n)
    }
}

pub(crate) fn unreadable(path: &Path, source: io::Error) -> LoadFault {
    match source.kind() {
        io::ErrorKind::NotFound => LoadFault::FileMissing { path: path.to_owned() },
        _ => LoadFault::File { path: path.to_owned(), cause: FileFault::Io(source) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_the_same_load_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, c) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        for (path, text) in [(&a, "x"), (&b, "x"), (&c, "y")] {
            std::fs::write(path, text).unwrap();
        }
        let id = |path: &Path| LoadFile::identify(path).unwrap().load_id;
        assert_eq!((id(&a).len(), id(&a) == id(&b), id(&a) == id(&c)), (32, true, false));
        let (file, mut text) = (LoadFile::identify(&a).unwrap(), String::new());
        std::fs::remove_file(&a).unwrap();
        file.read(&Progress::default()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x", "a file that is gone from its folder is read all the same");
        assert!(matches!(LoadFile::identify(&folder.path().join("none")), Err(LoadFault::FileMissing { .. })));
    }
}
