//! A readings file row by row, once or again and again.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::readings_file::{ReadingsFile, Row};

pub(super) struct Replay {
    path: PathBuf,
    rows: ReadingsFile,
    again: bool,
    /// Whether this pass over the file had a reading.
    had_reading: bool,
}

impl Replay {
    pub(super) fn open(path: &Path, again: bool) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), rows: ReadingsFile::open(path)?, again, had_reading: false })
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            if let Some(row) = self.rows.next_row()? {
                self.had_reading |= matches!(row, Row::Reading { .. });
                return Ok(Some(row));
            }
            if !self.again {
                return Ok(None);
            }
            if !self.had_reading {
                let what = format!("`{}` has no reading, so --loop would go round for ever", self.path.display());
                return Err(Failure::BadInput { what });
            }
            self.had_reading = false;
            self.rows = ReadingsFile::open(&self.path)?;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.rows.bytes_read()
    }
}
