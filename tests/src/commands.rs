//! Running the workspace's programs to their end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::endpoints::Endpoints;
use crate::programs;

const LIMIT: Duration = Duration::from_secs(300);

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The last line of standard output as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        let line = self.out.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("no JSON: {self:?}"))
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub async fn run(mut command: Command) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output =
        tokio::time::timeout(LIMIT, command.output()).await.with_context(|| format!("{command:?} did not end in time"))??;
    Ok(Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Makes a CSV file with `speedtrap-data`.
///
/// # Errors
/// When that fails.
pub async fn make_csv(folder: &Path, name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let file = folder.join(name);
    let mut command = programs::command("speedtrap-data")?;
    command.args(arguments).arg("--out").arg(&file);
    let ended = run(command).await?;
    ensure!(ended.code == Some(0), "speedtrap-data failed: {ended:?}");
    Ok(file)
}

/// A loader that is pointed at a local cloud.
///
/// # Errors
/// When it is not built.
pub fn loader(endpoints: &Endpoints, file: &Path, rejects: &Path) -> Result<Command> {
    let mut command = programs::command("speedtrap-loader")?;
    endpoints.aws_environment(&mut command);
    command.env("SPEEDTRAP_LOADER_WAREHOUSE__URL", &endpoints.warehouse_url);
    command.arg("load").arg(file).arg("--json").arg("--rejects-dir").arg(rejects);
    command.arg("--state-dir").arg(rejects.with_file_name("loader-state"));
    Ok(command)
}

/// A device that publishes a readings file into a local cloud.
///
/// # Errors
/// When it is not built.
pub fn device(endpoints: &Endpoints, file: &Path) -> Result<Command> {
    let mqtt = &endpoints.mqtt;
    let mut command = programs::command("speedtrap-device")?;
    command.args(["publish", "--endpoint", &mqtt.host, "--port", &mqtt.port.to_string(), "--client-id", &mqtt.client_id]);
    command.args(["--topic", &mqtt.topic, "--json", "--root-ca"]).arg(&mqtt.ca);
    command.arg("--cert").arg(&mqtt.cert).arg("--key").arg(&mqtt.key).arg("--file").arg(file);
    // Beside the certificate, which goes with the cloud: nothing stays behind in anybody's home.
    let folder = Path::new(&mqtt.cert).parent().context("a certificate lies in a folder")?;
    command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", folder);
    Ok(command)
}
