//! systemd itself, over a throw-away copy of this machine, with the node's unit installed as its header says. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::commands::{Ended, run};
use crate::deadline::eventually;
use crate::endpoints::Endpoints;
use crate::process::Process;
use crate::programs;

/// A running systemd that ends with this value, and everything it started.
pub struct Systemd {
    _unshare: Process,
    pid: u32,
    shared: PathBuf,
}

impl Systemd {
    /// Boots it. Call this from the test's own thread.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn boot(folder: &Path, endpoints: &Endpoints) -> Result<Self> {
        let shared = folder.join("shared");
        let etc = shared.join("etc");
        let drop_in = etc.join("systemd/system/speedtrap.service.d");
        for place in [&etc.join("speedtrap"), &drop_in] {
            fs::create_dir_all(place)?;
        }
        let deploy = programs::workspace().join("deploy");
        fs::copy(deploy.join("speedtrap.toml"), etc.join("speedtrap/speedtrap.toml"))?;
        fs::copy(deploy.join("systemd/speedtrap.service"), etc.join("systemd/system/speedtrap.service"))?;
        // As on a machine of the stack; there is no journal here.
        let output = "[Service]\nStandardOutput=append:/run/shared/speedtrap.log\nStandardError=inherit\n";
        fs::write(drop_in.join("instance.conf"), output)?;
        let environment = [
            ("AWS_ENDPOINT_URL", endpoints.aws_endpoint_url.as_str()),
            ("AWS_REGION", &endpoints.region),
            ("AWS_ACCESS_KEY_ID", &endpoints.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &endpoints.secret_access_key),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("SPEEDTRAP_WAREHOUSE__URL", &endpoints.warehouse_url),
            ("SPEEDTRAP_DASHBOARD__LISTEN", "127.0.0.1:0"),
            ("SPEEDTRAP_NOTIFY__MAX_TEXTS_PER_SECOND", "1000"),
        ];
        let environment: String = environment.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(etc.join("speedtrap/environment"), environment)?;
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child"]);
        command
            .arg(programs::workspace().join("tests/src/boot_systemd.sh"))
            .arg(folder)
            .arg(programs::folder()?.join("speedtrap"));
        let unshare = Process::start("systemd", command, folder)?;
        let parent = unshare.pid()?;
        let pid = eventually("systemd is up", Duration::from_secs(30), || async {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
            let pid: u32 = children.trim().parse().context("it has not begun")?;
            let ended = within(pid, &["systemctl", "is-system-running"]).await?;
            ensure!(ended.out.trim() == "running", "{ended:?}");
            Ok(pid)
        })
        .await
        .with_context(|| unshare.log_tail())?;
        Ok(Self { _unshare: unshare, pid, shared })
    }

    /// Runs systemctl on it; gives what it says.
    ///
    /// # Errors
    /// When it fails.
    pub async fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        let ended = within(self.pid, &[&["systemctl", "--no-pager"], arguments].concat()).await?;
        ensure!(ended.code == Some(0), "systemctl {arguments:?}: {ended:?}\n{}", self.log());
        Ok(ended.out)
    }

    /// A property of the unit.
    ///
    /// # Errors
    /// When there is none.
    pub async fn property(&self, name: &str) -> Result<String> {
        Ok(self.systemctl(&["show", "--value", "--property", name, "speedtrap"]).await?.trim().to_owned())
    }

    /// Runs a command of the node where the unit runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn speedtrap(&self, arguments: &[&str]) -> Result<Ended> {
        within(self.pid, &[&["speedtrap"], arguments].concat()).await
    }

    /// The address of the node's API, once it is ready.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn ready(&self) -> Result<String> {
        eventually("the node is ready", Duration::from_secs(90), || async {
            let said = within(self.pid, &["cat", "/run/speedtrap/ready.json"]).await?.json()?;
            said["dashboard_url"].as_str().map(str::to_owned).context("no dashboard_url")
        })
        .await
        .with_context(|| self.log())
    }

    /// What the unit wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.shared.join("speedtrap.log")).unwrap_or_default()
    }
}

/// Runs a program beside a process, in its namespaces.
async fn within(pid: u32, program: &[&str]) -> Result<Ended> {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--mount", "--pid", "--uts", "--ipc", "--cgroup"]).args(program);
    run(command).await
}
