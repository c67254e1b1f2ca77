//! A local cloud of one's own, with or without the demo's node, and the proof that nothing of it stays behind.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use crate::commands;
use crate::deadline::eventually;
use crate::endpoints::{Clients, Endpoints};
use crate::evidence::Evidence;
use crate::oracle::Expected;
use crate::process::{Process, is_alive};
use crate::programs;
use crate::reconcile::reconcile;

/// The first start of all may have to download what the cloud runs on.
const START_LIMIT: Duration = Duration::from_secs(900);
/// What is promised of the launcher after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running launcher and all that it started.
pub struct Sandbox {
    launcher: Process,
    pub endpoints: Endpoints,
    pub clients: Clients,
    /// The report of a demo.
    pub report: Option<Value>,
    /// How long the demo took.
    pub took: Duration,
    folder: TempDir,
}

impl Sandbox {
    /// Cloud and warehouse, and no node.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn up() -> Result<Self> {
        Self::up_with_shards(2).await
    }

    /// The same, with so many shards on the stream that readings arrive on.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn up_with_shards(shards: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = programs::command("speedtrap-local")?;
        command.args(["up", "--json", "--shards", &shards.to_string(), "--dir"]).arg(folder.path());
        let endpoints = folder.path().join("endpoints.json");
        Self::start(command, folder, &endpoints, None).await
    }

    /// The whole demo, held after its report.
    ///
    /// # Errors
    /// When it does not come to its report.
    pub async fn held_demo(arguments: &[&OsStr]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let report = folder.path().join("report.json");
        let mut command = programs::command("speedtrap-local")?;
        command.args(["demo", "--hold", "--json"]).arg(&report).arg("--bin-dir").arg(programs::folder()?).args(arguments);
        let endpoints = folder.path().join("endpoints.json");
        Self::start(command, folder, &endpoints, Some(&report)).await
    }

    async fn start(command: Command, folder: TempDir, endpoints: &Path, report: Option<&Path>) -> Result<Self> {
        let started = Instant::now();
        let mut launcher = Process::start_with_output("launcher", command, folder.path())?;
        while !endpoints.exists() {
            launcher.check_running()?;
            ensure!(started.elapsed() < START_LIMIT, "nothing was up within {START_LIMIT:?}\n{}", launcher.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = started.elapsed();
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()));
        let endpoints: Endpoints = serde_json::from_slice(&read(endpoints)?).context("endpoints.json has another form")?;
        let report = report.map(|path| anyhow::Ok(serde_json::from_slice(&read(path)?)?)).transpose()?;
        let clients = endpoints.clients().await;
        Ok(Self { launcher, endpoints, clients, report, took, folder })
    }

    /// A folder that goes with the sandbox.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the launcher said.
    #[must_use]
    pub fn launcher_log(&self) -> String {
        self.launcher.log()
    }

    /// Loads a drivers file, of which no row may be rejected.
    ///
    /// # Errors
    /// When that fails.
    pub async fn load(&self, drivers: &Path) -> Result<()> {
        let ended = commands::run(commands::loader(&self.endpoints, drivers, &self.folder().join("rejects"))?).await?;
        ensure!(ended.code == Some(0), "the loader failed: {ended:?}");
        Ok(())
    }

    /// Publishes a readings file, as fast as it goes or with so many readings a second.
    ///
    /// # Errors
    /// When not every row is acknowledged.
    pub async fn publish(&self, readings: &Path, rate: u32) -> Result<()> {
        let mut command = commands::device(&self.endpoints, readings)?;
        command.args(["--rate", &rate.to_string()]);
        let ended = commands::run(command).await?;
        ensure!(ended.code == Some(0), "the device failed: {ended:?}");
        Ok(())
    }

    /// Makes a drivers file and a readings file, with the dirt that real ones have.
    ///
    /// # Errors
    /// When that fails.
    pub async fn make_files(&self, drivers: &[&str], readings: &[&str]) -> Result<(PathBuf, PathBuf)> {
        make_files(self.folder(), drivers, readings).await
    }

    /// Everything that is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn evidence(&self) -> Result<Evidence> {
        Evidence::gather(&self.endpoints, &self.clients).await
    }

    /// Waits until everything is as it must be; gives what was found then.
    ///
    /// # Errors
    /// With what still differs when time is up.
    pub async fn reconciled(&self, expected: &Expected, limit: Duration) -> Result<Evidence> {
        eventually("everything has arrived", limit, || async {
            let found = self.evidence().await?;
            reconcile(expected, &found).map(|()| found)
        })
        .await
    }

    /// Ends the launcher, and sees to it that everything it started is gone.
    ///
    /// # Errors
    /// When something is not.
    pub async fn end(mut self) -> Result<()> {
        let Endpoints { cloud_pid, postgres_pid, node_pids, .. } = &self.endpoints;
        let pids: Vec<u32> = node_pids.iter().chain([cloud_pid, postgres_pid]).copied().collect();
        self.launcher.signal(libc::SIGTERM)?;
        let status = self.launcher.ended(STOP_LIMIT).await?;
        ensure!(status.code() == Some(0), "the launcher ended with {status}\n{}", self.launcher.log_tail());
        let left: Vec<_> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
        ensure!(left.is_empty(), "these processes outlived the launcher: {left:?}");
        ensure!(!self.folder.path().join("endpoints.json").exists(), "endpoints.json, with its credentials, was left");
        Ok(())
    }
}

impl Drop for Sandbox {
    /// Also after a failure the launcher gets to take its folders away.
    fn drop(&mut self) {
        self.launcher.end_within(STOP_LIMIT);
    }
}

/// Makes a drivers file, and a readings file whose plates are the drivers'.
///
/// # Errors
/// When that fails.
pub async fn make_files(folder: &Path, drivers: &[&str], readings: &[&str]) -> Result<(PathBuf, PathBuf)> {
    let drivers = commands::make_csv(folder, "drivers.csv", &[&["drivers"], drivers].concat()).await?;
    let of = drivers.to_str().context("the temporary folder has a name that is no UTF-8")?;
    let readings = commands::make_csv(folder, "readings.csv", &[&["readings", "--drivers", of], readings].concat()).await?;
    Ok((drivers, readings))
}
