//! Rules about what goes through: nothing may get lost between the beginning and the end of a lane, and plates that were looked
//! up should be remembered.

use std::time::Duration;

use tokio::time::Instant;

use super::past::NodeSample;
use super::{Past, Scene, SeenNode, Severity, Suspicion};

/// Over which flow and cache are judged.
const WINDOW: Duration = Duration::from_secs(60);
const LEAST_WINDOW: Duration = Duration::from_secs(50);
/// Records of a window of which a share says something.
const ENOUGH_RECORDS: u64 = 100;
/// One in so many may be between two counters.
const LEAK_SHARE: u64 = 100;
/// One reading in so many has wrong coordinates.
const LEAST_OFF_SHARE: u64 = 10;
/// Lookups of a window of which a share says something.
const ENOUGH_LOOKUPS: u64 = 2_000;
const LEAST_HITS: f64 = 0.8;

pub(super) fn suspicions(scene: &Scene<'_>, past: &Past) -> Vec<Suspicion> {
    let answering = || scene.nodes.iter().filter(|node| node.status.is_some());
    let leaks = answering().flat_map(|node| leaks(scene, past, node));
    leaks.chain(answering().filter_map(|node| cold_cache(scene, past, node))).chain(misplaced(scene)).collect()
}

/// Nothing depends on coordinates, so this is good to know and no more.
fn misplaced(scene: &Scene<'_>) -> Option<Suspicion> {
    let facts = || scene.nodes.iter().filter_map(|node| node.status).map(|status| status.facts);
    let (placed, off) = facts().fold((0, 0), |(placed, off), it| (placed + it.placed, off + it.misplaced));
    if placed < ENOUGH_RECORDS || off * LEAST_OFF_SHARE < placed {
        return None;
    }
    let text = format!("{off} of {placed} readings of the last 15 minutes lie outside the state that they name");
    Some(
        Suspicion::new("coordinates-off", Severity::Info, "coordinates", text)
            .link("#/map".to_owned())
            .next("the map goes by the state's name; see where the devices' coordinates come from"),
    )
}

/// In = out + dropped + dead + growth, for each stage: what was let in has ended and is settled by a checkpoint, has ended and
/// waits for one, died with its generation and is let in again, or is in a lane now.
fn leaks(scene: &Scene<'_>, past: &Past, node: &SeenNode<'_>) -> Vec<Suspicion> {
    let Some((before, after)) = ends(scene, past, node) else { return Vec::new() };
    let mut found = Vec::new();
    for (stage, (records_in, gap)) in &after.flow {
        let Some((records_before, gap_before)) = before.flow.get(stage) else { continue };
        let (came, lost) = (records_in.saturating_sub(*records_before), gap - gap_before);
        if came < ENOUGH_RECORDS || lost.unsigned_abs() * LEAK_SHARE <= came {
            continue;
        }
        let what = if lost > 0 { "are not accounted for" } else { "were counted twice" };
        let text = format!("of {came} records that {stage} on {} let in within a minute, {} {what}", node.name, lost.abs());
        found.push(
            Suspicion::new("flow-leak", Severity::Critical, stage.as_str(), text)
                .on(node.name)
                .link("#/pipeline".to_owned())
                .next(
                    "this is a bug: keep the node's log and its status page, and restart the node; checkpoints are not affected",
                ),
        );
    }
    found
}

/// Plates that are looked up for the first time have to be asked for, so only misses that taught the cache nothing count.
fn cold_cache(scene: &Scene<'_>, past: &Past, node: &SeenNode<'_>) -> Option<Suspicion> {
    let (before, after) = ends(scene, past, node)?;
    let ((hits_0, misses_0, entries_0), (hits_1, misses_1, entries_1)) = (before.cache?, after.cache?);
    let (hits, misses) = (hits_1.saturating_sub(hits_0), misses_1.saturating_sub(misses_0));
    // A load empties the cache on purpose.
    let entries: Vec<u64> = within(scene, past, node).filter_map(|(_, sample)| Some(sample.cache?.2)).collect();
    if entries.windows(2).any(|pair| pair[1] < pair[0]) {
        return None;
    }
    let learnt = entries_1 - entries_0;
    let again = misses.saturating_sub(learnt);
    let share = hits as f64 / (hits + again).max(1) as f64;
    if hits + misses < ENOUGH_LOOKUPS || share >= LEAST_HITS {
        return None;
    }
    let text = format!("the driver cache of {} had {:.0} % of the plates that it was asked for again", node.name, share * 100.0);
    Some(
        Suspicion::new("cache-cold", Severity::Warning, "driver cache", text)
            .on(node.name)
            .link("#/pipeline".to_owned())
            .next("raise lookup.max_entries, or lookup.unknown_for if most plates have no driver"),
    )
}

type Ends<'a> = (&'a NodeSample, &'a NodeSample);

/// The first and the last sample of a node within the window, if it is filled.
fn ends<'a>(scene: &Scene<'_>, past: &'a Past, node: &'a SeenNode<'_>) -> Option<Ends<'a>> {
    let mut samples = within(scene, past, node);
    let (first_at, first) = samples.next()?;
    let (last_at, last) = samples.next_back()?;
    (last_at - first_at >= LEAST_WINDOW).then_some((first, last))
}

fn within<'a>(
    scene: &Scene<'_>,
    past: &'a Past,
    node: &'a SeenNode<'_>,
) -> impl DoubleEndedIterator<Item = (Instant, &'a NodeSample)> {
    let now = scene.now;
    past.of(node.worker).filter(move |(at, _)| now.saturating_duration_since(*at) <= WINDOW)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::NodeFacts;
    use super::super::facts::LaneFact;
    use super::super::sample::{lane, node, rules, scene};
    use super::*;

    /// What is told after so many seconds, each of which is played by `second`.
    async fn after(seconds: u64, second: impl Fn(u64) -> (LaneFact, (u64, u64, u64))) -> Vec<Suspicion> {
        let (mut past, mut told) = (Past::default(), Vec::new());
        for n in 0..=seconds {
            let (lane, cache) = second(n);
            let facts = NodeFacts { lanes: vec![lane], ..NodeFacts::default() };
            let scene = scene(vec![node("n1", "n1#1", &facts)]);
            past.note(&scene, &BTreeMap::from([("n1#1".to_owned(), cache)]));
            told = suspicions(&scene, &past);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        told
    }

    fn lane_at(n: u64, lost: u64) -> LaneFact {
        let records_in = n * 50;
        let (in_lane, unsettled, restarted) = (7, 5, n / 10 * 20);
        let settled = (records_in - (restarted + lost).min(records_in)).saturating_sub(in_lane + unsettled);
        LaneFact {
            records_in: settled + in_lane + unsettled + restarted + lost,
            in_lane,
            settled,
            unsettled,
            restarted,
            ..lane("enrich", "a")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_let_in_has_to_be_somewhere() {
        assert!(after(80, |n| (lane_at(n, 0), (0, 0, 0))).await.is_empty(), "restarts and growth are no leak");
        let told = after(80, |n| (lane_at(n, n), (0, 0, 0))).await;
        assert_eq!(rules(&told), ["flow-leak"]);
        assert!(told[0].text.ends_with("60 are not accounted for"), "{}", told[0].text);
        assert!(after(40, |n| (lane_at(n, n), (0, 0, 0))).await.is_empty(), "too short a time to say");
        let drip = |n: u64| (lane_at(n, n / 4), (0, 0, 0));
        assert!(after(80, drip).await.is_empty(), "a hundredth may be between two counters");
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_coordinates_are_noted_and_make_nothing_unhealthy() {
        let told = |placed, misplaced| {
            let facts = NodeFacts { placed, misplaced, ..NodeFacts::default() };
            suspicions(&scene(vec![node("n1", "n1#1", &facts)]), &Past::default())
        };
        let note = &told(100, 10)[0];
        assert_eq!((note.rule, note.severity.counted()), ("coordinates-off", None));
        assert!(told(100, 9).is_empty() && told(99, 99).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_plates_that_were_known_before_can_be_missed() {
        let told = async |cache: fn(u64) -> (u64, u64, u64)| rules(&after(70, |n| (lane_at(n, 0), cache(n))).await).len();
        assert_eq!(told(|n| (n * 50, n * 50, 100)).await, 1, "half of the known ones are missed");
        assert_eq!(told(|n| (n * 50, n * 50, n * 50)).await, 0, "they are new");
        assert_eq!(told(|n| (n * 90, n * 10, 100)).await, 0);
        assert_eq!(told(|n| (n * 10, n * 20, 100)).await, 0, "too few to say");
        assert_eq!(told(|n| (n * 50, n * 50, 100 - n)).await, 0, "it was emptied on purpose");
    }
}
