//! The nodes of a demo: configuring, starting and asking them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    cloud::{aws_environment, call_as},
    interrupt,
    process::{Launcher, Process, Spec},
    report::NodeCounts,
    stack::Stack,
    state::read_json,
    stop::{Code, Stop},
};

const READY_LIMIT: Duration = Duration::from_secs(90);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Links come up within a second of the last node's start.
const LINK_LIMIT: Duration = Duration::from_secs(20);

/// Everything at its default, but for what a demo cannot wait for or must not share.
const CONFIG: &str = "\
[dashboard]
listen = \"127.0.0.1:0\"

[notify]
# SNS' own limit of 20 a second would hold back a demo's texts for a minute.
max_texts_per_second = 1000
";

pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) dashboard_url: String,
}

#[derive(Deserialize)]
struct Ready {
    dashboard_url: String,
}

/// What `GET /api/v1/status` answers, as far as the demo needs it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Status {
    outcomes_by_role: BTreeMap<String, BTreeMap<String, u64>>,
    possible_repeats: u64,
    idle: bool,
}

/// What `GET /api/v1/nodes` answers, as far as the demo needs it.
#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    presence: String,
}

/// What `GET /api/v1/shards` answers, as far as the demo needs it.
#[derive(Deserialize)]
struct Shards {
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    role: String,
    node: Option<String>,
    state: String,
}

/// How many shards of each role each node runs.
pub(crate) type Placement = BTreeMap<String, BTreeMap<String, u64>>;

/// What all nodes say at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answers {
    statuses: Vec<Status>,
}

impl Node {
    /// Starts a node; it is up when [`Node::wait_until_ready`] returns.
    fn start(launcher: &Launcher, program: &Path, stack: &Stack, folder: &Path, name: &str) -> Result<(Process, PathBuf)> {
        let config = folder.join(format!("{name}.toml"));
        fs::write(&config, CONFIG).context("failed to write a node's configuration")?;
        let ready = folder.join(format!("{name}.ready.json"));
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&config).args(["--name", name]).arg("--ready-file").arg(&ready);
        command.current_dir(folder).env("SPEEDTRAP_WAREHOUSE__URL", stack.warehouse.url());
        command.env("SPEEDTRAP_DASHBOARD__AUDIT_FILE", folder.join(format!("audit-{name}.ndjson")));
        aws_environment(&mut command, Some(&stack.cloud.endpoint));
        call_as(&mut command, &stack.roles.node, name, folder)?;
        Ok((launcher.spawn(Spec::new(name, command))?, ready))
    }

    fn wait_until_ready(mut process: Process, ready: &Path) -> Result<Self> {
        let until = Instant::now() + READY_LIMIT;
        loop {
            if let Some(Ready { dashboard_url }) = read_json(ready)? {
                return Ok(Self { process, dashboard_url });
            }
            process.check_running()?;
            if Instant::now() > until {
                let message =
                    format!("{} was not ready within {} s\n{}", process.name, READY_LIMIT.as_secs(), process.log_tail());
                return Err(Stop::error(Code::TimedOut, message));
            }
            interrupt::pause(Duration::from_millis(25))?;
        }
    }

    /// Starts a node under the name of one that died, and waits for it.
    pub(crate) fn start_again(launcher: &Launcher, program: &Path, stack: &Stack, folder: &Path, name: &str) -> Result<Self> {
        // A killed node leaves its file behind.
        let stale = folder.join(format!("{name}.ready.json"));
        if stale.exists() {
            fs::remove_file(&stale).context("failed to remove a dead node's ready file")?;
        }
        let (process, ready) = Self::start(launcher, program, stack, folder, name)?;
        Self::wait_until_ready(process, &ready)
    }

    /// Starts `count` nodes side by side and waits for all.
    pub(crate) fn start_all(launcher: &Launcher, program: &Path, stack: &Stack, folder: &Path, count: u32) -> Result<Vec<Self>> {
        let started: Vec<(Process, PathBuf)> = (1..=count)
            .map(|number| Self::start(launcher, program, stack, folder, &format!("node-{number}")))
            .collect::<Result<_>>()?;
        started.into_iter().map(|(process, ready)| Self::wait_until_ready(process, &ready)).collect()
    }
}

/// Waits until every node sees all others over a link.
pub(crate) fn wait_until_linked(nodes: &[Node]) -> Result<()> {
    let until = Instant::now() + LINK_LIMIT;
    let agent = agent();
    let sees_all = |node: &Node| -> Result<bool> {
        let page: Nodes = get(&agent, node, "/api/v1/nodes")?;
        let there = page.nodes.iter().filter(|member| matches!(member.presence.as_str(), "here" | "linked"));
        Ok(there.count() >= nodes.len())
    };
    loop {
        let seen = nodes.iter().map(sees_all).collect::<Result<Vec<_>>>();
        match seen {
            Ok(seen) if !seen.contains(&false) => return Ok(()),
            Err(error) if Instant::now() > until => return Err(error),
            _ if Instant::now() > until => {
                let message = format!("the nodes were not linked within {} s", LINK_LIMIT.as_secs());
                return Err(Stop::error(Code::TimedOut, message));
            }
            _ => interrupt::pause(Duration::from_millis(50))?,
        }
    }
}

/// Asks one node what all of them run.
pub(crate) fn placement(nodes: &[Node]) -> Result<Placement> {
    let first = nodes.first().context("there is no node")?;
    let page: Shards = get(&agent(), first, "/api/v1/shards")?;
    let mut placement: Placement = nodes.iter().map(|node| (node.process.name.clone(), BTreeMap::new())).collect();
    for shard in page.shards.into_iter().filter(|shard| shard.state != "ended") {
        let of_node = placement.entry(shard.node.unwrap_or_else(|| "nobody".to_owned())).or_default();
        *of_node.entry(shard.role).or_default() += 1;
    }
    Ok(placement)
}

/// Asks every node. A node that does not answer in time is an error for the caller to bear with, or not.
pub(crate) fn ask_all(nodes: &[Node]) -> Result<Answers> {
    let agent = agent();
    Ok(Answers { statuses: nodes.iter().map(|node| get(&agent, node, "/api/v1/status")).collect::<Result<_>>()? })
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(ANSWER_TIMEOUT)).proxy(None).build().into()
}

fn get<T: DeserializeOwned>(agent: &ureq::Agent, node: &Node, path: &str) -> Result<T> {
    let url = format!("{}{path}", node.dashboard_url);
    let mut answer = agent.get(&url).call().with_context(|| format!("{} does not answer at {url}", node.process.name))?;
    answer.body_mut().read_json().with_context(|| format!("{} answers something unexpected at {url}", node.process.name))
}

impl Answers {
    pub(crate) fn are_idle(&self) -> bool {
        self.statuses.iter().all(|status| status.idle)
    }

    pub(crate) fn counts(&self) -> NodeCounts {
        let ended = |role: &str| self.outcomes(role).map(|(_, count)| count).sum();
        let enrich = |outcome: &str| self.outcomes("enrich").filter(|(name, _)| name == outcome).map(|(_, count)| count).sum();
        NodeCounts {
            enrich_ended: ended("enrich"),
            errors_ended: ended("errors"),
            under_limit: enrich("under_limit"),
            published: enrich("published"),
            owner_unknown: enrich("owner_unknown"),
            possible_repeats: self.statuses.iter().map(|status| status.possible_repeats).sum(),
            whole: true,
        }
    }

    fn outcomes(&self, role: &str) -> impl Iterator<Item = (String, u64)> {
        let of_role = self.statuses.iter().filter_map(|status| status.outcomes_by_role.get(role));
        of_role.flatten().map(|(name, count)| (name.clone(), *count)).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_several_nodes_add_up() {
        let one = r#"{"node":"node-1","outcomes_by_role":{"enrich":{"under_limit":2,"published":3},"errors":{"rejected":1}},"possible_repeats":1,"idle":true}"#;
        let two = r#"{"outcomes_by_role":{"enrich":{"published":4,"owner_unknown":5}},"idle":false}"#;
        let answers = Answers { statuses: [one, two].map(|text| serde_json::from_str(text).unwrap()).into() };
        assert!(!answers.are_idle());
        let expected = NodeCounts {
            enrich_ended: 14,
            errors_ended: 1,
            under_limit: 2,
            published: 7,
            owner_unknown: 5,
            possible_repeats: 1,
            whole: true,
        };
        assert_eq!(answers.counts(), expected);
    }
}
