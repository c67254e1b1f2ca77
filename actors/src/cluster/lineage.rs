//! Which shards came from which, and what keys they take (pure).

use std::collections::{BTreeSet, HashMap};

use crate::domain::ShardId;
use crate::ports::{Lease, Shard};

/// What the stream and the lease rows tell together: either may know a shard that the other has forgotten.
pub(super) struct Lineage<'a> {
    children: HashMap<&'a ShardId, BTreeSet<&'a ShardId>>,
    hash_ranges: HashMap<&'a ShardId, &'a (String, String)>,
}

impl<'a> Lineage<'a> {
    pub(super) fn of(shards: &'a [Shard], leases: &'a [Lease]) -> Self {
        let mut children: HashMap<&ShardId, BTreeSet<&ShardId>> = HashMap::new();
        let listed = shards.iter().flat_map(|shard| shard.parents.iter().map(move |parent| (parent, &shard.id)));
        let rows = leases.iter().flat_map(|lease| lease.parents.iter().map(move |parent| (parent, &lease.shard)));
        let noted = leases.iter().flat_map(|lease| lease.children.iter().map(move |child| (&lease.shard, child)));
        for (parent, child) in listed.chain(rows).chain(noted) {
            children.entry(parent).or_default().insert(child);
        }
        let hash_ranges = shards.iter().filter_map(|shard| Some((&shard.id, shard.hash_range.as_ref()?))).collect();
        Self { children, hash_ranges }
    }

    pub(super) fn children(&self, shard: &ShardId) -> Vec<ShardId> {
        self.children.get(shard).into_iter().flatten().map(|child| (*child).clone()).collect()
    }

    pub(super) fn hash_range(&self, shard: &ShardId) -> Option<(String, String)> {
        self.hash_ranges.get(shard).map(|range| (*range).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Checkpoint;

    #[test]
    fn children_are_known_from_the_stream_and_from_rows_once_each() {
        let id = ShardId::new;
        let range = Some(("0".to_owned(), "9".to_owned()));
        let shards = [Shard { id: id("b"), parents: vec![id("a")], hash_range: range.clone() }];
        let row = |shard: &str, parents: Vec<ShardId>, children: Vec<ShardId>| Lease {
            shard: id(shard),
            owner: None,
            counter: 0,
            checkpoint: Checkpoint::TrimHorizon,
            parents,
            children,
            has_hash_range: true,
        };
        let leases = [row("a", vec![], vec![id("b"), id("d")]), row("b", vec![id("a")], vec![]), row("c", vec![id("a")], vec![])];
        let lineage = Lineage::of(&shards, &leases);
        assert_eq!(lineage.children(&id("a")), [id("b"), id("c"), id("d")]);
        assert_eq!((lineage.children(&id("c")), lineage.hash_range(&id("b"))), (vec![], range));
        assert_eq!(lineage.hash_range(&id("a")), None, "the stream lists it no more");
    }
}
