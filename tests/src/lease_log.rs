//! The accepted writes of every lease, from the wiretaps of all nodes, replayed by the counter that each write left.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::leases::{APPLICATIONS, SHARD_END};
use crate::wiretap::Call;

/// One accepted write of a lease.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: SystemTime,
    /// The node that wrote.
    pub node: String,
    pub counter: u64,
    pub owner: Option<String>,
    pub is_release: bool,
    pub checkpoint: Option<String>,
}

/// Writes by application and shard, in the order of their counters.
#[derive(Debug, Default)]
pub struct LeaseLog(pub BTreeMap<(String, String), Vec<Write>>);

impl LeaseLog {
    /// Puts together what the nodes wrote.
    ///
    /// # Errors
    /// When a write has no readable counter.
    pub fn of<'a>(taps: impl IntoIterator<Item = (&'a str, Vec<Call>)>) -> Result<Self> {
        let mut log = Self::default();
        for (node, calls) in taps {
            for call in calls.iter().filter(|call| call.operation == "UpdateItem" && call.is_accepted()) {
                let (Some(shard), true) = (call.lease_key(), APPLICATIONS.contains(&call.table())) else { continue };
                // Notes of children leave the counter alone.
                let Some(counter) = call.sets("leaseCounter") else { continue };
                let write = Write {
                    at: call.at,
                    node: node.to_owned(),
                    counter: counter.parse().with_context(|| format!("`{counter}` is no counter"))?,
                    owner: call.sets("leaseOwner").map(str::to_owned),
                    is_release: call.removes("leaseOwner"),
                    checkpoint: call.sets("checkpoint").map(str::to_owned),
                };
                log.0.entry((call.table().to_owned(), shard.to_owned())).or_default().push(write);
            }
        }
        log.0.values_mut().for_each(|writes| writes.sort_by_key(|write| write.counter));
        Ok(log)
    }

    /// That no counter was written twice, that each checkpoint was written by the lease's owner, and that none went back.
    ///
    /// # Errors
    /// With the first write that breaks it.
    pub fn is_fenced(&self) -> Result<()> {
        for ((application, shard), writes) in &self.0 {
            let (mut owner, mut checkpoint, mut counter) = (None::<String>, "TRIM_HORIZON", 0);
            for write in writes {
                ensure!(write.counter > counter, "counter {counter} of {application} {shard} was written twice: {write:?}");
                counter = write.counter;
                if let Some(new) = &write.checkpoint {
                    let is_own = owner.as_deref().is_some_and(|owner| node_of(owner) == write.node);
                    ensure!(is_own, "{application} {shard} is {owner:?}'s and got a checkpoint of another: {write:?}");
                    ensure!(order(new, checkpoint).is_ge(), "the checkpoint of {application} {shard} went back: {write:?}");
                    checkpoint = new;
                }
                if write.is_release {
                    owner = None;
                } else if write.owner.is_some() {
                    owner.clone_from(&write.owner);
                }
            }
        }
        Ok(())
    }

    /// Accepted checkpoints of all leases.
    #[must_use]
    pub fn checkpoints(&self) -> usize {
        self.0.values().flatten().filter(|write| write.checkpoint.is_some()).count()
    }
}

fn node_of(owner: &str) -> &str {
    owner.split('#').next().unwrap_or(owner)
}

/// Sentinels, then sequence numbers by length and digits, then the end of the shard.
fn order(one: &str, other: &str) -> Ordering {
    let rank = |checkpoint: &str| match checkpoint {
        "AT_TIMESTAMP" | "TRIM_HORIZON" | "LATEST" => (0, 0, String::new()),
        SHARD_END => (2, 0, String::new()),
        digits => (1, digits.len(), digits.to_owned()),
    };
    rank(one).cmp(&rank(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(node: &str, counter: u64, owner: Option<&str>, checkpoint: Option<&str>) -> Write {
        let (owner, checkpoint) = (owner.map(str::to_owned), checkpoint.map(str::to_owned));
        Write { at: SystemTime::UNIX_EPOCH, node: node.to_owned(), counter, owner, is_release: false, checkpoint }
    }

    fn fenced(writes: Vec<Write>) -> bool {
        LeaseLog([((String::new(), String::new()), writes)].into()).is_fenced().is_ok()
    }

    #[test]
    fn a_checkpoint_of_one_who_lost_the_lease_is_found() {
        let (take, take_over) = (write("a", 1, Some("a#1"), None), write("b", 3, Some("b#1"), None));
        let checkpoint = |node, counter, at| write(node, counter, None, Some(at));
        assert!(fenced(vec![take.clone(), checkpoint("a", 2, "99"), take_over.clone(), checkpoint("b", 4, "100")]));
        assert!(!fenced(vec![take.clone(), checkpoint("a", 2, "99"), take_over.clone(), checkpoint("a", 4, "100")]));
        assert!(!fenced(vec![take.clone(), checkpoint("a", 2, "100"), take_over, checkpoint("b", 4, "99")]));
        assert!(!fenced(vec![take.clone(), take]));
    }
}
