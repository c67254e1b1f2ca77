//! A node of the pipeline as a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::deadline::eventually;
use crate::endpoints::{Endpoints, get_json, get_json_now};
use crate::network::Namespace;
use crate::process::Process;
use crate::programs;

const READY_LIMIT: Duration = Duration::from_secs(90);

/// Everything at its default, but for the rate of texts: SNS' own limit of 20 a second would hold a test back for minutes.
const CONFIG: &str = "[dashboard]\nlisten = \"127.0.0.1:0\"\n\n[notify]\nmax_texts_per_second = 1000\n";

/// A running node.
pub struct Node {
    pub process: Process,
    pub url: String,
    /// The network that its API is reached in; none: the test's own.
    pub namespace: Option<Arc<Namespace>>,
}

/// A node that was started and has not said yet that it is ready.
pub struct Starting {
    pub process: Process,
    ready: PathBuf,
}

/// What `GET /api/v1/status` answers.
#[derive(Clone, Debug)]
pub struct Status(Value);

impl Node {
    /// Starts a node and waits until it is ready. Call this from the test's own thread.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(endpoints: &Endpoints, folder: &Path, name: &str) -> Result<Self> {
        Self::start_with(endpoints, folder, name, |_| ()).await
    }

    /// The same, with more settings in its environment.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_with(endpoints: &Endpoints, folder: &Path, name: &str, change: impl FnOnce(&mut Command)) -> Result<Self> {
        Self::launch(endpoints, folder, name, change)?.ready().await
    }

    /// Starts a node and waits for nothing. Call this from the test's own thread. The logs of earlier starts are kept.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(endpoints: &Endpoints, folder: &Path, name: &str, change: impl FnOnce(&mut Command)) -> Result<Starting> {
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, CONFIG)?;
        let ready = folder.join(format!("{name}.ready.json"));
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let mut command = programs::command("speedtrap")?;
        endpoints.aws_environment(&mut command);
        command.env("SPEEDTRAP_WAREHOUSE__URL", &endpoints.warehouse_url);
        command.env("SPEEDTRAP_DASHBOARD__AUDIT_FILE", folder.join(format!("audit-{name}.ndjson")));
        command.arg("run").arg("--config").arg(&config).args(["--name", name]).arg("--ready-file").arg(&ready);
        change(&mut command);
        Ok(Starting { process: Process::start(name, command, folder)?, ready })
    }

    /// Asks it how it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Status> {
        self.page("/api/v1/status").await.map(Status)
    }

    /// Asks it for the key figures and findings of all nodes.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn overview(&self) -> Result<Value> {
        self.page("/api/v1/overview").await
    }

    /// Asks it which nodes it sees, itself among them: presence by name.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn sees(&self) -> Result<BTreeMap<String, String>> {
        let page = self.page("/api/v1/nodes").await?;
        let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let nodes = page["nodes"].as_array().into_iter().flatten();
        Ok(nodes.map(|node| (text(node, "name"), text(node, "presence"))).collect())
    }

    async fn page(&self, path: &str) -> Result<Value> {
        let (url, namespace) = (format!("{}{path}", self.url), self.namespace.clone());
        let get = move || match namespace {
            Some(namespace) => namespace.within(|| get_json_now(&url)),
            None => get_json_now(&url),
        };
        tokio::task::spawn_blocking(get).await?
    }

    /// Asks it to end, which it must do in good order.
    ///
    /// # Errors
    /// When it does not, or takes longer than its drain timeout.
    pub async fn stop(mut self) -> Result<()> {
        self.process.signal(libc::SIGTERM)?;
        let status = self.process.ended(Duration::from_secs(32)).await?;
        ensure!(status.code() == Some(0), "the node ended with {status}\n{}", self.process.log_tail());
        Ok(())
    }
}

impl Starting {
    /// Waits until every kind of lane runs.
    ///
    /// # Errors
    /// When that does not come about.
    pub async fn ready(self) -> Result<Node> {
        let Self { mut process, ready } = self;
        let url = eventually("the node is ready", READY_LIMIT, || async {
            let text = std::fs::read_to_string(&ready).context("the ready file cannot be read")?;
            let said: Value = serde_json::from_str(&text)?;
            said["dashboard_url"].as_str().map(str::to_owned).context("the ready file names no dashboard_url")
        })
        .await;
        process.check_running()?;
        Ok(Node { url: url.with_context(|| process.log_tail())?, process, namespace: None })
    }
}

/// Asks the node at an address how it is.
///
/// # Errors
/// When it does not answer.
pub async fn status(url: &str) -> Result<Status> {
    get_json(format!("{url}/api/v1/status")).await.map(Status)
}

/// Asks the node at an address how all nodes together are.
///
/// # Errors
/// When it does not answer.
pub async fn status_of_all(url: &str) -> Result<Status> {
    get_json(format!("{url}/api/v1/status?scope=cluster")).await.map(Status)
}

impl Status {
    /// How many events of a role ended in one way.
    #[must_use]
    pub fn ended(&self, role: &str, outcome: &str) -> u64 {
        self.0["outcomes_by_role"][role][outcome].as_u64().unwrap_or_default()
    }

    /// How many events of a role ended.
    #[must_use]
    pub fn all_ended(&self, role: &str) -> u64 {
        let outcomes = self.0["outcomes_by_role"][role].as_object();
        outcomes.map(|outcomes| outcomes.values().filter_map(Value::as_u64).sum()).unwrap_or_default()
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0["idle"] == true
    }

    /// Texts that may have been sent twice.
    #[must_use]
    pub fn possible_repeats(&self) -> u64 {
        self.0["possible_repeats"].as_u64().unwrap_or_default()
    }

    /// All of it.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }
}
