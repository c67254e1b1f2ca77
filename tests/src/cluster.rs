//! Several nodes over one local cloud, and what they may be put through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::Instant;

use crate::commands;
use crate::deadline::eventually;
use crate::leases::{APPLICATIONS, LeaseRow, NOTIFY, leases, shared_fairly, workers};
use crate::network::Namespace;
use crate::node::{Node, Starting, Status};
use crate::programs;
use crate::sandbox::Sandbox;

/// Settings that one node has more than another.
pub type Settings<'a> = Box<dyn Fn(&str, &mut Command) -> Result<()> + 'a>;

/// The nodes of one cluster, by name. Nodes end with it.
pub struct Cluster<'a> {
    sandbox: &'a Sandbox,
    settings: Settings<'a>,
    /// Networks of the nodes that do not run in the test's own.
    namespaces: BTreeMap<String, Arc<Namespace>>,
    pub nodes: BTreeMap<String, Node>,
}

/// What all nodes counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub enriched: u64,
    pub notified: u64,
    pub duplicates: u64,
    pub possible_repeats: u64,
}

impl<'a> Cluster<'a> {
    /// A cluster without nodes.
    #[must_use]
    pub fn of(sandbox: &'a Sandbox) -> Self {
        Self::with_settings(sandbox, Box::new(|_, _| Ok(())))
    }

    /// The same, whose nodes get settings by their names.
    #[must_use]
    pub fn with_settings(sandbox: &'a Sandbox, settings: Settings<'a>) -> Self {
        Self { sandbox, settings, namespaces: BTreeMap::new(), nodes: BTreeMap::new() }
    }

    /// Lets a node run in another network than the test's own.
    pub fn place(&mut self, name: &str, namespace: &Arc<Namespace>) {
        self.namespaces.insert(name.to_owned(), Arc::clone(namespace));
    }

    /// Starts nodes side by side and waits until each is ready. Call this from the test's own thread.
    ///
    /// # Errors
    /// When one does not become ready.
    pub async fn start(&mut self, names: &[&str]) -> Result<()> {
        let starting: Vec<Starting> = names.iter().map(|name| self.launch(name)).collect::<Result<_>>()?;
        for (name, starting) in names.iter().zip(starting) {
            let mut node = starting.ready().await?;
            node.namespace = self.namespaces.get(*name).cloned();
            self.nodes.insert((*name).to_owned(), node);
        }
        Ok(())
    }

    /// Starts a node and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&self, name: &str) -> Result<Starting> {
        let mut set = Ok(());
        let starting = Node::launch(&self.sandbox.endpoints, self.sandbox.folder(), name, |command| {
            command.env("SPEEDTRAP_LOG__FORMAT", "human");
            if let Some(namespace) = self.namespaces.get(name) {
                namespace.enter(command);
            }
            set = (self.settings)(name, command);
        });
        set?;
        starting
    }

    /// A node by its name.
    ///
    /// # Errors
    /// When it is not up.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("{name} is not up"))
    }

    /// `<node>#<boot>` of the nodes that are up.
    ///
    /// # Errors
    /// When one has not registered.
    pub async fn workers(&self) -> Result<BTreeMap<String, String>> {
        let registered = workers(&self.sandbox.clients).await?;
        let worker = |name: &String| {
            let worker = registered.get(name).with_context(|| format!("{name} is not in the node table"))?;
            Ok((name.clone(), worker.clone()))
        };
        self.nodes.keys().map(worker).collect()
    }

    /// Waits until the nodes that are up share the leases of all applications fairly; says how long it took.
    ///
    /// # Errors
    /// When they do not.
    pub async fn fair(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let look = || async {
            let workers: BTreeSet<String> = self.workers().await?.into_values().collect();
            for application in APPLICATIONS {
                shared_fairly(application, &leases(&self.sandbox.clients, application).await?, &workers)?;
            }
            Ok(())
        };
        eventually("all leases are shared fairly", limit, look).await.with_context(|| self.logs())?;
        Ok(begun.elapsed())
    }

    /// Waits until every node that is up sees every other linked; says how long it took.
    ///
    /// # Errors
    /// When one does not.
    pub async fn meshed(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let look = || async {
            for (name, node) in &self.nodes {
                let seen = node.sees().await?;
                let is_linked = |other: &&String| *other == name || seen.get(*other).is_some_and(|presence| presence == "linked");
                let missing: Vec<_> = self.nodes.keys().filter(|other| !is_linked(other)).collect();
                ensure!(missing.is_empty(), "{name} has no link to {missing:?}: {seen:?}");
            }
            Ok(())
        };
        eventually("all nodes are linked", limit, look).await.with_context(|| self.logs())?;
        Ok(begun.elapsed())
    }

    /// The shards of an application that a node owns.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn shards_of(&self, name: &str, application: &str) -> Result<BTreeSet<String>> {
        let rows = leases(&self.sandbox.clients, application).await?;
        Ok(rows.into_iter().filter(|row| row.is_open() && row.node() == Some(name)).map(|row| row.shard).collect())
    }

    /// The node that texts: it owns the only lease of the notify lanes.
    ///
    /// # Errors
    /// When nobody owns it.
    pub async fn texter(&self) -> Result<String> {
        let rows = leases(&self.sandbox.clients, NOTIFY).await?;
        rows.iter().find_map(LeaseRow::node).map(str::to_owned).context("nobody texts")
    }

    /// Ends a node as `kill -9` does.
    ///
    /// # Errors
    /// When it is not up.
    pub async fn kill(&mut self, name: &str) -> Result<()> {
        let mut node = self.nodes.remove(name).with_context(|| format!("{name} is not up"))?;
        node.process.check_running()?;
        node.process.kill().await
    }

    /// Asks one node, over another's API, to give its leases away and end in good order; gives the events that it ended in its
    /// life, as its last words have it.
    ///
    /// # Errors
    /// When the command fails, or the node does not end so.
    pub async fn drain(&mut self, name: &str, asked: &str, limit: Duration) -> Result<u64> {
        let mut command = programs::command("speedtrap")?;
        command.args(["drain", name, "--node", &self.node(asked)?.url]);
        let ended = commands::run(command).await?;
        ensure!(ended.code == Some(0), "speedtrap drain failed: {ended:?}\n{}", self.logs());
        let mut node = self.nodes.remove(name).with_context(|| format!("{name} is not up"))?;
        let status = node.process.ended(limit).await?;
        ensure!(status.code() == Some(0), "{name} ended with {status}\n{}", node.process.log_tail());
        let log = node.process.log();
        let said = log.lines().rev().find_map(|line| line.split_once("drained events_in=")).map(|(_, count)| count.trim());
        said.and_then(|count| count.parse().ok()).with_context(|| format!("{name} did not say what it ended\n{log}"))
    }

    /// What each node says of itself.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn statuses(&self) -> Result<BTreeMap<String, Status>> {
        let mut statuses = BTreeMap::new();
        for (name, node) in &self.nodes {
            statuses.insert(name.clone(), node.status().await?);
        }
        Ok(statuses)
    }

    /// What the nodes that are up counted.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for status in self.statuses().await?.values() {
            counts.enriched += status.all_ended("enrich");
            counts.notified += status.ended("notify", "notified");
            counts.duplicates += status.ended("notify", "duplicate");
            counts.possible_repeats += status.possible_repeats();
        }
        Ok(counts)
    }

    /// Waits until no node has anything left to do.
    ///
    /// # Errors
    /// When one still has when time is up.
    pub async fn idle(&self, limit: Duration) -> Result<()> {
        let look = || async {
            for (name, status) in self.statuses().await? {
                ensure!(status.is_idle(), "{name} has something left to do: {}", status.json());
            }
            Ok(())
        };
        eventually("all nodes are idle", limit, look).await.with_context(|| self.logs())
    }

    /// Ends all nodes in good order.
    ///
    /// # Errors
    /// When one does not.
    pub async fn stop(mut self) -> Result<()> {
        // Asked together, since each waits for nobody else to take its leases.
        for node in self.nodes.values() {
            node.process.signal(libc::SIGTERM)?;
        }
        for (name, node) in &mut self.nodes {
            let status = node.process.ended(Duration::from_secs(32)).await?;
            ensure!(status.code() == Some(0), "{name} ended with {status}\n{}", node.process.log_tail());
        }
        Ok(())
    }

    /// Waits until nobody owns a lease under a worker id any more; says how long it took.
    ///
    /// # Errors
    /// When somebody still does.
    pub async fn taken_from(&self, worker: &str, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let look = || async {
            for application in APPLICATIONS {
                let rows = leases(&self.sandbox.clients, application).await?;
                let kept = rows.into_iter().find(|row| row.owner.as_deref() == Some(worker));
                ensure!(kept.is_none(), "{application}: {kept:?}");
            }
            Ok(())
        };
        eventually("its leases are taken over", limit, look).await.with_context(|| self.logs())?;
        Ok(begun.elapsed())
    }

    /// The ends of all logs, for messages; copies whole logs to the folder that `SPEEDTRAP_TEST_LOGS` names.
    #[must_use]
    pub fn logs(&self) -> String {
        if let Some(kept) = std::env::var_os("SPEEDTRAP_TEST_LOGS").map(PathBuf::from) {
            let logs = std::fs::read_dir(self.sandbox.folder()).into_iter().flatten().flatten().map(|entry| entry.path());
            for log in logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
                // What cannot be kept is no reason to hide the failure itself.
                let _kept = log.file_name().map(|name| std::fs::copy(&log, kept.join(name)));
            }
        }
        let tail = |(name, node): (&String, &Node)| format!("--- {name}\n{}", node.process.log_tail());
        self.nodes.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}
