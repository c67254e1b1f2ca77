//! What to do about the leases of one application (pure): from the shards, the lease rows, the nodes, and what this node has seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::fair_share::{Elsewhere, Shares, name_of, rank};
use super::lineage::Lineage;
use super::shard_rows::{finished, lacking_hash_ranges, new_rows};
use super::sightings::Sightings;
use super::{ClusterView, Presence};
use crate::domain::ShardId;
use crate::observe::{LeaseState, SeenLease};
use crate::ports::{Checkpoint, Lease, NewLease, Shard, StartAt};

/// A lease that could be taken for so long is taken above one's target: whoever should take it does not.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a row.
    Create(NewLease),
    /// Fill in the hash keys of a row that an older KCL made.
    NoteHashRange(ShardId, (String, String)),
    /// Take a lease and start its lane.
    Take(Lease),
    /// Ask this worker for one of its leases.
    Ask(String),
    /// Remove the row of a shard that is done, and its children under way.
    Delete(Lease),
}

/// What a plan is made from.
pub(super) struct Situation<'a> {
    pub(super) shards: &'a [Shard],
    pub(super) leases: &'a [Lease],
    pub(super) sightings: &'a Sightings,
    pub(super) view: &'a ClusterView,
    /// The application's name and its kind of lane.
    pub(super) application: &'a str,
    pub(super) role: &'a str,
    /// `<node>#<boot>`.
    pub(super) worker: &'a str,
    /// Shards whose lane runs here.
    pub(super) running: &'a BTreeSet<ShardId>,
    /// Those among them that are being handed over, and to whom.
    pub(super) leaving: &'a BTreeMap<ShardId, Option<String>>,
    /// Shards that another node has promised.
    pub(super) coming: &'a BTreeSet<ShardId>,
    /// What each worker holds of other applications.
    pub(super) elsewhere: &'a Elsewhere,
    pub(super) start: &'a StartAt,
    pub(super) now: Instant,
    pub(super) expires_after: Duration,
}

/// Who a lease counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder<'a> {
    Worker(&'a str),
    Nobody,
}

/// The situation, read once: who holds what, and what may be taken.
pub(super) struct Survey<'a> {
    situation: &'a Situation<'a>,
    rows: HashMap<&'a ShardId, &'a Lease>,
    /// Nodes and foreign workers that do this application's work.
    shares: Shares<'a>,
    n_active: usize,
}

impl<'a> Survey<'a> {
    pub(super) fn of(situation: &'a Situation<'a>) -> Self {
        let rows = situation.leases.iter().map(|lease| (&lease.shard, lease)).collect();
        let mut survey =
            Self { situation, rows, shares: Shares { held: BTreeMap::new(), elsewhere: situation.elsewhere }, n_active: 0 };
        let counts = &mut survey.shares.held;
        counts.insert(situation.worker, 0);
        // A node that no link leads to counts by what it holds: it may be gone, and cannot be asked.
        let works = |node: &&super::ClusterNode| {
            node.presence == Presence::Linked && !node.draining && node.roles.iter().any(|role| role == situation.role)
        };
        counts.extend(situation.view.nodes.iter().filter(works).map(|node| (node.worker.as_str(), 0)));
        for lease in situation.leases.iter().filter(|lease| lease.checkpoint != Checkpoint::ShardEnd) {
            match survey.holder(lease) {
                Holder::Worker(worker) => {
                    survey.n_active += 1;
                    let draining = situation.view.worker(worker).is_some_and(|node| node.draining);
                    if !draining {
                        *survey.shares.held.entry(worker).or_default() += 1;
                    }
                }
                Holder::Nobody if survey.parents_done(lease) => survey.n_active += 1,
                Holder::Nobody => {}
            }
        }
        survey
    }

    /// Plans the next steps: rows for new shards, leases that nobody holds, rows that are done with, and then, when nothing is
    /// left to be taken, leases of others that hold too many.
    pub(super) fn plan(&self) -> Vec<Step> {
        let Situation { shards, leases, sightings, start, now, .. } = self.situation;
        let mut steps: Vec<_> = new_rows(shards, leases, start).into_iter().map(Step::Create).collect();
        let lacking = lacking_hash_ranges(shards, leases).into_iter();
        steps.extend(lacking.map(|(shard, range)| Step::NoteHashRange(shard, range)));
        let takes = self.takes();
        let all_held = self.situation.leases.iter().all(|lease| !self.is_takeable(lease));
        steps.extend(takes.into_iter().map(|lease| Step::Take(lease.clone())));
        steps.extend(finished(leases, sightings, *now).into_iter().cloned().map(Step::Delete));
        if all_held && steps.is_empty() {
            steps.extend(self.asks());
        }
        steps
    }

    /// Leases that this node or another may take.
    pub(super) fn free(&self) -> Vec<ShardId> {
        self.situation.leases.iter().filter(|lease| self.is_takeable(lease)).map(|lease| lease.shard.clone()).collect()
    }

    /// Which lease to give to a node that asks for one, if that makes the spread fairer.
    pub(super) fn give(&self, taker: &str) -> Option<ShardId> {
        let node = self.situation.view.worker(taker)?;
        let can_take = node.presence == Presence::Linked && !node.draining && self.shares.held.contains_key(taker);
        if !can_take || !self.shares.is_worth_moving(self.situation.worker, taker) {
            return None;
        }
        let stays = |shard: &&ShardId| !self.situation.leaving.contains_key(*shard);
        let name = name_of(taker);
        self.situation.running.iter().filter(stays).max_by_key(|shard| rank(shard.as_str(), name)).cloned()
    }

    /// Where the lanes of this node go when it leaves.
    pub(super) fn away(&self) -> Vec<(ShardId, Option<String>)> {
        let stays = |shard: &&ShardId| !self.situation.leaving.contains_key(*shard);
        let shards: Vec<_> = self.situation.running.iter().filter(stays).cloned().collect();
        let away = self.shares.away(&shards, &self.linked());
        away.into_iter().map(|(shard, to)| (shard, to.map(ToOwned::to_owned))).collect()
    }

    /// Who takes a lease of this node that an operator hands over: the worker that is named, if it can, or the emptiest.
    pub(super) fn taker(&self, shard: &ShardId, named: Option<&str>) -> Option<String> {
        let linked = self.linked();
        match named {
            Some(named) => linked.get(named).map(|worker| (*worker).to_owned()),
            None => self.shares.away(std::slice::from_ref(shard), &linked).pop()?.1.map(ToOwned::to_owned),
        }
    }

    /// All leases for whoever wants to show them.
    pub(super) fn board(&self) -> Vec<SeenLease> {
        let lineage = Lineage::of(self.situation.shards, self.situation.leases);
        let seen = |lease: &Lease| SeenLease {
            shard: lease.shard.clone(),
            owner: lease.owner.clone(),
            counter: lease.counter,
            checkpoint: lease.checkpoint.to_string(),
            parents: lease.parents.clone(),
            children: lineage.children(&lease.shard),
            hash_range: lineage.hash_range(&lease.shard),
            state: self.state(lease),
            counts_for: match self.holder(lease) {
                Holder::Worker(worker) if lease.checkpoint != Checkpoint::ShardEnd => Some(worker.to_owned()),
                _ => None,
            },
        };
        let mut board: Vec<_> = self.situation.leases.iter().map(seen).collect();
        board.sort_by(|a, b| a.shard.cmp(&b.shard));
        board
    }

    fn state(&self, lease: &Lease) -> LeaseState {
        let moves = self.situation.leaving.contains_key(&lease.shard) || self.situation.coming.contains(&lease.shard);
        match self.holder(lease) {
            _ if lease.checkpoint == Checkpoint::ShardEnd => LeaseState::Ended,
            _ if moves => LeaseState::HandingOver,
            Holder::Worker(_) => LeaseState::Held,
            Holder::Nobody if !self.parents_done(lease) => LeaseState::WaitsForParent,
            Holder::Nobody if lease.owner.is_none() => LeaseState::Free,
            Holder::Nobody => LeaseState::Expired,
        }
    }

    fn holder(&self, lease: &'a Lease) -> Holder<'a> {
        let situation = self.situation;
        match situation.leaving.get(&lease.shard) {
            Some(Some(to)) => return Holder::Worker(to),
            Some(None) => return Holder::Nobody,
            None if situation.running.contains(&lease.shard) || situation.coming.contains(&lease.shard) => {
                return Holder::Worker(situation.worker);
            }
            None => {}
        }
        match lease.owner.as_deref() {
            Some(owner) if owner != situation.worker && !situation.view.is_dead(owner) && !self.is_expired(lease) => {
                Holder::Worker(owner)
            }
            // Also a lease of this very boot whose lane does not run.
            _ => Holder::Nobody,
        }
    }

    fn is_expired(&self, lease: &Lease) -> bool {
        self.situation.sightings.age(&lease.shard, self.situation.now) >= self.situation.expires_after
    }

    /// A missing parent row does not block a child: rows are made parents first, so it was done and cleaned up.
    fn parents_done(&self, lease: &Lease) -> bool {
        lease.parents.iter().all(|parent| self.rows.get(parent).is_none_or(|parent| parent.checkpoint == Checkpoint::ShardEnd))
    }

    fn is_takeable(&self, lease: &'a Lease) -> bool {
        lease.checkpoint != Checkpoint::ShardEnd
            && !self.situation.running.contains(&lease.shard)
            && self.holder(lease) == Holder::Nobody
            && self.parents_done(lease)
    }

    /// One's own leases at once, others up to the target, and above it what nobody else took in time.
    fn takes(&self) -> Vec<&'a Lease> {
        let situation = self.situation;
        let (own, mut free): (Vec<_>, Vec<_>) = situation
            .leases
            .iter()
            .filter(|lease| self.is_takeable(lease))
            .partition(|lease| lease.owner.as_deref() == Some(situation.worker));
        // Nodes that look at the same time begin with different leases.
        let name = name_of(situation.worker);
        free.sort_by_key(|lease| std::cmp::Reverse(rank(lease.shard.as_str(), name)));
        let held = self.shares.of(situation.worker) + own.len();
        let mut room = self.shares.target(situation.application, self.n_active, situation.worker).saturating_sub(held);
        free.retain(|lease| {
            let taken = room > 0 || situation.sightings.free_for(&lease.shard, situation.now) >= LEFT_BEHIND;
            room = room.saturating_sub(1);
            taken
        });
        own.into_iter().chain(free).collect()
    }

    fn asks(&self) -> Vec<Step> {
        let situation = self.situation;
        let mine = self.shares.of(situation.worker);
        let room = self.shares.target(situation.application, self.n_active, situation.worker).saturating_sub(mine);
        let asks: Vec<_> = self.shares.asks(situation.worker, &self.linked(), room);
        if !asks.is_empty() {
            return asks.into_iter().map(|worker| Step::Ask(worker.to_owned())).collect();
        }
        // Workers of KCL cannot be asked: one lease at a time is taken from the fullest, as they do among themselves.
        let fullest = self.shares.asks(situation.worker, &self.foreign(), room.min(1)).into_iter().next();
        let held_by = |lease: &&Lease| fullest.is_some() && lease.owner.as_deref() == fullest && self.parents_done(lease);
        situation
            .leases
            .iter()
            .filter(held_by)
            .find(|lease| lease.checkpoint != Checkpoint::ShardEnd)
            .map_or_else(Vec::new, |lease| vec![Step::Take(lease.clone())])
    }

    /// Nodes of this application that a link leads to and that stay.
    fn linked(&self) -> BTreeSet<&'a str> {
        let nodes = self.situation.view.nodes.iter();
        let linked = nodes.filter(|node| node.presence == Presence::Linked && !node.draining);
        linked.map(|node| node.worker.as_str()).filter(|worker| self.shares.held.contains_key(worker)).collect()
    }

    /// Workers that are no nodes of ours. Whoever is written as one but not in the view may only not be seen yet.
    fn foreign(&self) -> BTreeSet<&'a str> {
        let is_ours = |worker: &str| worker.rsplit_once('#').is_some_and(|(_, boot)| boot.parse::<u64>().is_ok());
        self.shares.held.keys().copied().filter(|worker| !is_ours(worker)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::shard_rows::tests::{lease, shard};
    use super::*;
    use crate::cluster::ClusterNode;

    /// A situation that owns its parts; `n1#5` is this node.
    struct World {
        shards: Vec<Shard>,
        leases: Vec<Lease>,
        view: ClusterView,
        running: BTreeSet<ShardId>,
        leaving: BTreeMap<ShardId, Option<String>>,
        coming: BTreeSet<ShardId>,
        start: StartAt,
        age: Duration,
        free_for: Duration,
    }

    impl World {
        fn new(leases: Vec<Lease>) -> Self {
            let shards = leases.iter().map(|lease| shard(lease.shard.as_str(), &[])).collect();
            let view = ClusterView { nodes: vec![node("n1#5", Presence::Here)] };
            let (start, age, free_for) = (StartAt::TrimHorizon, Duration::ZERO, Duration::ZERO);
            let (running, leaving, coming) = Default::default();
            Self { shards, leases, view, running, leaving, coming, start, age, free_for }
        }

        fn with_node(mut self, worker: &str, presence: Presence) -> Self {
            self.view.nodes.push(node(worker, presence));
            self
        }

        fn running(mut self, shards: &[&str]) -> Self {
            self.running = shards.iter().map(|id| ShardId::new(id)).collect();
            self
        }

        fn survey<T>(&self, read: impl FnOnce(&Survey<'_>) -> T) -> T {
            let mut sightings = Sightings::default();
            let then = Instant::now();
            sightings.note(&self.leases, then);
            let all: Vec<_> = self.leases.iter().map(|lease| lease.shard.clone()).collect();
            sightings.note_free(&all, then + self.age - self.free_for);
            let situation = Situation {
                shards: &self.shards,
                leases: &self.leases,
                sightings: &sightings,
                view: &self.view,
                application: "app",
                role: "enrich",
                worker: "n1#5",
                running: &self.running,
                leaving: &self.leaving,
                coming: &self.coming,
                elsewhere: &Elsewhere::new(),
                start: &self.start,
                now: then + self.age,
                expires_after: Duration::from_secs(10),
            };
            read(&Survey::of(&situation))
        }

        fn plan(&self) -> Vec<Step> {
            self.survey(|survey| survey.plan())
        }

        fn taken(&self) -> Vec<String> {
            let taken = |step| if let Step::Take(lease) = step { Some(lease.shard.as_str().to_owned()) } else { None };
            let mut taken: Vec<_> = self.plan().into_iter().filter_map(taken).collect();
            taken.sort_unstable();
            taken
        }
    }

    fn node(worker: &str, presence: Presence) -> ClusterNode {
        ClusterNode {
            name: name_of(worker).to_owned(),
            worker: worker.to_owned(),
            address: None,
            dashboard: None,
            roles: vec!["enrich".to_owned()],
            draining: false,
            presence,
            round_trip: None,
            misses: 0,
        }
    }

    fn held(leases: &[(&str, &str)]) -> Vec<Lease> {
        leases.iter().map(|(id, owner)| lease(id, Some(owner), Checkpoint::TrimHorizon, &[])).collect()
    }

    #[test]
    fn free_expired_and_orphaned_leases_are_taken_and_others_left() {
        let leases = vec![
            lease("free", None, Checkpoint::TrimHorizon, &[]),
            lease("theirs", Some("n2#1"), Checkpoint::TrimHorizon, &[]),
            lease("mine", Some("n1#5"), Checkpoint::TrimHorizon, &[]),
            lease("earlier", Some("n1#4"), Checkpoint::TrimHorizon, &[]),
            lease("running", Some("n1#5"), Checkpoint::TrimHorizon, &[]),
            lease("ended", None, Checkpoint::ShardEnd, &[]),
        ];
        let mut world = World::new(leases).running(&["running"]);
        assert!(world.taken().contains(&"mine".to_owned()) && !world.taken().contains(&"theirs".to_owned()));
        world.free_for = LEFT_BEHIND;
        world.age = Duration::from_secs(9);
        assert_eq!(world.taken(), ["earlier", "free", "mine"]);
        world.age = Duration::from_secs(10);
        assert_eq!(world.taken(), ["earlier", "free", "mine", "theirs"]);
    }

    #[test]
    fn leases_of_a_dead_node_are_taken_at_once_and_those_of_an_unlinked_one_never() {
        let leases = || held(&[("a", "n2#1"), ("b", "n3#1"), ("c", "n1#5")]);
        let mut world =
            World::new(leases()).running(&["c"]).with_node("n2#1", Presence::Dead).with_node("n3#1", Presence::Unlinked);
        world.age = LEFT_BEHIND;
        world.free_for = LEFT_BEHIND;
        assert_eq!(world.taken(), ["a"]);
        let suspect =
            World::new(leases()).running(&["c"]).with_node("n2#1", Presence::Suspect).with_node("n3#1", Presence::Linked);
        assert!(suspect.plan().is_empty());
        let restarted =
            World::new(leases()).running(&["c"]).with_node("n2#2", Presence::Linked).with_node("n3#1", Presence::Linked);
        assert_eq!(restarted.survey(|survey| survey.free()), [ShardId::new("a")], "what an earlier boot held is free");
    }

    #[test]
    fn free_leases_are_taken_up_to_the_target_and_above_it_when_nobody_else_does() {
        let free = |n: usize| (0..n).map(|id| lease(&id.to_string(), None, Checkpoint::TrimHorizon, &[])).collect();
        let mut world = World::new(free(8)).with_node("n2#1", Presence::Linked).with_node("n3#1", Presence::Linked);
        assert!((2..=3).contains(&world.taken().len()));
        (world.age, world.free_for) = (LEFT_BEHIND, LEFT_BEHIND);
        assert_eq!(world.taken().len(), 8);
    }

    #[test]
    fn a_node_asks_the_fullest_linked_node_only_when_nothing_is_free() {
        let four = held(&[("a", "n2#1"), ("b", "n2#1"), ("c", "n2#1"), ("d", "n2#1")]);
        let world = World::new(four.clone()).with_node("n2#1", Presence::Linked);
        assert_eq!(world.plan(), [Step::Ask("n2#1".to_owned()), Step::Ask("n2#1".to_owned())]);
        let mut asked = World::new(four.clone()).with_node("n2#1", Presence::Linked);
        asked.coming = ["a", "b"].map(ShardId::new).into();
        assert!(asked.plan().is_empty(), "what is promised counts");
        assert!(World::new(four.clone()).with_node("n2#1", Presence::Unlinked).plan().is_empty());
        assert!(World::new(four).plan().is_empty(), "a node that is not seen yet is not stolen from");
        let mut free = held(&[("a", "n2#1"), ("b", "n2#1"), ("c", "n2#1")]);
        free.push(lease("d", None, Checkpoint::TrimHorizon, &[]));
        assert_eq!(World::new(free).with_node("n2#1", Presence::Linked).taken(), ["d"]);
    }

    #[test]
    fn one_lease_at_a_time_is_taken_from_a_worker_of_kcl() {
        let world = World::new(held(&[("a", "host:3f2a"), ("b", "host:3f2a"), ("c", "host:3f2a"), ("d", "host:3f2a")]));
        assert_eq!(world.taken().len(), 1);
        let even = World::new(held(&[("a", "host:3f2a"), ("b", "n1#5")])).running(&["b"]);
        assert!(even.plan().is_empty());
    }

    #[test]
    fn a_lease_is_given_only_to_a_linked_node_that_holds_two_less() {
        let mine = held(&[("a", "n1#5"), ("b", "n1#5"), ("c", "n2#1")]);
        let mut world = World::new(mine).running(&["a", "b"]);
        world =
            world.with_node("n2#1", Presence::Linked).with_node("n3#1", Presence::Linked).with_node("n4#1", Presence::Suspect);
        let given = |world: &World, taker: &str| world.survey(|survey| survey.give(taker));
        assert!(given(&world, "n3#1").is_some());
        assert_eq!(given(&world, "n2#1"), None);
        assert_eq!(given(&world, "n4#1"), None);
        assert_eq!(given(&world, "n9#1"), None);
        world.leaving.insert(ShardId::new("a"), Some("n3#1".to_owned()));
        assert_eq!(given(&world, "n3#1"), None, "what is on its way counts");
    }

    #[test]
    fn a_leaving_node_gives_all_to_linked_nodes_that_stay() {
        let mut world = World::new(held(&[("a", "n1#5"), ("b", "n1#5"), ("c", "n2#1")])).running(&["a", "b"]);
        assert!(world.survey(|survey| survey.away()).iter().all(|(_, to)| to.is_none()));
        world = world.with_node("n2#1", Presence::Linked).with_node("n3#1", Presence::Linked).with_node("n4#1", Presence::Dead);
        let to: Vec<_> = world.survey(|survey| survey.away()).into_iter().filter_map(|(_, to)| to).collect();
        assert_eq!(to, ["n3#1", "n2#1"]);
    }

    #[test]
    fn a_child_waits_until_every_parent_is_done_and_a_missing_parent_is() {
        let world = |second: Checkpoint| {
            World::new(vec![
                lease("p1", None, Checkpoint::ShardEnd, &[]),
                lease("p2", Some("n2#1"), second, &[]),
                lease("child", None, Checkpoint::TrimHorizon, &["p1", "p2", "gone"]),
            ])
        };
        let waiting = world(Checkpoint::TrimHorizon);
        assert!(waiting.taken().is_empty());
        let states: Vec<_> = waiting.survey(|survey| survey.board()).into_iter().map(|lease| lease.state).collect();
        assert_eq!(states, [LeaseState::WaitsForParent, LeaseState::Ended, LeaseState::Held]);
        assert_eq!(world(Checkpoint::ShardEnd).taken(), ["child"]);
    }
}
