//! Rules about nodes and their actors.

use std::time::Duration;

use super::{Past, Scene, SeenNode, SeenStatus, Severity, Suspicion};

/// A late answer may be a busy machine's; two in a row are not.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// A link that was cut is dialled again within this time.
const UNLINKED_AFTER: Duration = Duration::from_secs(4);
/// A node that starts for longer hangs: it looks for what it needs in AWS first, and tells when that is not there.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// A beat may be late once.
const PAUSED_AFTER: Duration = Duration::from_secs(1);
/// Answers are heard up to 0.8 s after they were given, so less than this says nothing.
const CLOCK_OFF_MS: i64 = 2_000;
const CLOCK_AFTER: Duration = Duration::from_secs(2);
/// Handlers hand slow work on, so that one that runs for so long is frozen, or its thread is. Whoever looks once a second sees it
/// within 3 s.
const STUCK_MS: u64 = 1_000;
/// A lane holds 2,000 events at most, and a message is mostly a batch of many.
const MAILBOX_HIGH: u64 = 1_000;
const MAILBOX_AFTER: Duration = Duration::from_secs(2);
/// A mailbox that grew at every look for so long, by so much.
const RISING_FOR: Duration = Duration::from_secs(10);
const RISING_BY: u64 = 100;
const INGEST_AFTER: Duration = Duration::from_secs(3);
/// Restarts of one actor within a minute.
const STORM: u64 = 5;
/// A storm is over when there was no restart for so long.
const STORM_OVER_MS: u64 = 8_000;

pub(super) fn suspicions(scene: &Scene<'_>, past: &Past) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for node in &scene.nodes {
        if let Some(why) = node.silent {
            found.push(silent(node, why));
        } else if let Some(status) = node.status {
            found.extend(alive(node, status));
            found.extend(actors(node, status));
            found.extend(rising(scene, node, past));
        }
    }
    found
}

fn about(rule: &'static str, severity: Severity, node: &SeenNode<'_>, text: String) -> Suspicion {
    Suspicion::new(rule, severity, node.name, text).on(node.name).link("#/nodes".to_owned())
}

fn silent(node: &SeenNode<'_>, why: &str) -> Suspicion {
    let text = format!("{} does not answer: {why}", node.name);
    match node.presence {
        "dead" => about("node-dead", Severity::Critical, node, text)
            .next("its shards move to the others by themselves; start it again, or forget it with `speedtrap forget`"),
        "unlinked" => about("node-unlinked", Severity::Warning, node, text)
            .after(UNLINKED_AFTER)
            .next("it works, but cannot be reached from here: check the network between the cluster addresses"),
        _ => about("node-silent", Severity::Critical, node, text)
            .after(if why.starts_with("no answer within") { SILENT_AFTER } else { Duration::ZERO })
            .next("see its process and its log; if it stays silent, its shards move to the others by themselves"),
    }
}

fn alive(node: &SeenNode<'_>, status: SeenStatus<'_>) -> Vec<Suspicion> {
    let mut found = Vec::new();
    if status.state == "starting" && status.uptime >= STARTS_WITHIN {
        let text = format!("{} has been starting for {} s", node.name, status.uptime.as_secs());
        found.push(about("node-starting", Severity::Warning, node, text).next("see its log for what it waits for"));
    }
    if node.paused && status.state == "running" {
        let text = format!("{} is paused: it cannot show that it lives", node.name);
        let next = "it cannot write its heartbeat: check its way to DynamoDB; it goes on by itself";
        found.push(about("node-paused", Severity::Critical, node, text).after(PAUSED_AFTER).next(next));
    }
    if let Some(off) = status.clock_off_ms.filter(|off| off.abs() >= CLOCK_OFF_MS) {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        let text = format!("the clock of {} is {} s {direction} that of the node that was asked", node.name, off.abs() / 1_000);
        let next = "set it by NTP: times in logs and texts are wrong, though no lease depends on them";
        found.push(about("clock-skew", Severity::Warning, node, text).after(CLOCK_AFTER).next(next));
    }
    if let Some(why) = status.ingest_trouble {
        let text = format!("{} ingests, but is not connected to the MQTT broker: {why}", node.name);
        let next = "readings wait in the devices; check the broker and ingest.* of the configuration";
        found.push(about("ingest-disconnected", Severity::Critical, node, text).after(INGEST_AFTER).next(next));
    }
    found
}

fn actors(node: &SeenNode<'_>, status: SeenStatus<'_>) -> Vec<Suspicion> {
    let mut found = Vec::new();
    let actor = |rule, severity, actor: &str, text| {
        Suspicion::new(rule, severity, actor, text).on(node.name).link(format!("#/actors?open={actor}"))
    };
    for stuck in status.facts.stuck.iter().filter(|stuck| stuck.for_ms >= STUCK_MS) {
        let text = format!("{} has handled one message for {} s", stuck.actor, stuck.for_ms / 1_000);
        let next = "a frozen actor of a lane is replaced by itself after lane.stall_after; else restart it";
        found.push(actor("actor-frozen", Severity::Critical, &stuck.actor, text).next(next));
    }
    if let Some(deepest) = status.facts.deepest.as_ref().filter(|deepest| deepest.messages >= MAILBOX_HIGH) {
        let text = format!("{} messages wait for {}", deepest.messages, deepest.actor);
        let next = "see what it waits for; what stands behind it is held back, and nothing is lost";
        found.push(actor("mailbox-high", Severity::Warning, &deepest.actor, text).after(MAILBOX_AFTER).next(next));
    }
    for storm in status.facts.storms.iter().filter(|storm| storm.restarts >= STORM && storm.last_ms <= STORM_OVER_MS) {
        let text = format!("{} was restarted {} times within a minute: {}", storm.actor, storm.restarts, storm.reason);
        let next = "see the reasons in its restart log";
        found.push(actor("restart-storm", Severity::Warning, &storm.actor, text).next(next));
    }
    found
}

fn rising(scene: &Scene<'_>, node: &SeenNode<'_>, past: &Past) -> Option<Suspicion> {
    let (mut upper, mut oldest, mut actor) = (u64::MAX, None, "");
    for (at, sample) in past.of(node.worker).rev() {
        let Some((name, depth)) = &sample.deepest else { break };
        if *depth >= upper || (upper != u64::MAX && name != actor) {
            break;
        }
        (upper, oldest, actor) = (*depth, Some((at, *depth)), name);
    }
    let (at, least) = oldest?;
    let most = past.of(node.worker).next_back()?.1.deepest.as_ref()?.1;
    let has_risen = scene.now.saturating_duration_since(at) >= RISING_FOR && most - least >= RISING_BY;
    has_risen.then(|| {
        let text = format!("the mailbox of {actor} has grown for {} s, to {most} messages", (scene.now - at).as_secs());
        Suspicion::new("mailbox-rising", Severity::Warning, actor, text)
            .on(node.name)
            .link(format!("#/actors?open={actor}"))
            .next("more comes in than it handles: see its busy time and what it waits for")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::Instant;

    use super::super::facts::{MailboxFact, StormFact, StuckFact};
    use super::super::sample::{node, rules, scene};
    use super::super::{NodeFacts, Tracker};
    use super::*;

    fn found(node: SeenNode<'_>) -> Vec<Suspicion> {
        suspicions(&scene(vec![node]), &Past::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_is_told_of_by_how_it_is_missed() {
        let facts = NodeFacts::default();
        for (presence, why, rule, after_s) in [
            ("dead", "it is dead", "node-dead", 0),
            ("suspect", "it is suspect", "node-silent", 0),
            ("linked", "the link broke", "node-silent", 0),
            ("linked", "no answer within 800 ms", "node-silent", 1),
            ("unlinked", "it is unlinked", "node-unlinked", 4),
        ] {
            let told = found(SeenNode { presence, silent: Some(why), status: None, ..node("n2", "n2#1", &facts) });
            assert_eq!((rules(&told), told[0].after), (vec![rule], Duration::from_secs(after_s)), "{presence}");
            assert_eq!(told[0].text, format!("n2 does not answer: {why}"));
        }
        assert!(found(node("n1", "n1#1", &facts)).is_empty(), "a healthy one is not told of");
    }

    #[tokio::test(start_paused = true)]
    async fn each_trouble_of_a_node_that_answers_has_its_rule() {
        let healthy = NodeFacts::default();
        let with = |change: fn(&mut SeenNode<'_>, &mut SeenStatus<'_>)| {
            let mut node = node("n1", "n1#1", &healthy);
            let mut status = node.status.expect("it answers");
            change(&mut node, &mut status);
            found(SeenNode { status: Some(status), ..node })
        };
        assert_eq!(rules(&with(|node, _| node.paused = true)), ["node-paused"]);
        let unproven = |node: &mut SeenNode<'_>, status: &mut SeenStatus<'_>| {
            (node.paused, status.state, status.uptime) = (true, "starting", Duration::ZERO);
        };
        assert!(with(unproven).is_empty(), "no beat was written yet");
        assert_eq!(rules(&with(|_, status| status.state = "starting")), ["node-starting"]);
        let starts = |_: &mut SeenNode<'_>, status: &mut SeenStatus<'_>| {
            (status.state, status.uptime) = ("starting", Duration::from_secs(29));
        };
        assert!(with(starts).is_empty(), "it may take its time");
        assert!(with(|_, status| status.clock_off_ms = Some(-1_999)).is_empty());
        let late = with(|_, status| status.clock_off_ms = Some(-2_500));
        assert_eq!(late[0].text, "the clock of n1 is 2 s behind that of the node that was asked");
        assert_eq!(rules(&with(|_, status| status.ingest_trouble = Some("refused"))), ["ingest-disconnected"]);
    }

    #[tokio::test(start_paused = true)]
    async fn frozen_flooded_and_stormy_actors_are_told_of() {
        let storm = |restarts, last_ms| StormFact { actor: "n1/a".into(), restarts, last_ms, reason: "it broke".into() };
        let stuck = |for_ms| StuckFact { actor: "n1/b".into(), for_ms };
        let deepest = |messages| Some(MailboxFact { actor: "n1/c".into(), messages });
        let bad = NodeFacts {
            stuck: vec![stuck(1_000)],
            deepest: deepest(1_000),
            storms: vec![storm(5, 8_000)],
            ..NodeFacts::default()
        };
        let told = found(node("n1", "n1#1", &bad));
        assert_eq!(rules(&told), ["actor-frozen", "mailbox-high", "restart-storm"]);
        assert_eq!(told[2].text, "n1/a was restarted 5 times within a minute: it broke");
        let good = NodeFacts {
            stuck: vec![stuck(999)],
            deepest: deepest(999),
            storms: vec![storm(4, 0), storm(9, 8_001)],
            ..NodeFacts::default()
        };
        assert!(found(node("n1", "n1#1", &good)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mailbox_that_grows_all_the_time_is_told_of_before_it_is_full() {
        let (mut past, mut tracker, begun) = (Past::default(), Tracker::default(), Instant::now());
        let mut first = None;
        for n in 0..20_u64 {
            let facts =
                NodeFacts { deepest: Some(MailboxFact { actor: "n1/a".into(), messages: 10 + n * 20 }), ..NodeFacts::default() };
            let scene = scene(vec![node("n1", "n1#1", &facts)]);
            past.note(&scene, &BTreeMap::new());
            let told = tracker.update(scene.now, std::time::SystemTime::UNIX_EPOCH, suspicions(&scene, &past));
            first = first.or_else(|| told.iter().any(|it| it.rule == "mailbox-rising").then(|| begun.elapsed().as_secs()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(first, Some(10));
    }
}
