//! What a running `up` leaves for `status` and `down`, and proof that a recorded process id still means that launcher.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const FILE: &str = "state.json";

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct State {
    pub(crate) pid: u32,
    /// The kernel's start time of that process, in ticks since boot: a process id alone may be taken over by another.
    pub(crate) started_ticks: u64,
    pub(crate) run_folder: PathBuf,
    pub(crate) endpoints: PathBuf,
    pub(crate) aws_endpoint_url: String,
}

impl State {
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        read_json(&folder.join(FILE))
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        write_private_json(&folder.join(FILE), self)
    }

    /// Removes state and endpoints; what is already gone is fine.
    pub(crate) fn remove(&self, folder: &Path) -> Result<()> {
        for path in [folder.join(FILE), self.endpoints.clone()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("failed to remove `{}`", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the launcher that wrote this still runs.
    pub(crate) fn is_running(&self) -> bool {
        started_ticks(self.pid) == Some(self.started_ticks)
    }
}

/// When a process started, if it exists and is no zombie.
pub(crate) fn started_ticks(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Takes field 22 of /proc/PID/stat. The program's name, field 2, may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Reads a JSON file; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("failed to read `{}`", path.display()))?,
    };
    serde_json::from_str(&text).map(Some).with_context(|| format!("`{}` is no state of this program; remove it", path.display()))
}

/// Writes a JSON file whole or not at all, readable by this user only.
pub(crate) fn write_private_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_json(path, value, 0o600)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize, mode: u32) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            pid: std::process::id(),
            started_ticks: started_ticks(std::process::id()).unwrap(),
            run_folder: PathBuf::from("/nowhere"),
            endpoints: PathBuf::from("/nowhere/endpoints.json"),
            aws_endpoint_url: "http://127.0.0.1:1".to_owned(),
        }
    }

    #[test]
    fn state_comes_back_as_it_was_written_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), None);
        state().write(folder.path()).unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), Some(state()));
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        state().remove(folder.path()).unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), None);
    }

    #[test]
    fn another_process_with_the_same_id_is_not_ours() {
        assert!(state().is_running());
        assert!(!State { started_ticks: state().started_ticks + 1, ..state() }.is_running());
        assert!(!State { pid: u32::MAX / 2, ..state() }.is_running());
    }

    #[test]
    fn a_spoiled_state_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(State::read(folder.path()).unwrap_err().to_string().contains(FILE));
    }

    #[test]
    fn start_time_is_found_behind_an_odd_program_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 100";
        assert_eq!(parse_stat(stat), Some(4711));
        assert_eq!(parse_stat(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_stat(""), None);
    }
}
