//! A Prometheus of the test's own, and what it knows.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::commands;
use crate::deadline::eventually;
use crate::process::Process;

/// The folder of `prometheus` and `promtool`; without it they are looked for in the PATH.
const TOOLS: &str = "SPEEDTRAP_PROMETHEUS";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server that asks one node once a second.
pub struct Prometheus {
    process: Process,
    url: String,
}

/// A program of Prometheus.
///
/// # Errors
/// When it is not there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::var_os(TOOLS).map(PathBuf::from).into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file()).with_context(|| {
        format!("there is no {name}: install Debian's package prometheus, or name the folder of its programs in {TOOLS}")
    })
}

/// Has promtool look at files; gives what it says.
///
/// # Errors
/// When something is wrong with them.
pub async fn promtool(arguments: &[&str], folder: &Path) -> Result<String> {
    let mut command = Command::new(tool("promtool")?);
    command.args(arguments).current_dir(folder);
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0), "promtool {arguments:?}: {}{}", ended.out, ended.err);
    Ok(ended.out)
}

impl Prometheus {
    /// Starts it on a node's metrics, with these rules. Call this from the test's own thread.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(folder: &Path, node_url: &str, rules: &Path) -> Result<Self> {
        let target = node_url.strip_prefix("http://").context("the node's address is no http:// URL")?;
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  - job_name: speedtrap\n    \
             static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        std::fs::write(&config, text)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(tool("prometheus")?);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let mut server = Self { process: Process::start("prometheus", command, folder)?, url: format!("http://{address}") };
        eventually("Prometheus is ready", START_LIMIT, || async { server.ask("/api/v1/query", Some("1")).await.map(drop) })
            .await?;
        server.process.check_running()?;
        Ok(server)
    }

    /// The series that an expression gives now.
    ///
    /// # Errors
    /// When the expression is not understood, or there is no answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let answer = self.ask("/api/v1/query", Some(expression)).await.with_context(|| expression.to_owned())?;
        match (&answer["data"]["resultType"], &answer["data"]["result"]) {
            (kind, Value::Array(series)) if kind == "vector" => Ok(series.clone()),
            (kind, result) if kind == "scalar" => Ok(vec![result.clone()]),
            _ => bail!("{expression}: {answer}"),
        }
    }

    /// One of its own pages.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn page(&self, path: &str) -> Result<Value> {
        self.ask(path, None).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> Result<()> {
        self.process.signal(libc::SIGTERM)?;
        self.process.ended(Duration::from_secs(10)).await.map(drop)
    }

    async fn ask(&self, path: &str, query: Option<&str>) -> Result<Value> {
        let (url, query) = (format!("{}{path}", self.url), query.map(str::to_owned));
        let answer = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .timeout_global(Some(Duration::from_secs(10)))
                .http_status_as_error(false)
                .proxy(None)
                .build()
                .into();
            let mut request = agent.get(&url);
            if let Some(query) = &query {
                request = request.query("query", query);
            }
            Ok::<Value, anyhow::Error>(request.call()?.body_mut().read_json()?)
        })
        .await??;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer)
    }
}
