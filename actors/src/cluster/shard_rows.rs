//! Which lease rows to make, to complete and to remove (pure): the rows follow the shards of the stream.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::sightings::Sightings;
use crate::domain::ShardId;
use crate::ports::{Checkpoint, Lease, NewLease, Shard, StartAt};

/// A finished shard's row stays for so long, as in KCL, so that whoever is slow still sees that it is done.
const FINISHED_STAYS: Duration = Duration::from_secs(300);

/// Rows for shards that have none, parents first: so a child's row says that its parents' were made, and a shard without a row
/// whose descendant has one was done and cleaned up.
pub(super) fn new_rows(shards: &[Shard], leases: &[Lease], start: &StartAt) -> Vec<NewLease> {
    let lineage = Lineage::of(shards, leases);
    // Before anybody has worked on the stream, newest means the open shards only, as in KCL.
    let untouched = leases.iter().all(|lease| lease.owner.is_none() && lease.counter == 0);
    let skips_closed = untouched && *start == StartAt::Latest;
    let lacks_it = |shard: &&Shard| {
        let is_closed = lineage.children.contains_key(&shard.id);
        let was_done = lineage.descendant_has_row(&shard.id) || (skips_closed && is_closed);
        !lineage.rows.contains(&shard.id) && !was_done
    };
    let row = |shard: &Shard| {
        let follows = !untouched && shard.parents.iter().any(|parent| lineage.is_known(parent));
        let checkpoint = match start {
            StartAt::Latest if !follows => Checkpoint::Latest,
            StartAt::Timestamp(_) if !follows => Checkpoint::AtTimestamp,
            _ => Checkpoint::TrimHorizon,
        };
        NewLease { shard: shard.id.clone(), checkpoint, parents: shard.parents.clone(), hash_range: shard.hash_range.clone() }
    };
    let mut new: Vec<_> = shards.iter().filter(lacks_it).map(|shard| (lineage.depth(shard), row(shard))).collect();
    new.sort_by(|(depth, a), (other, b)| (depth, &a.shard).cmp(&(other, &b.shard)));
    new.into_iter().map(|(_, new)| new).collect()
}

/// First and last hash key, as decimal strings.
pub(super) type HashRange = (String, String);

/// Rows that an older KCL made without hash keys, with the keys.
pub(super) fn lacking_hash_ranges(shards: &[Shard], leases: &[Lease]) -> Vec<(ShardId, HashRange)> {
    let lacking: HashSet<_> = leases.iter().filter(|lease| !lease.has_hash_range).map(|lease| &lease.shard).collect();
    let lacking = shards.iter().filter(|shard| lacking.contains(&shard.id));
    lacking.filter_map(|shard| Some((shard.id.clone(), shard.hash_range.clone()?))).collect()
}

/// Rows of shards that are done, whose own parents' rows are gone and whose children are all under way.
pub(super) fn finished<'a>(leases: &'a [Lease], sightings: &Sightings, now: Instant) -> Vec<&'a Lease> {
    let rows: HashMap<_, _> = leases.iter().map(|lease| (&lease.shard, lease)).collect();
    let under_way = |child: &ShardId| {
        rows.get(child).is_some_and(|row| !matches!(row.checkpoint, Checkpoint::TrimHorizon | Checkpoint::AtTimestamp))
    };
    let is_over = |lease: &&Lease| {
        lease.checkpoint == Checkpoint::ShardEnd
            && !lease.children.is_empty()
            && lease.children.iter().all(under_way)
            && !lease.parents.iter().any(|parent| rows.contains_key(parent))
            && sightings.age(&lease.shard, now) >= FINISHED_STAYS
    };
    leases.iter().filter(is_over).collect()
}

/// Who came from whom.
struct Lineage<'a> {
    shards: HashMap<&'a ShardId, &'a Shard>,
    rows: HashSet<&'a ShardId>,
    children: HashMap<&'a ShardId, Vec<&'a ShardId>>,
}

impl<'a> Lineage<'a> {
    fn of(shards: &'a [Shard], leases: &'a [Lease]) -> Self {
        let of_shards = shards.iter().flat_map(|shard| shard.parents.iter().map(move |parent| (parent, &shard.id)));
        let of_rows = leases.iter().flat_map(|lease| lease.parents.iter().map(move |parent| (parent, &lease.shard)));
        let mut children: HashMap<&ShardId, Vec<&ShardId>> = HashMap::new();
        of_shards.chain(of_rows).for_each(|(parent, child)| children.entry(parent).or_default().push(child));
        let rows = leases.iter().map(|lease| &lease.shard).collect();
        Self { shards: shards.iter().map(|shard| (&shard.id, shard)).collect(), rows, children }
    }

    fn is_known(&self, shard: &ShardId) -> bool {
        self.rows.contains(shard) || self.shards.contains_key(shard)
    }

    fn descendant_has_row(&self, shard: &ShardId) -> bool {
        let mut left: Vec<&ShardId> = self.children.get(shard).cloned().unwrap_or_default();
        let mut met = HashSet::new();
        while let Some(child) = left.pop() {
            if self.rows.contains(child) {
                return true;
            }
            if met.insert(child) {
                left.extend(self.children.get(child).into_iter().flatten());
            }
        }
        false
    }

    /// How many listed generations of shards came before it.
    fn depth(&self, shard: &Shard) -> usize {
        let mut depth = 0;
        let mut parents: Vec<&ShardId> = shard.parents.iter().collect();
        while depth <= self.shards.len() {
            let listed: Vec<_> = parents.iter().filter_map(|parent| self.shards.get(parent)).collect();
            if listed.is_empty() {
                break;
            }
            depth += 1;
            parents = listed.into_iter().flat_map(|shard| &shard.parents).collect();
        }
        depth
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cluster) fn shard(id: &str, parents: &[&str]) -> Shard {
        Shard { id: ShardId::new(id), parents: parents.iter().map(|parent| ShardId::new(parent)).collect(), hash_range: None }
    }

    pub(in crate::cluster) fn lease(id: &str, owner: Option<&str>, checkpoint: Checkpoint, parents: &[&str]) -> Lease {
        let parents = parents.iter().map(|parent| ShardId::new(parent)).collect();
        let (children, has_hash_range) = (Vec::new(), true);
        Lease {
            shard: ShardId::new(id),
            owner: owner.map(str::to_owned),
            counter: 1,
            checkpoint,
            parents,
            children,
            has_hash_range,
        }
    }

    fn made(shards: &[Shard], leases: &[Lease], start: StartAt) -> Vec<(String, Checkpoint)> {
        new_rows(shards, leases, &start).into_iter().map(|new| (new.shard.as_str().to_owned(), new.checkpoint)).collect()
    }

    #[test]
    fn rows_are_made_parents_first_and_children_start_at_their_oldest_record() {
        let busy = [lease("busy", Some("n2#1"), Checkpoint::TrimHorizon, &[])];
        let shards = [shard("c", &["b"]), shard("b", &["a"]), shard("a", &["gone"]), shard("busy", &[])];
        let row = |id: &str, checkpoint| (id.to_owned(), checkpoint);
        let (latest, oldest) = (Checkpoint::Latest, Checkpoint::TrimHorizon);
        assert_eq!(made(&shards, &busy, StartAt::Latest), [row("a", latest), row("b", oldest.clone()), row("c", oldest)]);
    }

    #[test]
    fn an_untouched_stream_at_latest_begins_with_its_open_shards() {
        let shards = [shard("closed", &[]), shard("open", &["closed"])];
        assert_eq!(made(&shards, &[], StartAt::Latest), [("open".to_owned(), Checkpoint::Latest)]);
        assert_eq!(made(&shards, &[], StartAt::TrimHorizon).len(), 2);
    }

    #[test]
    fn a_listed_shard_whose_descendant_has_a_row_was_done_and_is_not_made_again() {
        let leases = [lease("c", Some("n2#1"), Checkpoint::TrimHorizon, &["b"])];
        let shards = [shard("a", &[]), shard("b", &["a"]), shard("c", &["b"])];
        assert!(made(&shards, &leases, StartAt::TrimHorizon).is_empty());
    }

    #[test]
    fn rows_of_an_older_kcl_get_their_hash_keys() {
        let range = ("0".to_owned(), "9".to_owned());
        let shards = ["a", "b"].map(|id| Shard { hash_range: Some(range.clone()), ..shard(id, &[]) });
        let mut leases = ["a", "b"].map(|id| lease(id, Some("n2#1"), Checkpoint::TrimHorizon, &[]));
        leases[1].has_hash_range = false;
        assert_eq!(lacking_hash_ranges(&shards, &leases), [(ShardId::new("b"), range)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_finished_row_goes_when_its_children_are_under_way_and_its_parents_rows_are_gone() {
        let over = |child: Checkpoint, grandparent: bool, age: Duration| {
            let mut parent = lease("p", None, Checkpoint::ShardEnd, &["g"]);
            parent.children = vec![ShardId::new("c")];
            let mut leases = vec![parent, lease("c", Some("n2#1"), child, &["p"])];
            if grandparent {
                leases.push(lease("g", None, Checkpoint::ShardEnd, &[]));
            }
            let (mut sightings, now) = (Sightings::default(), Instant::now());
            sightings.note(&leases, now);
            finished(&leases, &sightings, now + age).iter().any(|lease| lease.shard.as_str() == "p")
        };
        assert!(over(Checkpoint::Latest, false, FINISHED_STAYS));
        assert!(!over(Checkpoint::Latest, false, FINISHED_STAYS / 2));
        assert!(!over(Checkpoint::TrimHorizon, false, FINISHED_STAYS));
        assert!(!over(Checkpoint::Latest, true, FINISHED_STAYS));
    }
}
