//! Where the built programs are, and the environment they get.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The folder of the built programs: test binaries lie in its `deps`.
///
/// # Errors
/// When this is not a test binary that cargo built.
pub fn folder() -> Result<PathBuf> {
    let test = std::env::current_exe().context("failed to find this test's own path")?;
    let folder = test.parent().and_then(Path::parent).context("this test does not lie in cargo's target folder")?;
    Ok(folder.to_owned())
}

/// The workspace that the tests belong to.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A command that runs one of the workspace's programs, with none of the caller's settings for AWS or Speedtrap.
///
/// # Errors
/// When the program is not built.
pub fn command(name: &str) -> Result<Command> {
    let path = folder()?.join(name);
    ensure!(path.is_file(), "`{}` is not built; `cargo build --workspace --bins` builds it", path.display());
    let mut command = Command::new(path);
    let is_setting = |key: &str| key.starts_with("AWS_") || key.starts_with("SPEEDTRAP_");
    for key in std::env::vars_os().map(|(key, _)| key).filter(|key| is_setting(&key.to_string_lossy())) {
        // What makes the launcher find PostgreSQL and Python may stay.
        if key != "SPEEDTRAP_PYTHON" {
            command.env_remove(key);
        }
    }
    command.env("NO_COLOR", "1");
    Ok(command)
}
