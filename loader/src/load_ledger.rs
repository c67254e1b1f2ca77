//! The facts of one load, as its ledger row in the warehouse keeps them.

use std::time::SystemTime;

/// A load that is about to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadFacts {
    pub(crate) load_id: String,
    /// The file's name without its folder.
    pub(crate) file: String,
    pub(crate) file_sha256: String,
    pub(crate) rows: u64,
    pub(crate) rejected: u64,
    /// Rows sent, which is what must be merged or superseded.
    pub(crate) sent: u64,
    pub(crate) started_at: SystemTime,
}

/// A load that stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) rows: u64,
    /// Rows that stand in the table through this load, one for each plate.
    pub(crate) merged: u64,
    /// Rows whose plate came again later in the file.
    pub(crate) superseded: u64,
    pub(crate) rejected: u64,
}
