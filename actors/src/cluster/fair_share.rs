//! How many leases of an application each worker should hold (pure).
//!
//! Free leases are spread by targets that every node computes alike. Held ones move only when that brings two workers closer
//! together: when one holds at least two more than the other, or one more and at least two more over all applications. So a
//! spread that is fair to within one stays as it is, and applications with few shards do not all sit on one node.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::domain::ShardId;

/// A difference that a move makes smaller.
const WORTH_MOVING: usize = 2;

/// The workers of one application and what each holds or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares<'a> {
    /// Leases of this application.
    pub(super) held: BTreeMap<&'a str, usize>,
    /// Leases of the other applications, as they were seen last.
    pub(super) elsewhere: &'a Elsewhere,
}

/// How many leases of other applications each worker holds.
pub(super) type Elsewhere = BTreeMap<String, usize>;

impl<'a> Shares<'a> {
    /// How many a worker holds.
    pub(super) fn of(&self, worker: &str) -> usize {
        self.held.get(worker).copied().unwrap_or_default()
    }

    fn in_all(&self, worker: &str) -> usize {
        self.of(worker) + self.elsewhere.get(worker).copied().unwrap_or_default()
    }

    /// How many leases a worker should take without asking. The targets of all workers add up to `n_leases`. Who gets the odd
    /// ones differs from application to application, so that a node does not get the odd one of each.
    pub(super) fn target(&self, application: &str, n_leases: usize, worker: &str) -> usize {
        let n_workers = self.held.len().max(1);
        let mut ranked: Vec<_> = self.held.keys().map(|worker| (rank(application, name_of(worker)), *worker)).collect();
        ranked.sort_unstable();
        let place = ranked.iter().position(|(_, ranked)| *ranked == worker).unwrap_or(n_workers);
        n_leases / n_workers + usize::from(place < n_leases % n_workers)
    }

    /// Whom to ask for a lease, once for each, fullest first, until `most` are asked for. When nobody holds two more, one lease
    /// is asked of whoever holds one more here and most over all.
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
        if asks.is_empty() {
            let levels = askable.iter().copied().filter(|other| self.is_worth_moving(other, worker));
            asks.extend(levels.max_by_key(|other| self.in_all(other)));
        }
        asks
    }

    /// Whether a move from one worker to another makes the spread fairer.
    pub(super) fn is_worth_moving(&self, from: &str, to: &str) -> bool {
        let levels = self.of(from) > self.of(to) && self.in_all(from) >= self.in_all(to) + WORTH_MOVING;
        levels || self.of(from) >= self.of(to) + WORTH_MOVING
    }

    /// Where the leases of a leaving worker go: each to whoever holds the fewest by then, here and then over all. Nobody: `None`.
    pub(super) fn away(&self, shards: &[ShardId], takers: &BTreeSet<&'a str>) -> Vec<(ShardId, Option<&'a str>)> {
        let mut counts: BTreeMap<&'a str, usize> = takers.iter().map(|worker| (*worker, self.of(worker))).collect();
        let mut emptiest = || {
            let (worker, count) = counts.iter_mut().min_by_key(|(worker, count)| (**count, self.elsewhere.get(**worker)))?;
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

    static NOTHING: Elsewhere = Elsewhere::new();

    fn shares<'a>(counts: &[(&'a str, usize)]) -> Shares<'a> {
        Shares { held: counts.iter().copied().collect(), elsewhere: &NOTHING }
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

    #[test]
    fn applications_with_one_shard_each_do_not_stay_on_one_node() {
        let elsewhere = Elsewhere::from([("a#1".to_owned(), 3), ("b#1".to_owned(), 2)]);
        let level = |held: &[(&'static str, usize)]| Shares { held: held.iter().copied().collect(), elsewhere: &elsewhere };
        let one = level(&[("a#1", 1), ("b#1", 0), ("me#1", 0)]);
        assert_eq!(one.asks("me#1", &BTreeSet::from(["a#1", "b#1"]), 0), ["a#1"]);
        assert!(one.is_worth_moving("a#1", "b#1"));
        assert!(!level(&[("a#1", 0), ("b#1", 1), ("me#1", 0)]).is_worth_moving("b#1", "a#1"), "the other holds as many over all");
        assert!(!level(&[("a#1", 1), ("me#1", 1)]).is_worth_moving("a#1", "me#1"), "here both hold as many");
    }

    /// Several applications of the same nodes; each asker sees what every node holds.
    fn one_round(counts: &mut [Vec<usize>], application: usize, asker: usize) -> usize {
        let names: Vec<String> = (0..counts[0].len()).map(|n| format!("n{n}#1")).collect();
        let others = counts.iter().enumerate().filter(|(other, _)| *other != application);
        let mut elsewhere = Elsewhere::new();
        for (_, held) in others {
            names.iter().zip(held).for_each(|(name, held)| *elsewhere.entry(name.clone()).or_default() += held);
        }
        let held = names.iter().map(String::as_str).zip(counts[application].iter().copied()).collect();
        let shares = Shares { held, elsewhere: &elsewhere };
        let askable = names.iter().map(String::as_str).filter(|name| *name != names[asker]).collect();
        let n_leases = counts[application].iter().sum();
        let room = shares.target("app", n_leases, &names[asker]).saturating_sub(counts[application][asker]);
        let donors: Vec<_> = shares.asks(&names[asker], &askable, room).into_iter().map(ToOwned::to_owned).collect();
        for donor in &donors {
            let donor = names.iter().position(|name| name == donor).expect("a worker");
            counts[application][donor] -= 1;
            counts[application][asker] += 1;
        }
        donors.len()
    }

    proptest! {
        /// Workers that ask in any order come to a fair spread, here and over all, and then stay there.
        #[test]
        fn any_spread_becomes_fair_and_stays(
            mut counts in (2usize..7).prop_flat_map(|n_nodes| prop::collection::vec(prop::collection::vec(0usize..9, n_nodes), 1..5)),
            order in prop::collection::vec((0usize..5, 0usize..7), 600),
        ) {
            let (n_applications, n_nodes) = (counts.len(), counts[0].len());
            for (application, asker) in order {
                one_round(&mut counts, application % n_applications, asker % n_nodes);
            }
            for held in &counts {
                prop_assert!(held.iter().max().expect("one") - held.iter().min().expect("one") <= 1, "{counts:?}");
            }
            let moves: usize = (0..n_applications).flat_map(|application| (0..n_nodes).map(move |asker| (application, asker)))
                .map(|(application, asker)| one_round(&mut counts, application, asker)).sum();
            prop_assert_eq!(moves, 0, "{:?}", counts);
        }
    }
}
