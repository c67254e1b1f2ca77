//! Why a load failed: what happened, why, what to do next, and the exit code that says it to scripts.

use std::path::PathBuf;
use std::time::Duration;

use crate::drivers_file::FileFault;
use crate::ports::PortError;

/// The remote side of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Remote {
    Firehose,
    Bucket,
    Warehouse,
}

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFault {
    #[error("`{}` does not exist\n  next: check the path", path.display())]
    FileMissing { path: PathBuf },
    #[error("cannot load `{}`: {cause}\n  next: {}", path.display(), cause.next())]
    File { path: PathBuf, cause: FileFault },
    #[error("`{}` changed while it was read\n  next: load it again once nobody writes to it; what was sent is ignored then", path.display())]
    FileChanged { path: PathBuf },
    #[error("cannot write rejected rows to `{}`: {reason}\n  next: choose another folder with --rejects-dir", path.display())]
    Rejects { path: PathBuf, reason: String },
    #[error("{}: {cause}\n  next: {}", remote.doing(), remote.next(cause))]
    Remote { remote: Remote, cause: PortError },
    #[error(
        "only {staged} of {sent} rows reached the bucket within {}s\n  next: look at the delivery stream's errors (prefix \
         firehose-errors/), or raise s3.staged_timeout; loading the file again completes it",
        waited.as_secs()
    )]
    NotStaged { staged: u64, sent: u64, waited: Duration },
    #[error(
        "the warehouse's tables do not fit what is loaded\n{plan}\n  next: run that DDL, or load with --on-drift add (runs it) \
         or --on-drift discard (loads what fits)"
    )]
    Drift { plan: String },
    #[error("{0}\n  next: load the file again; if it stays so, somebody else writes to the bucket")]
    Altered(#[from] crate::staged_row::AlteredRow),
    #[error(
        "the counts do not add up: {0}\n  next: this is a bug, please report it; the ledger row of the load shows what was written"
    )]
    Unreconciled(String),
    #[error(
        "another loader, process {pid}, works at load {load_id}\n  next: wait for it, `speedtrap-loader status {load_id}` shows how far it is"
    )]
    Busy { load_id: String, pid: u32 },
    #[error("an actor crashed: {0}\n  next: this is a bug, please report it; loading the file again completes it")]
    Crashed(String),
    #[error("gave up after {restarts} restarts: {last}")]
    GaveUp { restarts: u32, last: Box<LoadFault> },
    #[error(
        "there is no load `{wanted}`\n  next: `speedtrap-loader status` lists those of this machine; others need their whole id"
    )]
    LoadMissing { wanted: String },
    #[error("interrupted\n  next: load the file again; it goes on where it stopped")]
    Interrupted,
}

impl LoadFault {
    /// Whether starting again could help.
    pub(crate) fn is_worth_a_restart(&self) -> bool {
        match self {
            Self::Remote { cause, .. } => cause.is_passing(),
            Self::Crashed(_) => true,
            _ => false,
        }
    }

    /// Whether the same file would fail in the same way again.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::File { .. } | Self::FileMissing { .. } | Self::Unreconciled(_))
    }

    /// The exit code: 1 failed, 4 not found, 5 refused, 69 unreachable, 130 interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::FileMissing { .. } | Self::LoadMissing { .. } => 4,
            Self::Busy { .. } | Self::Drift { .. } => 5,
            Self::Remote { cause, .. } if cause.is_passing() => 69,
            Self::GaveUp { last, .. } => last.exit_code(),
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}

impl Remote {
    /// Makes the fault of a failed call to it.
    pub(crate) fn fault(self, cause: PortError) -> LoadFault {
        LoadFault::Remote { remote: self, cause }
    }

    /// The side in one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Firehose => "firehose",
            Self::Bucket => "bucket",
            Self::Warehouse => "warehouse",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Firehose => "cannot send rows to Firehose",
            Self::Bucket => "cannot read the bucket that Firehose delivers to",
            Self::Warehouse => "cannot work with the warehouse",
        }
    }

    fn next(self, cause: &PortError) -> &'static str {
        match (self, cause) {
            (Self::Warehouse, PortError::Refused(_)) => {
                "check warehouse.url, the user's rights and that data/schema/warehouse.sql was applied"
            }
            (Self::Warehouse, _) => {
                "check that the warehouse is up and warehouse.url names it; loading the file again completes it"
            }
            (_, PortError::Refused(_)) => "check the stream, the bucket and the rights of the credentials",
            (_, PortError::Throttled(_)) => "raise firehose.retry_for or the stream's quota; loading the file again completes it",
            (_, PortError::Unavailable(_)) => "check AWS_ENDPOINT_URL, region and network; loading the file again completes it",
        }
    }
}

impl FileFault {
    fn next(&self) -> &'static str {
        match self {
            Self::Empty => "give the file a header and rows",
            Self::Header(_) => "correct the header, or describe the file in a contract (--contract; `crawl` proposes one)",
            Self::Packed(_) => "unpack or export it as CSV",
            Self::Utf16 => "save it as UTF-8",
            Self::CarriageReturns => "save it with lines that end with LF or CR LF",
            Self::Rejects(_) => "give the .csv or .ndjson file that a load made in its folder for rejected rows",
            Self::Io(_) => "check that the file can be read",
        }
    }
}
