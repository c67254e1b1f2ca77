//! The private folder of one run: keys, configuration and data, which go when it ends, and logs, which may stay.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::stop::{Code, Stop};

const LOGS: &str = "logs";

pub(crate) struct RunFolder {
    folder: TempDir,
}

impl RunFolder {
    /// Makes the folder where an unprivileged child can reach its own part of it.
    pub(crate) fn create() -> Result<Self> {
        let parents = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
        let parent = parents.iter().find(|parent| !is_root() || is_reachable_by_all(parent)).ok_or_else(|| {
            Stop::error(
                Code::BadConfig,
                "no temporary folder can be reached by an unprivileged process; set TMPDIR to one that can",
            )
        })?;
        let folder = tempfile::Builder::new()
            .prefix("speedtrap-")
            .tempdir_in(parent)
            .with_context(|| format!("failed to make a folder in `{}`", parent.display()))?;
        if is_root() {
            // The warehouse, which refuses to run as root, must be able to walk through, but not to list.
            fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        }
        let made = Self { folder };
        make_private(&made.logs())?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path().join(LOGS)
    }

    /// Makes a folder in it that only this user can enter.
    pub(crate) fn private(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        make_private(&path)?;
        Ok(path)
    }

    /// Keeps the logs, if any process has written one, and says where they are.
    pub(crate) fn keep_logs(self) {
        let logs = fs::read_dir(self.logs()).into_iter().flatten().flatten();
        if logs.flat_map(|log| log.metadata()).any(|log| log.len() > 0) {
            let path = self.folder.keep();
            clear_all_but_logs(&path);
            eprintln!("all logs are kept in `{}`", path.join(LOGS).display());
        }
    }
}

fn make_private(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("failed to make `{}`", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(|| format!("failed to close `{}`", path.display()))
}

/// Removes what is private or large. What cannot be removed stays closed to others.
pub(crate) fn clear_all_but_logs(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.file_name() != LOGS) {
        let removed = if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        if let Err(error) = removed {
            eprintln!("warning: `{}` could not be removed: {error}", entry.path().display());
        }
    }
}

pub(crate) fn is_root() -> bool {
    // SAFETY: no preconditions, never fails.
    unsafe { libc::geteuid() == 0 }
}

/// Whether every folder down to `path` lets every user through.
pub(crate) fn is_reachable_by_all(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}
