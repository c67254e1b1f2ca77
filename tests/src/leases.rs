//! Lease rows and node rows, read straight from their tables, and who owns what by them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use tokio::task::JoinHandle;

use crate::endpoints::Clients;
use crate::evidence::items;

pub const ENRICH: &str = "IotFastCarSensor";
pub const NOTIFY: &str = "rtr-iot-notify";
pub const APPLICATIONS: [&str; 4] = [ENRICH, NOTIFY, "rtr-iot-archive", "rtr-iot-errors"];
pub const NODE_TABLE: &str = "rtr-iot-nodes";
pub const SHARD_END: &str = "SHARD_END";

/// Time between two looks of a [`LeaseWatch`].
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A lease row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    pub shard: String,
    /// `<node>#<boot>`.
    pub owner: Option<String>,
    pub counter: u64,
    pub checkpoint: String,
    pub switches: u64,
    pub parents: BTreeSet<String>,
    pub children: BTreeSet<String>,
}

/// A difference between two looks at one row.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: SystemTime,
    pub application: &'static str,
    pub before: Option<LeaseRow>,
    pub row: LeaseRow,
}

/// Looks at the leases of some applications all the time and keeps every change.
pub struct LeaseWatch {
    changes: Arc<Mutex<Vec<Change>>>,
    task: JoinHandle<()>,
}

impl LeaseRow {
    /// The name of the node that owns it.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.owner.as_deref().map(|owner| owner.split('#').next().unwrap_or(owner))
    }

    /// Whether its shard has more to give.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.checkpoint != SHARD_END
    }
}

impl Change {
    /// Whether another worker owned it before.
    #[must_use]
    pub fn is_move(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.owner.is_some() && before.owner != self.row.owner)
    }
}

impl LeaseWatch {
    /// Begins.
    #[must_use]
    pub fn begin(clients: &Clients, applications: &[&'static str]) -> Self {
        let changes = Arc::<Mutex<Vec<Change>>>::default();
        let (noted, dynamodb, applications) = (Arc::clone(&changes), clients.dynamodb.clone(), applications.to_vec());
        let task = tokio::spawn(async move {
            let mut known = BTreeMap::<(&str, String), LeaseRow>::new();
            loop {
                for application in &applications {
                    // A table that is not there yet has no rows.
                    let Ok(rows) = rows_of(&dynamodb, application).await else { continue };
                    let at = SystemTime::now();
                    for row in rows {
                        let key = (*application, row.shard.clone());
                        let before = known.get(&key).cloned();
                        if before.as_ref() != Some(&row) {
                            known.insert(key, row.clone());
                            let change = Change { at, application, before, row };
                            noted.lock().unwrap_or_else(PoisonError::into_inner).push(change);
                        }
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { changes, task }
    }

    /// What was seen so far.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes of owner since a time, of leases that had one.
    #[must_use]
    pub fn moves_since(&self, since: SystemTime) -> Vec<Change> {
        self.changes().into_iter().filter(|change| change.at >= since && change.is_move()).collect()
    }
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The rows of one application, by shard; none if its table is not there.
///
/// # Errors
/// When the table cannot be read.
pub async fn leases(clients: &Clients, application: &str) -> Result<Vec<LeaseRow>> {
    rows_of(&clients.dynamodb, application).await
}

async fn rows_of(dynamodb: &aws_sdk_dynamodb::Client, application: &str) -> Result<Vec<LeaseRow>> {
    let mut rows = items(dynamodb, application).await?.iter().map(lease_row).collect::<Result<Vec<_>>>()?;
    rows.sort_by(|one, other| one.shard.cmp(&other.shard));
    Ok(rows)
}

/// The workers that have registered: `<node>#<boot>` by node.
///
/// # Errors
/// When the node table cannot be read.
pub async fn workers(clients: &Clients) -> Result<BTreeMap<String, String>> {
    let rows = items(&clients.dynamodb, NODE_TABLE).await?;
    // What has no boot is no node.
    let worker = |row: &HashMap<String, AttributeValue>| {
        let (name, boot) = (row.get("name")?.as_s().ok()?, row.get("boot")?.as_n().ok()?);
        Some((name.clone(), format!("{name}#{boot}")))
    };
    Ok(rows.iter().filter_map(worker).collect())
}

/// That these workers, and nobody else, own all open leases of an application, none of them two more than another.
///
/// # Errors
/// When it is otherwise.
pub fn shared_fairly(application: &str, rows: &[LeaseRow], workers: &BTreeSet<String>) -> Result<()> {
    let mut counts: BTreeMap<&str, usize> = workers.iter().map(|worker| (worker.as_str(), 0)).collect();
    ensure!(!rows.is_empty(), "{application} has no leases yet");
    for row in rows.iter().filter(|row| row.is_open()) {
        let owner = row.owner.as_deref().with_context(|| format!("nobody owns {} of {application}", row.shard))?;
        let count = counts.get_mut(owner);
        *count.with_context(|| format!("{owner}, who is not up, owns {} of {application}", row.shard))? += 1;
    }
    let (least, most) = (counts.values().min().unwrap_or(&0), counts.values().max().unwrap_or(&0));
    ensure!(most - least <= 1, "{application} is not shared fairly: {counts:?}");
    Ok(())
}

fn lease_row(item: &HashMap<String, AttributeValue>) -> Result<LeaseRow> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    let number = |name: &str| item.get(name).and_then(|value| value.as_n().ok()).and_then(|number| number.parse().ok());
    let set = |name: &str| item.get(name).and_then(|value| value.as_ss().ok()).into_iter().flatten().cloned().collect();
    let shard = text("leaseKey").context("a lease without leaseKey")?;
    Ok(LeaseRow {
        owner: text("leaseOwner"),
        counter: number("leaseCounter").with_context(|| format!("{shard} has no leaseCounter"))?,
        checkpoint: text("checkpoint").with_context(|| format!("{shard} has no checkpoint"))?,
        switches: number("ownerSwitchesSinceCheckpoint").unwrap_or_default(),
        parents: set("parentShardId"),
        children: set("childShardIds"),
        shard,
    })
}
