//! Which leases to make and to take (pure): from the shards, the lease rows, and what this node has seen of them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ShardId;
use crate::ports::{Checkpoint, Lease, NewLease, Shard, StartAt};

/// When the counter of a lease was seen to move last, by one's own monotonic clock: the owner's clock is never trusted.
#[derive(Debug, Default)]
pub(super) struct Sightings(HashMap<ShardId, Sighting>);

#[derive(Debug)]
struct Sighting {
    owner: Option<String>,
    counter: u64,
    since: Instant,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a row.
    Create(NewLease),
    /// Take a lease and start its lane.
    Take(Lease),
}

impl Sightings {
    /// Notes what a scan of the lease table showed.
    pub(super) fn note(&mut self, leases: &[Lease], now: Instant) {
        self.0.retain(|shard, _| leases.iter().any(|lease| lease.shard == *shard));
        for lease in leases {
            let seen = self.0.get(&lease.shard);
            if seen.is_none_or(|seen| seen.counter != lease.counter || seen.owner != lease.owner) {
                let sighting = Sighting { owner: lease.owner.clone(), counter: lease.counter, since: now };
                self.0.insert(lease.shard.clone(), sighting);
            }
        }
    }

    /// How long until the first lease that somebody else holds could expire.
    pub(super) fn next_expiry(&self, worker: &str, now: Instant, expires_after: Duration) -> Option<Duration> {
        let foreign = self.0.values().filter(|seen| seen.owner.as_deref().is_some_and(|owner| owner != worker));
        foreign.map(|seen| (seen.since + expires_after).saturating_duration_since(now)).filter(|left| !left.is_zero()).min()
    }

    fn is_expired(&self, shard: &ShardId, now: Instant, expires_after: Duration) -> bool {
        self.0.get(shard).is_some_and(|seen| now - seen.since >= expires_after)
    }
}

/// What a plan is made from.
pub(super) struct Situation<'a> {
    pub(super) shards: &'a [Shard],
    pub(super) leases: &'a [Lease],
    pub(super) sightings: &'a Sightings,
    /// `<node>#<boot>`.
    pub(super) worker: &'a str,
    /// Shards whose lane runs here.
    pub(super) running: &'a HashSet<ShardId>,
    pub(super) start: &'a StartAt,
    pub(super) now: Instant,
    pub(super) expires_after: Duration,
}

/// Plans the next steps. A row is made for every shard that has none. A lease is taken when nobody holds it, when its holder let
/// it expire, or when this very boot holds it without running its lane; and only once every parent of its shard is done.
pub(super) fn plan(situation: &Situation<'_>) -> Vec<Step> {
    let leases: HashMap<&ShardId, &Lease> = situation.leases.iter().map(|lease| (&lease.shard, lease)).collect();
    let mut steps = Vec::new();
    for shard in situation.shards {
        match leases.get(&shard.id) {
            None => steps.push(Step::Create(new_lease(shard, situation))),
            Some(lease) if is_takeable(lease, &leases, situation) => steps.push(Step::Take((*lease).clone())),
            Some(_) => {}
        }
    }
    steps
}

fn new_lease(shard: &Shard, situation: &Situation<'_>) -> NewLease {
    let is_child = shard.parents.iter().any(|parent| {
        situation.shards.iter().any(|shard| shard.id == *parent) || situation.leases.iter().any(|lease| lease.shard == *parent)
    });
    let checkpoint = match situation.start {
        StartAt::Latest if !is_child => Checkpoint::Latest,
        StartAt::Timestamp(_) if !is_child => Checkpoint::AtTimestamp,
        _ => Checkpoint::TrimHorizon,
    };
    NewLease { shard: shard.id.clone(), checkpoint, parents: shard.parents.clone(), hash_range: shard.hash_range.clone() }
}

fn is_takeable(lease: &Lease, leases: &HashMap<&ShardId, &Lease>, situation: &Situation<'_>) -> bool {
    if lease.checkpoint == Checkpoint::ShardEnd || situation.running.contains(&lease.shard) {
        return false;
    }
    let is_free = match &lease.owner {
        None => true,
        Some(owner) => {
            owner == situation.worker || situation.sightings.is_expired(&lease.shard, situation.now, situation.expires_after)
        }
    };
    // A parent without a row is either not made yet, and then still listed, or long done and cleaned up.
    let parent_done = |parent: &ShardId| match leases.get(parent) {
        Some(parent) => parent.checkpoint == Checkpoint::ShardEnd,
        None => !situation.shards.iter().any(|shard| shard.id == *parent),
    };
    is_free && lease.parents.iter().all(parent_done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Position, SequenceNumber};

    fn shard(id: &str, parents: &[&str]) -> Shard {
        Shard { id: ShardId::new(id), parents: parents.iter().map(|parent| ShardId::new(parent)).collect(), hash_range: None }
    }

    fn lease(id: &str, owner: Option<&str>, checkpoint: Checkpoint, parents: &[&str]) -> Lease {
        let parents = parents.iter().map(|parent| ShardId::new(parent)).collect();
        Lease {
            shard: ShardId::new(id),
            owner: owner.map(str::to_owned),
            counter: 1,
            checkpoint,
            parents,
            children: Vec::new(),
            has_hash_range: true,
        }
    }

    fn steps(shards: &[Shard], leases: &[Lease], start: &StartAt, running: &[&str], age: Duration) -> Vec<Step> {
        let mut sightings = Sightings::default();
        let then = Instant::now();
        sightings.note(leases, then);
        plan(&Situation {
            shards,
            leases,
            sightings: &sightings,
            worker: "n1#5",
            running: &running.iter().map(|id| ShardId::new(id)).collect(),
            start,
            now: then + age,
            expires_after: Duration::from_secs(10),
        })
    }

    fn taken(steps: &[Step]) -> Vec<&str> {
        steps.iter().filter_map(|step| if let Step::Take(lease) = step { Some(lease.shard.as_str()) } else { None }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_made_for_new_shards_and_children_start_at_their_oldest_record() {
        let shards = [shard("a", &["gone"]), shard("b", &["a"])];
        let steps = steps(&shards, &[], &StartAt::Latest, &[], Duration::ZERO);
        let checkpoints: Vec<_> =
            steps.iter().map(|step| if let Step::Create(new) = step { &new.checkpoint } else { panic!("{step:?}") }).collect();
        assert_eq!(checkpoints, [&Checkpoint::Latest, &Checkpoint::TrimHorizon]);
    }

    #[tokio::test(start_paused = true)]
    async fn free_expired_and_orphaned_leases_are_taken_and_others_left() {
        let done = Checkpoint::At(Position { sequence: SequenceNumber::parse("7").expect("a number"), sub: 0 });
        let shards = ["free", "theirs", "mine", "running", "ended"].map(|id| shard(id, &[]));
        let leases = [
            lease("free", None, done.clone(), &[]),
            lease("theirs", Some("n2#1"), done.clone(), &[]),
            lease("mine", Some("n1#5"), done.clone(), &[]),
            lease("running", Some("n1#5"), done, &[]),
            lease("ended", None, Checkpoint::ShardEnd, &[]),
        ];
        assert_eq!(
            taken(&steps(&shards, &leases, &StartAt::TrimHorizon, &["running"], Duration::from_secs(9))),
            ["free", "mine"]
        );
        assert_eq!(
            taken(&steps(&shards, &leases, &StartAt::TrimHorizon, &["running"], Duration::from_secs(10))),
            ["free", "theirs", "mine"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_waits_until_every_parent_is_done() {
        let shards = [shard("p1", &[]), shard("p2", &[]), shard("child", &["p1", "p2"])];
        let leases = |second: Checkpoint| {
            [
                lease("p1", None, Checkpoint::ShardEnd, &[]),
                lease("p2", Some("n2#1"), second, &[]),
                lease("child", None, Checkpoint::TrimHorizon, &["p1", "p2"]),
            ]
        };
        assert!(taken(&steps(&shards, &leases(Checkpoint::TrimHorizon), &StartAt::TrimHorizon, &[], Duration::ZERO)).is_empty());
        assert_eq!(taken(&steps(&shards, &leases(Checkpoint::ShardEnd), &StartAt::TrimHorizon, &[], Duration::ZERO)), ["child"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_moves_keeps_its_lease_alive() {
        let mut sightings = Sightings::default();
        let start = Instant::now();
        let mut row = lease("a", Some("n2#1"), Checkpoint::TrimHorizon, &[]);
        sightings.note(std::slice::from_ref(&row), start);
        row.counter += 1;
        sightings.note(std::slice::from_ref(&row), start + Duration::from_secs(9));
        let left = sightings.next_expiry("n1#5", start + Duration::from_secs(18), Duration::from_secs(10));
        assert_eq!(left, Some(Duration::from_secs(1)));
        assert!(!sightings.is_expired(&row.shard, start + Duration::from_secs(18), Duration::from_secs(10)));
        assert!(sightings.is_expired(&row.shard, start + Duration::from_secs(19), Duration::from_secs(10)));
    }
}
