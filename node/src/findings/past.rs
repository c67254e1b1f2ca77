//! What the rules and the key figures need of earlier moments: one sample a second of a few counters, for a good minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{NodeFacts, Scene};

/// Time between two samples.
const PERIOD: Duration = Duration::from_millis(900);
/// Samples kept: those of a good minute.
const KEPT: usize = 75;
/// Rates are taken over this time.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Past {
    samples: VecDeque<Sample>,
    /// When each lease changed hands, within the last minute.
    moves: BTreeMap<(String, String), VecDeque<Instant>>,
}

/// One moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) nodes: BTreeMap<String, NodeSample>,
    owners: BTreeMap<(String, String), String>,
}

/// One node at that moment.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct NodeSample {
    events: u64,
    violations: u64,
    texts: u64,
    pub(super) deepest: Option<(String, u64)>,
    /// By role: records let in, and how many more or fewer are accounted for.
    pub(super) flow: BTreeMap<String, (u64, i64)>,
    /// Hits, misses and entries of the cache.
    pub(super) cache: Option<(u64, u64, u64)>,
    /// How long actors that wait had waited, in milliseconds.
    pub(super) waits: BTreeMap<String, u64>,
}

/// What the cluster does a second; `None` while nobody has watched for long enough.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) events: Option<f64>,
    pub(crate) violations: Option<f64>,
    pub(crate) texts: Option<f64>,
}

impl Past {
    /// Takes a sample, unless the last one is too young.
    pub(crate) fn note(&mut self, scene: &Scene<'_>, caches: &BTreeMap<String, (u64, u64, u64)>) {
        if self.samples.back().is_some_and(|last| scene.now.saturating_duration_since(last.at) < PERIOD) {
            return;
        }
        let of = |node: &super::SeenNode<'_>| {
            let facts = node.status?.facts;
            let sample = NodeSample { cache: caches.get(node.worker).copied(), ..NodeSample::of(facts) };
            Some((node.worker.to_owned(), sample))
        };
        let owners = scene.shards.iter().filter_map(|shard| Some((key(shard.role, shard.shard), shard.owner?.to_owned())));
        let sample = Sample { at: scene.now, nodes: scene.nodes.iter().filter_map(of).collect(), owners: owners.collect() };
        self.note_moves(&sample);
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    fn note_moves(&mut self, sample: &Sample) {
        const MINUTE: Duration = Duration::from_secs(60);
        for (shard, owner) in &sample.owners {
            let before = self.samples.iter().rev().find_map(|sample| sample.owners.get(shard));
            if before.is_some_and(|before| before != owner) {
                self.moves.entry(shard.clone()).or_default().push_back(sample.at);
            }
        }
        for moves in self.moves.values_mut() {
            while moves.front().is_some_and(|at| sample.at.saturating_duration_since(*at) > MINUTE) {
                moves.pop_front();
            }
        }
        self.moves.retain(|_, moves| !moves.is_empty());
    }

    /// How often a lease changed hands in the last minute, and how long ago the last time was.
    pub(super) fn moves(&self, role: &str, shard: &str, now: Instant) -> Option<(usize, Duration)> {
        let moves = self.moves.get(&key(role, shard))?;
        Some((moves.len(), now.saturating_duration_since(*moves.back()?)))
    }

    /// The oldest sample that is not older than this.
    pub(super) fn since(&self, now: Instant, window: Duration) -> Option<&Sample> {
        self.samples.iter().find(|sample| now.saturating_duration_since(sample.at) <= window)
    }

    /// The samples of one node, oldest first.
    pub(super) fn of<'a>(&'a self, worker: &'a str) -> impl DoubleEndedIterator<Item = (Instant, &'a NodeSample)> {
        self.samples.iter().filter_map(move |sample| Some((sample.at, sample.nodes.get(worker)?)))
    }

    /// What the cluster did a second of late.
    pub(crate) fn rates(&self) -> Rates {
        let Some((newest, oldest)) = self.samples.back().and_then(|newest| {
            let oldest = self.since(newest.at, RATE_WINDOW)?;
            (newest.at - oldest.at >= Duration::from_secs(2)).then_some((newest, oldest))
        }) else {
            return Rates::default();
        };
        let seconds = (newest.at - oldest.at).as_secs_f64();
        let rate = |count: fn(&NodeSample) -> u64| {
            // A node that came meanwhile did nothing before; one that went is not asked any more.
            let more = |(worker, now): (&String, &NodeSample)| {
                count(now).saturating_sub(oldest.nodes.get(worker).map_or(count(now), count))
            };
            Some(newest.nodes.iter().map(more).sum::<u64>() as f64 / seconds)
        };
        Rates { events: rate(|node| node.events), violations: rate(|node| node.violations), texts: rate(|node| node.texts) }
    }
}

impl NodeSample {
    fn of(facts: &NodeFacts) -> Self {
        let mut sample =
            Self { deepest: facts.deepest.as_ref().map(|deepest| (deepest.actor.clone(), deepest.messages)), ..Self::default() };
        for lane in &facts.lanes {
            if lane.role == "enrich" {
                sample.events += lane.settled + lane.unsettled;
            }
            sample.violations += lane.violations;
            sample.texts += lane.texts;
            let (records_in, gap) = sample.flow.entry(lane.role.clone()).or_default();
            *records_in += lane.records_in;
            *gap += signed(lane.records_in) - signed(lane.settled + lane.unsettled + lane.restarted + lane.in_lane);
            let waits = lane.waits.iter().map(|wait| (wait_key(&lane.role, &lane.shard, &wait.actor), wait.waiting_ms));
            sample.waits.extend(waits);
        }
        sample
    }
}

/// The name of an actor of a lane among all of its node.
pub(super) fn wait_key(role: &str, shard: &str, actor: &str) -> String {
    format!("{role}/{shard}/{actor}")
}

fn key(role: &str, shard: &str) -> (String, String) {
    (role.to_owned(), shard.to_owned())
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lane, node, scene};
    use super::super::{Past, Rates, SeenShard};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_unknown_at_first_and_then_those_of_ten_seconds() {
        let mut past = Past::default();
        for second in 0..30_u64 {
            let mut enrich = lane("enrich", "a");
            (enrich.settled, enrich.unsettled) = (second * 100, 5);
            let facts = NodeFacts { lanes: vec![enrich], ..NodeFacts::default() };
            past.note(&scene(vec![node("n1", "n1#1", &facts)]), &BTreeMap::new());
            assert_eq!(past.rates().events, (second >= 2).then_some(100.0), "{second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(past.rates(), Rates { events: Some(100.0), violations: Some(0.0), texts: Some(0.0) });
        past.note(&scene(Vec::new()), &BTreeMap::new());
        assert_eq!(past.rates().events, Some(0.0), "a node that went counts no more");
    }

    #[tokio::test(start_paused = true)]
    async fn moves_of_a_lease_are_counted_for_a_minute() {
        let mut past = Past::default();
        let empty = NodeFacts::default();
        for owner in ["n1#1", "n1#1", "n2#1", "n1#1", "n1#1"] {
            let mut scene = scene(vec![node("n1", "n1#1", &empty)]);
            scene.shards.push(SeenShard { role: "enrich", shard: "a", owner: Some(owner), unowned: None, runners: Vec::new() });
            past.note(&scene, &BTreeMap::new());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(past.moves("enrich", "a", Instant::now()), Some((2, Duration::from_secs(2))));
        assert_eq!(past.moves("notify", "a", Instant::now()), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        past.note(&scene(Vec::new()), &BTreeMap::new());
        assert_eq!(past.moves("enrich", "a", Instant::now()), None);
    }
}
