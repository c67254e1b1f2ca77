//! What a load did, for people and for scripts, and whether its counts add up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::fault::LoadFault;
use crate::finding::Finding;
use crate::load_file::LoadFile;
use crate::load_ledger::Committed;
use crate::rejects::RejectPaths;
use crate::supervisor::LoadEnd;
use crate::warehouse::{SchemaPlan, Server};

/// The result of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LoadReport {
    pub(crate) load_id: String,
    pub(crate) file: String,
    /// Data rows in the file.
    pub(crate) rows: u64,
    /// Rows that Firehose accepted.
    pub(crate) sent: u64,
    /// Rows found in the bucket, each counted once.
    pub(crate) staged: u64,
    /// Rows that stand in the warehouse through this load.
    pub(crate) merged: u64,
    pub(crate) rejected: u64,
    /// Those of the rejected rows that were sent and that the warehouse refused.
    pub(crate) refused: u64,
    /// Rows whose plate came again later in the file.
    pub(crate) duplicates: u64,
    /// Different plates among the rows.
    pub(crate) drivers: u64,
    pub(crate) state: LoadState,
    /// The rejected rows for programs; beside it lies the same as CSV.
    pub(crate) rejects_file: Option<PathBuf>,
    pub(crate) rejects_csv: Option<PathBuf>,
    /// Loaded rows with at least one warning.
    pub(crate) warned: u64,
    /// How often each warning was given.
    pub(crate) warnings: BTreeMap<Finding, u64>,
    /// The load that this one completes, if it was a quarantine.
    pub(crate) completes: Option<String>,
    /// The kind of server that was asked.
    pub(crate) warehouse: Option<Server>,
    /// Columns that the warehouse does not have, with `--on-drift discard`.
    pub(crate) left_out: Vec<String>,
}

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoadState {
    Committed,
    AlreadyLoaded,
}

impl LoadReport {
    /// The report of a load just committed.
    pub(crate) fn committed(file: &LoadFile, end: LoadEnd) -> Self {
        let LoadEnd { file: read, sent, staged, committed } = end;
        Self {
            load_id: file.load_id.clone(),
            file: file.name.clone(),
            rows: read.rows,
            sent,
            staged,
            merged: committed.merged,
            rejected: committed.rejected,
            refused: committed.rejected.saturating_sub(read.rejected),
            duplicates: committed.superseded,
            drivers: committed.merged,
            state: LoadState::Committed,
            rejects_file: read.rejects.as_ref().map(|paths| paths.ndjson.clone()),
            rejects_csv: read.rejects.map(|paths| paths.csv),
            warned: read.warned,
            warnings: read.warnings,
            completes: file.completes.clone(),
            warehouse: None,
            left_out: Vec::new(),
        }
    }

    /// The report of a file that the ledger has already: the counts of then, and nothing sent.
    pub(crate) fn already_loaded(file: &LoadFile, ledger: Committed) -> Self {
        Self {
            load_id: file.load_id.clone(),
            file: file.name.clone(),
            rows: ledger.rows,
            sent: 0,
            staged: 0,
            merged: ledger.merged,
            rejected: ledger.rejected,
            refused: 0,
            duplicates: ledger.superseded,
            drivers: ledger.merged,
            state: LoadState::AlreadyLoaded,
            rejects_file: None,
            rejects_csv: None,
            warned: 0,
            warnings: BTreeMap::new(),
            completes: file.completes.clone(),
            warehouse: None,
            left_out: Vec::new(),
        }
    }

    /// Names the quarantine that only the warehouse's refusals have made.
    pub(crate) fn with_quarantine(self, folder: &Path) -> Self {
        if self.refused == 0 || self.rejects_file.is_some() {
            return self;
        }
        let paths = RejectPaths::of(folder, &self.load_id);
        Self { rejects_file: Some(paths.ndjson), rejects_csv: Some(paths.csv), ..self }
    }

    /// Says which warehouse it was.
    pub(crate) fn in_warehouse(self, plan: &SchemaPlan) -> Self {
        Self { warehouse: Some(plan.warehouse), left_out: plan.left_out().to_vec(), ..self }
    }

    /// Checks that every row of the file is accounted for.
    pub(crate) fn reconcile(&self) -> Result<(), LoadFault> {
        let Self { rows, sent, staged, merged, rejected, refused, duplicates, .. } = self;
        let ended = merged + rejected + duplicates;
        if *rows != ended {
            return Err(LoadFault::Unreconciled(format!(
                "{rows} rows in the file, but {merged} merged + {rejected} rejected + {duplicates} duplicates = {ended}"
            )));
        }
        if self.state == LoadState::Committed && (sent != staged || sent + rejected != rows + refused) {
            return Err(LoadFault::Unreconciled(format!(
                "{rows} rows in the file, {rejected} rejected ({refused} of them by the warehouse), {sent} sent, {staged} staged"
            )));
        }
        Ok(())
    }

    /// 0, or 3 when this load put rows aside.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.state == LoadState::Committed && self.rejected > 0 { 3 } else { 0 }
    }

    /// The report in words.
    pub(crate) fn summary(&self) -> String {
        if self.state == LoadState::AlreadyLoaded {
            return format!(
                "{}: already loaded, nothing changed ({} rows: {} merged, {} duplicates, {} rejected)\n  load {}",
                self.file, self.rows, self.merged, self.duplicates, self.rejected, self.load_id
            );
        }
        let mut text = format!(
            "{}: committed\n  rows       {:>10}\n  sent       {:>10}\n  staged     {:>10}\n  merged     {:>10}\n  duplicates {:>10}  \
             (their plate comes again later in the file)\n  rejected   {:>10}\n  load {}",
            self.file, self.rows, self.sent, self.staged, self.merged, self.duplicates, self.rejected, self.load_id
        );
        for (finding, count) in &self.warnings {
            text.push_str(&format!("\n  warning    {count:>10}  {}", finding.name()));
        }
        if let Some(completes) = &self.completes {
            text.push_str(&format!("\n  completes load {completes}"));
        }
        if let Some(path) = &self.rejects_csv {
            text.push_str(&format!(
                "\n  rejected rows with line and reason: {}\n  next: mend the column `raw` there, then run: speedtrap-loader replay {}",
                path.display(),
                path.display()
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> LoadReport {
        LoadReport {
            load_id: "l1".into(),
            file: "drivers.csv".into(),
            rows: 10,
            sent: 9,
            staged: 9,
            merged: 7,
            rejected: 1,
            refused: 0,
            duplicates: 2,
            drivers: 7,
            state: LoadState::Committed,
            rejects_file: None,
            rejects_csv: None,
            warned: 0,
            warnings: BTreeMap::new(),
            completes: None,
            warehouse: None,
            left_out: Vec::new(),
        }
    }

    #[test]
    fn every_row_must_be_merged_rejected_or_superseded() {
        assert!(report().reconcile().is_ok());
        let refused = LoadReport { sent: 10, staged: 10, refused: 1, ..report() };
        assert!(refused.reconcile().is_ok());
        for wrong in [
            LoadReport { rows: 11, ..report() },
            LoadReport { merged: 6, ..report() },
            LoadReport { staged: 8, ..report() },
            LoadReport { sent: 10, staged: 10, ..report() },
            LoadReport { refused: 1, ..report() },
        ] {
            assert!(matches!(wrong.reconcile(), Err(LoadFault::Unreconciled(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_load_with_rejects_is_partial_unless_it_was_loaded_before() {
        assert_eq!(report().exit_code(), 3);
        assert_eq!(LoadReport { state: LoadState::AlreadyLoaded, ..report() }.exit_code(), 0);
        assert_eq!(serde_json::to_value(report()).unwrap()["state"], "committed");
    }
}
