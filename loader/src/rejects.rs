//! The quarantine: rejected rows in `<folder>/<load_id>.ndjson` for programs and `<folder>/<load_id>.csv` for people, readable by
//! their owner only. Either can be mended and given to `replay`.
//!
//! In the CSV file the whole row stands in one cell. Were it spread over cells, a spreadsheet would do to its zip codes and plates
//! what it did to those that are here already.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::csv_rows::Reject;

/// Columns of the CSV form, named as the keys of the other.
pub(crate) const COLUMNS: [&str; 9] = ["load_id", "file", "line", "byte", "column", "reason", "detail", "raw", "raw_base64"];

/// One row of the quarantine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RejectedLine<'a> {
    pub(crate) load_id: Cow<'a, str>,
    pub(crate) file: Cow<'a, str>,
    pub(crate) line: u64,
    pub(crate) byte: Option<u64>,
    pub(crate) column: Option<Cow<'a, str>>,
    pub(crate) reason: Cow<'a, str>,
    pub(crate) detail: Cow<'a, str>,
    pub(crate) raw: Cow<'a, str>,
    /// The bytes, where `raw` cannot show them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raw_base64: Option<String>,
}

/// The load and the file that rejected rows belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) load_id: String,
    /// Its name without its folder.
    pub(crate) file: String,
}

/// The two forms of one quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RejectPaths {
    pub(crate) ndjson: PathBuf,
    pub(crate) csv: PathBuf,
}

impl RejectPaths {
    /// `name` is without an extension, usually the load id.
    pub(crate) fn of(folder: &Path, name: &str) -> Self {
        let path = |extension: &str| folder.join(format!("{name}.{extension}"));
        Self { ndjson: path("ndjson"), csv: path("csv") }
    }
}

/// Writes rejected rows; makes no file while there are none.
pub(crate) struct RejectsFile {
    paths: RejectPaths,
    open: Option<Open>,
}

struct Open {
    ndjson: BufWriter<File>,
    csv: BufWriter<File>,
}

impl RejectsFile {
    /// `name` is without an extension, usually the load id.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { paths: RejectPaths::of(folder, name), open: None }
    }

    /// Where the rows go.
    pub(crate) fn path(&self) -> &Path {
        &self.paths.ndjson
    }

    pub(crate) fn write(&mut self, origin: &Origin, reject: &Reject) -> io::Result<()> {
        let raw = String::from_utf8_lossy(&reject.raw);
        let raw_base64 = matches!(raw, Cow::Owned(_)).then(|| STANDARD.encode(&reject.raw));
        let line = RejectedLine {
            load_id: Cow::Borrowed(&origin.load_id),
            file: Cow::Borrowed(&origin.file),
            line: reject.line,
            byte: reject.byte,
            column: reject.column.as_deref().map(Cow::Borrowed),
            reason: Cow::Borrowed(reject.reason.name()),
            detail: Cow::Borrowed(&reject.detail),
            raw,
            raw_base64,
        };
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::create(&self.paths)?),
        };
        serde_json::to_writer(&mut open.ndjson, &line)?;
        open.ndjson.write_all(b"\n")?;
        write_csv(&mut open.csv, &line)
    }

    /// Gives the files their names, so that one with such a name is always whole. `None` if nothing was rejected.
    pub(crate) fn finish(self) -> io::Result<Option<RejectPaths>> {
        let Some(open) = self.open else { return Ok(None) };
        for (out, path) in [(open.csv, &self.paths.csv), (open.ndjson, &self.paths.ndjson)] {
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(partial(path), path)?;
        }
        Ok(Some(self.paths))
    }
}

impl Open {
    fn create(paths: &RejectPaths) -> io::Result<Self> {
        if let Some(folder) = paths.ndjson.parent() {
            fs::create_dir_all(folder)?;
        }
        let create = |path: &Path| {
            // What a try that was killed has left may belong to another user or be open to all.
            match fs::remove_file(partial(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial(path)).map(BufWriter::new)
        };
        let mut open = Self { ndjson: create(&paths.ndjson)?, csv: create(&paths.csv)? };
        open.csv.write_all(format!("{}\r\n", COLUMNS.join(",")).as_bytes())?;
        Ok(open)
    }
}

fn write_csv(out: &mut impl Write, line: &RejectedLine<'_>) -> io::Result<()> {
    let (number, byte) = (line.line.to_string(), line.byte.map(|byte| byte.to_string()).unwrap_or_default());
    let cells: [&str; COLUMNS.len()] = [
        &line.load_id,
        &line.file,
        &number,
        &byte,
        line.column.as_deref().unwrap_or_default(),
        &line.reason,
        &line.detail,
        &line.raw,
        line.raw_base64.as_deref().unwrap_or_default(),
    ];
    let cells = cells.map(|cell| {
        if cell.contains([',', '"', '\n', '\r', ';', '\t']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    });
    out.write_all(cells.join(",").as_bytes())?;
    out.write_all(b"\r\n")
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::finding::Finding;

    fn origin() -> Origin {
        Origin { load_id: "l1".into(), file: "drivers.csv".into() }
    }

    fn reject(raw: &[u8]) -> Reject {
        let column = Some("city".to_owned());
        Reject { line: 9, byte: Some(812), reason: Finding::Undecodable, column, detail: "not UTF-8".into(), raw: raw.to_vec() }
    }

    #[test]
    fn rejected_rows_are_kept_with_their_bytes_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = RejectsFile::new(&folder.path().join("new"), "l1");
        rejects.write(&origin(), &reject(b"Ana,\"Pe\xf1a\"")).unwrap();
        assert!(!rejects.path().exists(), "the name is given when the file is whole");
        let RejectPaths { ndjson, csv } = rejects.finish().unwrap().unwrap();
        for path in [&ndjson, &csv] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 2, "nothing else is left");
        let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&ndjson).unwrap()).unwrap();
        assert_eq!(
            (line["line"].as_u64(), line["byte"].as_u64(), line["reason"].as_str()),
            (Some(9), Some(812), Some("undecodable"))
        );
        assert_eq!(STANDARD.decode(line["raw_base64"].as_str().unwrap()).unwrap(), b"Ana,\"Pe\xf1a\"");
        let mut reader = csv::Reader::from_path(&csv).unwrap();
        assert_eq!(reader.headers().unwrap(), &COLUMNS[..]);
        let row = reader.records().next().unwrap().unwrap();
        let expected = ["l1", "drivers.csv", "9", "812", "city", "undecodable", "not UTF-8", "Ana,\"Pe\u{fffd}a\""];
        assert_eq!(row.iter().take(8).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_file_is_made_for_no_rejects() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RejectsFile::new(folder.path(), "l1").finish().unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_try_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("l1.csv.part"), "old").unwrap();
        let mut rejects = RejectsFile::new(folder.path(), "l1");
        rejects.write(&origin(), &reject(b"x")).unwrap();
        let paths = rejects.finish().unwrap().unwrap();
        assert_eq!(fs::metadata(&paths.csv).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&paths.csv).unwrap().contains("old"));
    }
}
