//! Rows that the warehouse refused, and how they get into the quarantine beside those that never were sent.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::contract::COLUMNS;
use crate::csv_rows::{DriverRow, Reject, Row};
use crate::fault::LoadFault;
use crate::finding::Finding;
use crate::load_file::LoadFile;
use crate::progress::Progress;
use crate::rejects::{Origin, RejectedLine, RejectsFile};

/// A row that the warehouse refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedRow {
    pub(crate) row: DriverRow,
    /// The column's name in the warehouse, where it said one.
    pub(crate) column: Option<String>,
    pub(crate) detail: String,
}

/// Where the rejected rows of a load are kept.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    pub(crate) folder: PathBuf,
    pub(crate) file: LoadFile,
    /// Where they are told of.
    pub(crate) progress: Progress,
}

impl Quarantine {
    /// Puts rows aside. Done before the commit that counts them, so that no crash can lose them; doing it again adds nothing.
    pub(crate) async fn put_aside(&self, rows: &[RefusedRow]) -> Result<(), LoadFault> {
        if rows.is_empty() {
            return Ok(());
        }
        let (quarantine, rows) = (self.clone(), rows.to_vec());
        let written = tokio::task::spawn_blocking(move || quarantine.write(rows)).await;
        written.map_err(|error| LoadFault::Crashed(error.to_string()))?
    }

    fn write(&self, rows: Vec<RefusedRow>) -> Result<(), LoadFault> {
        let load_id = &self.file.load_id;
        let mut file = RejectsFile::new(&self.folder, load_id);
        let path = file.path().to_owned();
        let fault = |reason: String| LoadFault::Rejects { path: path.clone(), reason };
        let mut rejects = already_rejected(&path).map_err(fault)?;
        for reject in self.rejects_of(rows)? {
            self.progress.rejected(&reject);
            rejects.insert(reject.line, reject);
        }
        let origin =
            Origin { load_id: self.file.completes.clone().unwrap_or_else(|| load_id.clone()), file: self.file.name.clone() };
        for reject in rejects.values() {
            file.write(&origin, reject).map_err(|error| fault(error.to_string()))?;
        }
        file.finish().map_err(|error| fault(error.to_string())).map(drop)
    }

    /// Finds the rows in the file again, to keep them as they stand there.
    fn rejects_of(&self, rows: Vec<RefusedRow>) -> Result<Vec<Reject>, LoadFault> {
        let fault = |cause| LoadFault::File { path: self.file.path.clone(), cause };
        let mut wanted: HashMap<u64, RefusedRow> = rows.into_iter().map(|refused| (refused.row.line, refused)).collect();
        let mut found = Vec::with_capacity(wanted.len());
        let input = BufReader::new(self.file.read(&Progress::default()));
        let mut rows = self.file.rows(input).map_err(fault)?;
        while !wanted.is_empty() {
            let Some(row) = rows.next_row().map_err(fault)? else {
                return Err(LoadFault::FileChanged { path: self.file.path.clone() });
            };
            if let Row::Whole(record) = row
                && let Some(RefusedRow { column, detail, .. }) = wanted.remove(&record.line)
            {
                let column = column.map(|name| self.name_in_file(&name).to_owned());
                let (line, byte, raw) = (record.line, record.byte, record.raw);
                found.push(Reject { line, byte, reason: Finding::Refused, column, detail, raw });
            }
        }
        Ok(found)
    }

    /// What the file calls a column of the warehouse.
    fn name_in_file<'a>(&'a self, warehouse: &'a str) -> &'a str {
        let place = COLUMNS.iter().position(|column| column.warehouse == warehouse);
        let rule = place.and_then(|place| self.file.contract.columns.iter().find(|rule| rule.place == Some(place)));
        rule.map_or(warehouse, |rule| &rule.name)
    }
}

/// What the reader of the file has put aside.
fn already_rejected(path: &Path) -> Result<BTreeMap<u64, Reject>, String> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.map_err(|error| error.to_string())?,
    };
    let mut rejects = BTreeMap::new();
    for line in text.lines() {
        let line: RejectedLine<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let raw = match &line.raw_base64 {
            Some(encoded) => STANDARD.decode(encoded).map_err(|error| error.to_string())?,
            None => line.raw.as_bytes().to_vec(),
        };
        let reason = Finding::named(&line.reason).ok_or_else(|| format!("unknown reason `{}`", line.reason))?;
        let (column, detail) = (line.column.map(Cow::into_owned), line.detail.into_owned());
        rejects.insert(line.line, Reject { line: line.line, byte: line.byte, reason, column, detail, raw });
    }
    Ok(rejects)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contract::Contract;

    #[tokio::test]
    async fn refused_rows_stand_in_the_quarantine_as_in_the_file_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drivers.csv");
        let contract = Arc::new(Contract::built_in());
        let row = "Ana,Ink,A-1,a@example.com,\"1 \"\"Mill\"\" Row, Apt 2\",Peña,Iowa,50301,515-555-0100,5155550100";
        std::fs::write(&path, format!("{}\r\nragged,row\r\n{row}\r\n", contract.header())).unwrap();
        let file = LoadFile::identify(&path, &contract).unwrap();
        let mut ours = RejectsFile::new(folder.path(), &file.load_id);
        let origin = Origin { load_id: file.load_id.clone(), file: file.name.clone() };
        let ragged = Reject {
            line: 2,
            byte: Some(99),
            reason: Finding::Ragged,
            column: None,
            detail: "2 fields".into(),
            raw: b"rag\xffged,row".to_vec(),
        };
        ours.write(&origin, &ragged).unwrap();
        let paths = ours.finish().unwrap().unwrap();

        let quarantine = Quarantine { folder: folder.path().to_owned(), file, progress: Progress::default() };
        let values = DriverRow { line: 3, values: Default::default() };
        let refused = RefusedRow { row: values, column: Some("phonenumber".into()), detail: "error 1204".into() };
        for _ in 0..2 {
            quarantine.put_aside(std::slice::from_ref(&refused)).await.unwrap();
        }
        let rejects = already_rejected(&paths.ndjson).unwrap();
        assert_eq!(rejects.len(), 2);
        assert_eq!(rejects[&2], ragged);
        assert_eq!((rejects[&3].column.as_deref(), rejects[&3].reason), (Some("phoneNumber"), Finding::Refused));
        assert_eq!(String::from_utf8_lossy(&rejects[&3].raw), row);
        assert!(std::fs::read_to_string(paths.csv).unwrap().contains("error 1204"));
    }
}
