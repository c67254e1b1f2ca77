//! How many leases of an application each worker should hold (pure).
//!
//! Free leases are spread by targets that every node computes alike. Held ones move only when that brings two workers closer
//! together, that is when one holds at least two more than the other: so a spread that is fair to within one stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::domain::ShardId;

/// A difference that a move makes smaller.
const WORTH_MOVING: usize = 2;

/// The workers of one application and what each holds or is about to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shares<'a>(pub(super) BTreeMap<&'a str, usize>);

impl<'a> Shares<'a> {
    /// How many a worker holds.
    pub(super) fn of(&self, worker: &str) -> usize {
        self.0.get(worker).copied().unwrap_or_default()
    }

    /// How many leases a worker should take without asking. The targets of all workers add up to `n_leases`. Who gets the odd
    /// ones differs from application to application, so that a node does not get the odd one of each.
    pub(super) fn target(&self, application: &str, n_leases: usize, worker: &str) -> usize {
        let n_workers = self.0.len().max(1);
        let mut ranked: Vec<_> = self.0.keys().map(|worker| (rank(application, name_of(worker)), *worker)).collect();
        ranked.sort_unstable();
        let place = ranked.iter().position(|(_, ranked)| *ranked == worker).unwrap_or(n_workers);
        n_leases / n_workers + usize::from(place < n_leases % n_workers)
    }

    /// Whom to ask for a lease, once for each, fullest first, until `most` are asked for.
    pub(super) fn asks(&self, worker: &str, askable: &BTreeSet<&'a str>, most: usize) -> Vec<&'a str> {
        let mut counts: BTreeMap<&'a str, usize> = askable.iter().map(|worker| (*worker, self.of(worker))).collect();
        let (mut mine, mut asks) = (self.of(worker), Vec::new());
        while asks.len() < most {
            let Some((fullest, count)) = counts.iter_mut().max_by_key(|(_, count)| **count) else { break };
            if *count < mine + WORTH_MOVING {
                break;
            }
            *count -= 1;
            mine += 1;
            asks.push(*fullest);
        }
        asks
    }

    /// Whether a move from one worker to another makes the spread fairer.
    pub(super) fn is_worth_moving(&self, from: &str, to: &str) -> bool {
        self.of(from) >= self.of(to) + WORTH_MOVING
    }

    /// Where the leases of a leaving worker go: each to whoever holds the fewest by then. Nobody: `None`.
    pub(super) fn away(&self, shards: &[ShardId], takers: &BTreeSet<&'a str>) -> Vec<(ShardId, Option<&'a str>)> {
        let mut counts: BTreeMap<&'a str, usize> = takers.iter().map(|worker| (*worker, self.of(worker))).collect();
        let mut emptiest = || {
            let (worker, count) = counts.iter_mut().min_by_key(|(_, count)| **count)?;
            *count += 1;
            Some(*worker)
        };
        shards.iter().map(|shard| (shard.clone(), emptiest())).collect()
    }
}

/// A place among others that every node computes alike and that nothing else depends on.
pub(super) fn rank(scope: &str, name: &str) -> u64 {
    let digest = Sha256::new().chain_update(scope).chain_update([0]).chain_update(name).finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// The node's name in `<name>#<boot>`, so that places outlive a restart.
pub(super) fn name_of(worker: &str) -> &str {
    worker.rsplit_once('#').map_or(worker, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares<'a>(counts: &[(&'a str, usize)]) -> Shares<'a> {
        Shares(counts.iter().copied().collect())
    }

    #[test]
    fn targets_add_up_and_the_odd_leases_go_to_others_in_other_applications() {
        let shares = shares(&[("a#1", 0), ("b#1", 0), ("c#1", 0)]);
        for n_leases in 0..20 {
            let targets: Vec<_> = ["a#1", "b#1", "c#1"].map(|worker| shares.target("app", n_leases, worker)).into();
            assert_eq!(targets.iter().sum::<usize>(), n_leases);
            assert!(targets.iter().max().expect("three") - targets.iter().min().expect("three") <= 1);
        }
        let first = |application: String| ["a#1", "b#1", "c#1"].iter().position(|w| shares.target(&application, 1, w) == 1);
        let firsts: BTreeSet<_> = (0..30).map(|n| first(format!("application-{n}"))).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn only_a_move_that_makes_the_spread_fairer_is_asked_for() {
        let askable = BTreeSet::from(["a#1", "b#1"]);
        let uneven = shares(&[("a#1", 4), ("b#1", 4), ("me#1", 0)]);
        assert_eq!(uneven.asks("me#1", &askable, 2), ["b#1", "a#1"]);
        assert_eq!(uneven.asks("me#1", &askable, 1).len(), 1);
        let fair = shares(&[("a#1", 3), ("b#1", 3), ("me#1", 2)]);
        assert!(fair.asks("me#1", &askable, 2).is_empty());
        assert!(fair.is_worth_moving("a#1", "nobody") && !fair.is_worth_moving("a#1", "me#1"));
    }

    #[test]
    fn a_leaving_worker_gives_to_the_emptiest() {
        let shards = ["1", "2", "3"].map(ShardId::new);
        let away = shares(&[("a#1", 1), ("b#1", 2), ("me#1", 3)]).away(&shards, &BTreeSet::from(["a#1", "b#1"]));
        assert_eq!(away.iter().map(|(_, to)| to.expect("somebody")).collect::<Vec<_>>(), ["a#1", "a#1", "b#1"]);
        assert!(shares(&[("me#1", 3)]).away(&shards, &BTreeSet::new()).iter().all(|(_, to)| to.is_none()));
    }

    proptest! {
        /// Workers that ask in any order come to a fair spread, and then stay there.
        #[test]
        fn any_spread_becomes_fair_and_stays(mut counts in prop::collection::vec(0usize..40, 1..7), order in prop::collection::vec(0usize..7, 400)) {
            let names: Vec<String> = (0..counts.len()).map(|n| format!("n{n}#1")).collect();
            let n_leases: usize = counts.iter().sum();
            for asker in order {
                let asker = asker % counts.len();
                let shares = Shares(names.iter().map(String::as_str).zip(counts.iter().copied()).collect());
                let askable = names.iter().map(String::as_str).filter(|name| *name != names[asker]).collect();
                let room = shares.target("app", n_leases, &names[asker]).saturating_sub(counts[asker]);
                for donor in shares.asks(&names[asker], &askable, room) {
                    let donor = names.iter().position(|name| name == donor).expect("a worker");
                    counts[donor] -= 1;
                    counts[asker] += 1;
                }
            }
            let shares = Shares(names.iter().map(String::as_str).zip(counts.iter().copied()).collect());
            prop_assert!(counts.iter().max().expect("one") - counts.iter().min().expect("one") <= 1, "{counts:?}");
            for asker in &names {
                let askable = names.iter().map(String::as_str).filter(|name| name != asker).collect();
                prop_assert!(shares.asks(asker, &askable, 100).is_empty());
            }
        }
    }
}
