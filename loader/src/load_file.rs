//! The identity of what is loaded: the same bytes under the same contract are the same load, wherever they lie.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::contract::Contract;
use crate::csv_rows::Row;
use crate::drivers_file::{DriversFile, FileFault};
use crate::fault::LoadFault;
use crate::journal::FileMark;
use crate::progress::Progress;
use crate::rejected_rows::RejectedRows;
use crate::rejects::Origin;
use crate::staged_row::hex;

/// A file with its identity and the rules it is read under. It stays open, so that it may be moved or deleted while it is loaded.
#[derive(Debug, Clone)]
pub(crate) struct LoadFile {
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// The name without the folder; of a quarantine, that of the file its rows came from.
    pub(crate) name: String,
    pub(crate) sha256: String,
    /// SHA-256 in hex over the content and the contract.
    pub(crate) load_id: String,
    /// What the folder says of it; the same file is known again by it.
    pub(crate) mark: FileMark,
    pub(crate) contract: Arc<Contract>,
    /// The load that a quarantine belongs to.
    pub(crate) completes: Option<String>,
    content: Content,
}

/// What kind of file rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Drivers,
    /// The quarantine of a load, in one of its two forms.
    Rejects,
}

/// Reads a file from its beginning, whoever else reads it.
#[derive(Debug, Clone)]
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

/// The rows of a drivers file or of a quarantine.
pub(crate) enum SourceRows<R> {
    Drivers(DriversFile<R>),
    Rejects(RejectedRows<R>),
}

impl LoadFile {
    /// Reads the whole file once; blocks.
    pub(crate) fn identify(path: &Path, contract: &Arc<Contract>) -> Result<Self, LoadFault> {
        let (content, mark) = Content::open(path)?;
        let mut file = Hashing::new(content.clone());
        io::copy(&mut file, &mut io::sink()).map_err(|source| unreadable(path, source))?;
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into_owned();
        let sha256 = file.sha256();
        let load_id = load_id(&sha256, contract);
        Ok(Self { path: path.to_owned(), name, sha256, load_id, contract: Arc::clone(contract), completes: None, mark, content })
    }

    /// Reads a whole file of this kind once; blocks.
    pub(crate) fn identify_as(source: Source, path: &Path, contract: &Arc<Contract>) -> Result<Self, LoadFault> {
        match source {
            Source::Drivers => Self::identify(path, contract),
            Source::Rejects => Self::identify_rejects(path, contract),
        }
    }

    /// Reads a whole quarantine once; blocks. Its identity is that of its mended rows, so that the CSV and the JSON form, however
    /// they were saved, are one load.
    fn identify_rejects(path: &Path, contract: &Arc<Contract>) -> Result<Self, LoadFault> {
        let fault = |cause| LoadFault::File { path: path.to_owned(), cause };
        let refused = |what: &str| fault(FileFault::Rejects(what.to_owned()));
        let (content, mark) = Content::open(path)?;
        let mut file = Hashing::new(content.clone());
        let mut rows = RejectedRows::open(BufReader::new(&mut file), contract).map_err(fault)?;
        let (mut mended, mut origin, mut last) = (Sha256::new(), None, 0);
        while let Some(row) = rows.next_rejected().map_err(fault)? {
            mended.update(format!("{}:{}:", row.line, row.raw.len()));
            mended.update(&row.raw);
            // Rows are known by their lines from here to the warehouse, and records by their first and last.
            if row.line <= last {
                return Err(refused("its rows must be sorted by line, each line once"));
            }
            last = row.line;
            if *origin.get_or_insert_with(|| row.origin.clone()) != row.origin {
                return Err(refused("it holds rows of several loads"));
            }
        }
        drop(rows);
        let Origin { load_id: completes, file: name } = origin.ok_or_else(|| refused("it has no rows"))?;
        mended.update(&completes);
        let load_id = load_id(&hex(&mended.finalize()), contract);
        let (path, sha256, contract) = (path.to_owned(), file.sha256(), Arc::clone(contract));
        Ok(Self { path, name, sha256, load_id, contract, completes: Some(completes), mark, content })
    }

    /// Reads the file once more.
    pub(crate) fn read(&self, progress: &Progress) -> Hashing<Content> {
        progress.file_is(self.mark.size);
        Hashing::new(Content { progress: progress.clone(), ..self.content.clone() })
    }

    /// Its rows.
    pub(crate) fn rows<R: BufRead>(&self, input: R) -> Result<SourceRows<R>, FileFault> {
        Ok(match self.completes {
            None => SourceRows::Drivers(DriversFile::open(input, &self.contract)?),
            Some(_) => SourceRows::Rejects(RejectedRows::open(input, &self.contract)?),
        })
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

impl<R: BufRead> SourceRows<R> {
    /// The next row; `None` at the end.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row>, FileFault> {
        match self {
            Self::Drivers(file) => Ok(file.rows.next_row()?),
            Self::Rejects(rejects) => rejects.next_row(),
        }
    }
}

fn load_id(sha256: &str, contract: &Contract) -> String {
    hex(&Sha256::new().chain_update(sha256).chain_update(contract.canonical()).finalize())
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

impl Content {
    fn open(path: &Path) -> Result<(Self, FileMark), LoadFault> {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        let about = file.metadata().map_err(|source| unreadable(path, source))?;
        // Reading it would fail with a word that few understand.
        if about.is_dir() {
            return Err(unreadable(path, io::ErrorKind::IsADirectory.into()));
        }
        Ok((Self { file: Arc::new(file), place: 0, progress: Progress::default() }, FileMark::of(path, &about)))
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
    fn the_same_bytes_under_the_same_contract_are_the_same_load_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, c) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        for (path, text) in [(&a, "x"), (&b, "x"), (&c, "y")] {
            std::fs::write(path, text).unwrap();
        }
        let built_in = Arc::new(Contract::built_in());
        let id = |path: &Path| LoadFile::identify(path, &built_in).unwrap().load_id;
        assert_eq!((id(&a).len(), id(&a) == id(&b), id(&a) == id(&c)), (64, true, false));
        let semicolons = Arc::new(Contract { delimiter: b';', ..Contract::built_in() });
        assert_ne!(LoadFile::identify(&b, &semicolons).unwrap().load_id, id(&b));
        let (file, mut text) = (LoadFile::identify(&a, &built_in).unwrap(), String::new());
        std::fs::remove_file(&a).unwrap();
        file.read(&Progress::default()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x", "a file that is gone from its folder is read all the same");
        let missing = LoadFile::identify(&folder.path().join("none"), &built_in);
        assert!(matches!(missing, Err(LoadFault::FileMissing { .. })));
        assert!(matches!(LoadFile::identify(folder.path(), &built_in), Err(LoadFault::File { .. })));
    }
}
