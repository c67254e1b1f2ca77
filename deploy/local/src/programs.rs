//! Where the programs are that the demo runs: built by one visible `cargo build`, or taken from a folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{
    process::{Launcher, Output, Spec},
    stop::{Code, Stop},
};

const BUILD_LIMIT: Duration = Duration::from_secs(2 * 3600);

pub(crate) struct Programs {
    pub(crate) node: PathBuf,
    pub(crate) loader: PathBuf,
    pub(crate) device: PathBuf,
}

/// The root of the source tree this launcher was built from.
pub(crate) fn workspace() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map(Path::to_owned).context("the launcher was built outside its workspace")
}

/// A line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = folder.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(Stop::error(Code::NotFound, format!("`{}` does not exist", path.display())))
            }
        };
        Ok(Self { node: find("speedtrap")?, loader: find("speedtrap-loader")?, device: find("speedtrap-device")? })
    }

    pub(crate) fn build(launcher: &Launcher) -> Result<Self> {
        let root = workspace()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // The engine of speedtrap-sql takes as long to build as everything else together, and a demo does without it.
        let arguments = ["build", "--release", "--workspace", "--exclude", "speedtrap-sql", "--bins"];
        eprintln!("building all programs: cargo {}", arguments.join(" "));
        let mut command = Command::new(cargo);
        command.args(arguments).arg("--message-format=json-render-diagnostics");
        command.current_dir(&root);
        // `cargo run` describes this package to it; the inner cargo must not take that for its own.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                .iter()
                .any(|own| name.starts_with(own))
            {
                command.env_remove(&key);
            }
        }
        let built = launcher.run(Spec::new("cargo-build", command).output(Output::Visible), BUILD_LIMIT, || Ok(()))?;
        if !built.status.success() {
            return Err(Stop::error(Code::Failed, "the programs could not be built; cargo's messages above say why"));
        }
        // Cargo itself says where it has put them, whatever the target folder is set to.
        let messages = built.stdout()?;
        let executables: Vec<PathBuf> = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Message>(line).ok())
            .filter(|message| message.reason == "compiler-artifact")
            .filter_map(|message| message.executable)
            .collect();
        let find = |name: &str| {
            let found = executables.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
            found.cloned().with_context(|| format!("cargo has not built {name}"))
        };
        Ok(Self { node: find("speedtrap")?, loader: find("speedtrap-loader")?, device: find("speedtrap-device")? })
    }
}
