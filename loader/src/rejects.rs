//! The quarantine: rejected rows as JSON lines in `<folder>/<load_id>.ndjson`, readable by their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::csv_rows::{Reason, Reject};
use crate::staged_row::hex;

/// Writes rejected rows; makes no file while there are none.
pub(crate) struct RejectsFile {
    path: PathBuf,
    open: Option<BufWriter<File>>,
}

#[derive(Serialize)]
struct RejectLine<'a> {
    file: &'a str,
    line: u64,
    column: Option<&'static str>,
    reason: Reason,
    detail: &'a str,
    raw: &'a str,
    /// The bytes, where `raw` cannot show them.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
}

impl RejectsFile {
    pub(crate) fn new(folder: &Path, load_id: &str) -> Self {
        Self { path: folder.join(format!("{load_id}.ndjson")), open: None }
    }

    /// Where the rows go.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&mut self, file: &str, reject: &Reject) -> io::Result<()> {
        let raw = String::from_utf8_lossy(&reject.raw);
        let raw_hex = std::str::from_utf8(&reject.raw).is_err().then(|| hex(&reject.raw));
        let line = RejectLine {
            file,
            line: reject.line,
            column: reject.column,
            reason: reject.reason,
            detail: &reject.detail,
            raw: &raw,
            raw_hex,
        };
        let partial = self.partial();
        let out = match &mut self.open {
            Some(out) => out,
            None => {
                if let Some(folder) = self.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial)?;
                self.open.insert(BufWriter::new(options))
            }
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }

    /// Gives the file its name, so that one with that name is always whole. `None` if nothing was rejected.
    pub(crate) fn finish(self) -> io::Result<Option<PathBuf>> {
        let partial = self.partial();
        let Some(out) = self.open else { return Ok(None) };
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(partial, &self.path)?;
        Ok(Some(self.path))
    }

    fn partial(&self) -> PathBuf {
        self.path.with_extension("ndjson.part")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn rejected_rows_are_kept_with_their_bytes_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = RejectsFile::new(&folder.path().join("new"), "l1");
        let reject = Reject {
            line: 9,
            reason: Reason::NotUtf8,
            column: Some("city"),
            detail: "not UTF-8".into(),
            raw: b"Pe\xf1a".to_vec(),
        };
        rejects.write("drivers.csv", &reject).unwrap();
        let path = rejects.finish().unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            (line["line"].as_u64(), line["reason"].as_str(), line["raw_hex"].as_str()),
            (Some(9), Some("not_utf8"), Some("5065f161"))
        );
    }

    #[test]
    fn no_file_is_made_for_no_rejects() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RejectsFile::new(folder.path(), "l1").finish().unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
