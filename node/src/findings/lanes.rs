//! Rules about lanes: their deaths, what they wait for, and how far behind they are.

use std::time::Duration;

use super::facts::{LaneFact, WaitFact};
use super::past::wait_key;
use super::{Past, Scene, SeenNode, Severity, Suspicion};

/// From here on a lane lets records in one at a time to find the one that ends it.
const CRASH_LOOP: u32 = 3;
/// A lane that has run for longer since its last death is no crash loop, though nothing came that could move its checkpoint.
const RUNS_AGAIN_MS: u64 = 8_000;
/// Texts are the slowest work, and even one of them takes less.
const STILL_MS: u64 = 10_000;
/// A burst is worked off within this time; a lane that texts as fast as it may has longer.
const LAG_MS: u64 = 120_000;
const LAG_BY_OWN_LIMIT_MS: u64 = 3_600_000;
/// A quarter of what a stream keeps at its default.
const LAG_CRITICAL_MS: u64 = 6 * 3_600_000;
const LAG_AFTER: Duration = Duration::from_secs(5);
/// Over which the share of waiting is taken, and how much of it there must be.
const WAIT_WINDOW: Duration = Duration::from_secs(11);
const LEAST_WINDOW: Duration = Duration::from_secs(8);
const MOST_WAITING: f64 = 0.5;
/// A wait for one answer that is shorter is how a stage works.
const LONG_ANSWER_MS: u64 = 2_000;
/// A burst of texts takes some time at their rate.
const OWN_LIMIT_AFTER: Duration = Duration::from_secs(30);

pub(super) fn suspicions(scene: &Scene<'_>, past: &Past) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for node in &scene.nodes {
        for lane in node.status.iter().flat_map(|status| &status.facts.lanes) {
            found.extend(deaths(node, lane));
            found.extend(stands_still(node, lane));
            found.extend(lags(node, lane));
            found.extend(lane.waits.iter().filter_map(|wait| waits(scene, past, node, lane, wait)));
        }
    }
    found
}

fn about(rule: &'static str, severity: Severity, node: &SeenNode<'_>, lane: &LaneFact, text: String) -> Suspicion {
    let target = format!("{}/{}", lane.role, lane.shard);
    let link = format!("#/shards?shard={target}");
    Suspicion::new(rule, severity, target, text).on(node.name).link(link)
}

fn deaths(node: &SeenNode<'_>, lane: &LaneFact) -> Vec<Suspicion> {
    let mut found = Vec::new();
    let (role, shard, name) = (&lane.role, &lane.shard, node.name);
    let fault = lane.last_fault.as_deref().unwrap_or("an unknown fault");
    let is_down = lane.state == "backoff";
    if is_down {
        let text = format!("{role} {shard} on {name} backs off after: {fault}");
        let next = "it starts again from its checkpoint by itself; see the reason in its restarts";
        found.push(about("lane-backoff", Severity::Warning, node, lane, text).next(next));
    }
    let has_just_started = lane.state == "running" && lane.state_for_ms < RUNS_AGAIN_MS;
    if lane.deaths >= CRASH_LOOP && (is_down || has_just_started) {
        let text = format!("{role} {shard} on {name} died {} times and its checkpoint has not moved: {fault}", lane.deaths);
        let next = "if a record does it, that record becomes a dead letter by itself; else see the service that fails";
        found.push(about("lane-crash-loop", Severity::Critical, node, lane, text).next(next));
    }
    found
}

fn stands_still(node: &SeenNode<'_>, lane: &LaneFact) -> Option<Suspicion> {
    let still = lane.still_ms.filter(|still| *still >= STILL_MS)?;
    let longest = lane.waits.iter().max_by_key(|wait| wait.for_ms);
    let why = longest.map(|wait| format!("; {} waits for {}", wait.actor, cause(wait))).unwrap_or_default();
    let text = format!(
        "{} {} on {} holds {} events and none has ended for {} s{why}",
        lane.role,
        lane.shard,
        node.name,
        lane.in_lane,
        still / 1_000
    );
    let next = "see what its actors wait for; a frozen actor is replaced after lane.stall_after";
    Some(about("lane-still", Severity::Critical, node, lane, text).next(next))
}

fn lags(node: &SeenNode<'_>, lane: &LaneFact) -> Option<Suspicion> {
    let by_own_limit = lane.waits.iter().any(|wait| wait.own_limit);
    let limit = if by_own_limit { LAG_BY_OWN_LIMIT_MS } else { LAG_MS };
    let lag = lane.lag_ms.filter(|lag| *lag >= limit)?;
    let severity = if lag >= LAG_CRITICAL_MS { Severity::Critical } else { Severity::Warning };
    let text = format!("{} {} on {} is {} s behind its shard", lane.role, lane.shard, node.name, lag / 1_000);
    let next = "records expire when their stream's retention is over: add nodes or shards, or see what its stages wait for";
    Some(about("shard-lag", severity, node, lane, text).after(LAG_AFTER).next(next))
}

/// The reader's own calls wait while nothing comes, so it is left out; its troubles are its service's.
fn waits(scene: &Scene<'_>, past: &Past, node: &SeenNode<'_>, lane: &LaneFact, wait: &WaitFact) -> Option<Suspicion> {
    if wait.actor == "shard_reader" || (wait.cause.is_none() && wait.for_ms < LONG_ANSWER_MS) {
        return None;
    }
    let key = wait_key(&lane.role, &lane.shard, &wait.actor);
    let before = past.of(node.worker).find_map(|(at, sample)| {
        let age = scene.now.saturating_duration_since(at);
        (age <= WAIT_WINDOW).then(|| Some((age, *sample.waits.get(&key)?)))?
    });
    let (age, waiting_ms) = before.filter(|(age, _)| *age >= LEAST_WINDOW)?;
    let share = Duration::from_millis(wait.waiting_ms.saturating_sub(waiting_ms)).as_secs_f64() / age.as_secs_f64();
    if share <= MOST_WAITING {
        return None;
    }
    let text = format!(
        "{} of {} {} on {} waited {:.0} % of the last {} s, for {}",
        wait.actor,
        lane.role,
        lane.shard,
        node.name,
        share.min(1.0) * 100.0,
        age.as_secs(),
        cause(wait)
    );
    let suspicion = |severity| {
        let target = format!("{}/{}/{}", lane.role, lane.shard, wait.actor);
        let link = format!("#/actors?open={}/{target}", node.name);
        Suspicion::new("stage-waiting", severity, target, text.clone()).on(node.name).link(link)
    };
    Some(if wait.own_limit {
        let next = "texts go out as fast as notify.max_texts_per_second and notify.in_flight allow";
        suspicion(Severity::Info).after(OWN_LIMIT_AFTER).next(next)
    } else {
        suspicion(Severity::Warning).next("what stands before it is held back, and nothing is lost; see what it waits for")
    })
}

fn cause(wait: &WaitFact) -> &str {
    wait.cause.as_deref().unwrap_or("an answer")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::super::sample::{lane, node, rules, scene};
    use super::super::{NodeFacts, Tracker};
    use super::*;

    fn found(lane: LaneFact) -> Vec<Suspicion> {
        let facts = NodeFacts { lanes: vec![lane], ..NodeFacts::default() };
        suspicions(&scene(vec![node("n1", "n1#1", &facts)]), &Past::default())
    }

    fn enrich() -> LaneFact {
        lane("enrich", "a")
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_dies_says_why_and_that_it_goes_on_dying() {
        let backoff = |deaths| LaneFact { state: "backoff".into(), deaths, last_fault: Some("gone".into()), ..enrich() };
        let told = found(backoff(1));
        assert_eq!((rules(&told), told[0].text.as_str()), (vec!["lane-backoff"], "enrich a on n1 backs off after: gone"));
        assert_eq!(rules(&found(backoff(3))), ["lane-backoff", "lane-crash-loop"]);
        let again = |state_for_ms| LaneFact { deaths: 3, state_for_ms, ..enrich() };
        assert_eq!(rules(&found(again(7_999))), ["lane-crash-loop"], "it may die again at once");
        assert!(found(again(8_000)).is_empty(), "it runs, though nothing came that could move its checkpoint");
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_do_not_end_are_told_of_with_what_holds_them() {
        let wait = WaitFact { actor: "driver_lookup".into(), for_ms: 9_000, ..WaitFact::default() };
        let still = |still_ms| LaneFact { still_ms: Some(still_ms), in_lane: 7, waits: vec![wait.clone()], ..enrich() };
        assert!(found(still(9_999)).is_empty());
        let text = &found(still(10_000))[0].text;
        assert_eq!(text, "enrich a on n1 holds 7 events and none has ended for 10 s; driver_lookup waits for an answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_is_worked_off_is_no_lag() {
        let lag = |lag_ms, waits| rules(&found(LaneFact { lag_ms: Some(lag_ms), waits, ..lane("notify", "a") })).len();
        assert_eq!((lag(119_999, Vec::new()), lag(120_000, Vec::new())), (0, 1));
        let limited = || vec![WaitFact { own_limit: true, cause: Some("the rate of texts".into()), ..WaitFact::default() }];
        assert_eq!((lag(700_000, limited()), lag(3_600_000, limited())), (0, 1), "texts go as fast as they may");
    }

    /// What is told at the end of so many seconds in which an actor of a lane waited for so many milliseconds each.
    async fn after(seconds: u64, waited_ms: u64, wait: WaitFact) -> Vec<(Severity, String)> {
        let (mut past, mut tracker, mut told) = (Past::default(), Tracker::default(), Vec::new());
        for second in 0..=seconds {
            let wait = WaitFact { waiting_ms: second * waited_ms, ..wait.clone() };
            let facts = NodeFacts { lanes: vec![LaneFact { waits: vec![wait], ..lane("notify", "a") }], ..NodeFacts::default() };
            let scene = scene(vec![node("n1", "n1#1", &facts)]);
            past.note(&scene, &BTreeMap::new());
            told = tracker.update(scene.now, SystemTime::UNIX_EPOCH, suspicions(&scene, &past));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        told.into_iter().map(|finding| (finding.severity, finding.text)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_waits_more_than_half_its_time_says_what_for() {
        let retry = WaitFact {
            actor: "owner_notifier".into(),
            for_ms: 800,
            cause: Some("sns Publish failed (throttled)".into()),
            ..WaitFact::default()
        };
        let text = "owner_notifier of notify a on n1 waited 90 % of the last 11 s, for sns Publish failed (throttled)";
        assert_eq!(after(15, 900, retry.clone()).await, [(Severity::Warning, text.to_owned())]);
        assert!(after(5, 900, retry.clone()).await.is_empty(), "too short a time to say");
        assert!(after(15, 500, retry.clone()).await.is_empty(), "half is no more than half");
        let answer = |for_ms| WaitFact { cause: None, for_ms, ..retry.clone() };
        assert!(after(15, 950, answer(1_999)).await.is_empty(), "calls that are answered are its work");
        assert_eq!(after(15, 1_000, answer(2_000)).await.len(), 1);
        let rate = WaitFact { cause: Some("the rate of texts".into()), own_limit: true, ..retry.clone() };
        assert!(after(30, 900, rate.clone()).await.is_empty(), "a burst");
        assert_eq!(after(45, 900, rate).await[0].0, Severity::Info, "its own limit is nobody's fault");
        let reader = WaitFact { actor: "shard_reader".into(), ..retry };
        assert!(after(15, 900, reader).await.is_empty());
    }
}
