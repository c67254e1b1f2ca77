//! `speedtrap pipeline`: the way of an event, stage by stage, over all nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::client::{NodeArgs, get};
use super::nodes::note_silent;
use super::print;
use super::table::table;
use crate::api::{ActorPage, ClusterActorsPage, ClusterStatusPage};
use crate::exit::{Exit, Stop};

/// The stages in the order of the way of an event.
const STAGES: [(&str, &[&str]); 4] = [
    (
        "enrich",
        &["ShardReader", "RawPersister", "SpeedFilter", "DriverLookup", "ViolationPersister", "ViolationPublisher", "LaneEnd"],
    ),
    ("notify", &["ShardReader", "OwnerNotifier", "LaneEnd"]),
    ("archive", &["ShardReader", "ArchiveWriter", "LaneEnd"]),
    ("errors", &["ShardReader", "RuleErrorReader", "LaneEnd"]),
];
/// A stage that waits for more of its time than this is held up by what is behind it.
const HELD_UP: f64 = 0.5;
/// Below this nobody needs to look.
const LOW: f64 = 0.1;

/// Arguments of `pipeline`.
#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Seconds over which rates are measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    over: u64,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Pipeline {
    schema: u32,
    over_s: f64,
    roles: Vec<Role>,
}

#[derive(Debug, Serialize)]
struct Role {
    role: &'static str,
    /// Events let in and not yet ended.
    in_lanes: u64,
    outcomes: BTreeMap<String, u64>,
    stages: Vec<Stage>,
}

/// All actors of one stage. Shares of time are those of the one with the highest.
#[derive(Debug, PartialEq, Serialize)]
struct Stage {
    stage: &'static str,
    actors: usize,
    mailbox: u64,
    messages_per_s: Option<f64>,
    busy: Option<f64>,
    waiting: Option<f64>,
    /// `ok`, `low` or `high`: how much the stage is held up by what is behind it; null while that is not known.
    backpressure: Option<&'static str>,
}

/// Shows how each stage spends its time.
///
/// # Errors
/// When the node that is asked does not answer.
pub(crate) fn pipeline(args: &PipelineArgs) -> Result<Exit, Stop> {
    let ask = || get::<ClusterActorsPage>(&args.node.node, "/api/v1/actors?scope=cluster").map(|(_, page)| page);
    let (before, begun) = (ask()?, std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(args.over));
    let (after, over) = (ask()?, begun.elapsed().as_secs_f64());
    let (_, status) = get::<ClusterStatusPage>(&args.node.node, "/api/v1/status?scope=cluster")?;
    note_silent(&after.silent);
    let earlier: BTreeMap<&str, &ActorPage> = before.rows.iter().map(|row| (row.name.as_str(), row)).collect();
    let lanes = |role: &str| {
        let statuses = status.nodes.iter().filter_map(|node| node.status.as_ref());
        statuses.flat_map(|page| &page.lanes).filter(|lane| lane.role == role).map(|lane| lane.in_lane).sum()
    };
    let roles = STAGES.iter().filter_map(|(role, stages)| {
        let outcomes = status.outcomes_by_role.get(*role)?.clone();
        let stages = stages.iter().filter_map(|stage| Stage::of(role, stage, &earlier, &after.rows, over)).collect();
        Some(Role { role, in_lanes: lanes(role), outcomes, stages })
    });
    let pipeline = Pipeline { schema: 1, over_s: over, roles: roles.collect() };
    print(&if args.node.json { serde_json::json!(pipeline).to_string() + "\n" } else { render(&pipeline) });
    Ok(Exit::Ok)
}

impl Stage {
    fn of(role: &str, stage: &'static str, before: &BTreeMap<&str, &ActorPage>, now: &[ActorPage], over: f64) -> Option<Self> {
        let mut all = Self { stage, actors: 0, mailbox: 0, messages_per_s: None, busy: None, waiting: None, backpressure: None };
        for row in now.iter().filter(|row| row.kind == stage && row.name.split('/').nth(1) == Some(role)) {
            all.actors += 1;
            all.mailbox += row.mailbox;
            // A new incarnation counts from 0 again, so nothing is known of it yet.
            let Some(old) = before.get(row.name.as_str()).filter(|old| old.id == row.id && row.id.is_some()) else { continue };
            let share = |now: u64, then: u64| (now.saturating_sub(then) as f64 / 1_000.0 / over).min(1.0);
            let most = |known: Option<f64>, new: f64| Some(known.unwrap_or_default().max(new));
            all.messages_per_s = Some(all.messages_per_s.unwrap_or_default() + row.done.saturating_sub(old.done) as f64 / over);
            all.busy = most(all.busy, share(row.busy_ms, old.busy_ms));
            all.waiting = most(all.waiting, share(row.waiting_ms, old.waiting_ms));
        }
        all.backpressure = all.waiting.map(|waiting| match waiting {
            _ if waiting > HELD_UP => "high",
            _ if waiting > LOW => "low",
            _ => "ok",
        });
        (all.actors > 0).then_some(all)
    }
}

fn render(pipeline: &Pipeline) -> String {
    let mut rows = table(&["ROLE", "STAGE", "ACTORS", "MAILBOX", "MESSAGES/S", "BUSY", "WAITING", "BACKPRESSURE"]);
    let percent = |share: Option<f64>| share.map_or_else(|| "unknown".to_owned(), |share| format!("{:.1} %", share * 100.0));
    for role in &pipeline.roles {
        for stage in &role.stages {
            rows.add_row([
                role.role.to_owned(),
                stage.stage.to_owned(),
                stage.actors.to_string(),
                stage.mailbox.to_string(),
                stage.messages_per_s.map_or_else(|| "unknown".to_owned(), |rate| format!("{rate:.1}")),
                percent(stage.busy),
                percent(stage.waiting),
                stage.backpressure.unwrap_or("unknown").to_owned(),
            ]);
        }
    }
    let mut ends = table(&["ROLE", "OUTCOME", "EVENTS"]);
    for role in &pipeline.roles {
        ends.add_row([role.role, "(in lanes)", &role.in_lanes.to_string()]);
        for (outcome, n) in role.outcomes.iter().filter(|(_, n)| **n > 0) {
            ends.add_row([role.role, outcome, &n.to_string()]);
        }
    }
    format!("over the last {:.1} s\n\n{}\n\n{}\n", pipeline.over_s, rows.trim_fmt(), ends.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, id: u64, done: u64, waiting_ms: u64) -> ActorPage {
        ActorPage {
            id: Some(id),
            node: "n".into(),
            parent: None,
            name: name.into(),
            kind: "SpeedFilter".into(),
            state: "running".into(),
            mailbox: 2,
            received: done,
            done,
            busy_ms: 0,
            waiting_ms,
            waiting: false,
            p95_us: None,
            mailbox_p95_us: None,
            restarts: 0,
            last: None,
            up_s: 1,
        }
    }

    #[test]
    fn a_stage_is_all_its_actors_and_waits_as_long_as_the_one_that_waits_longest() {
        let before = [row("n/enrich/s1/speed_filter", 1, 10, 0), row("m/enrich/s2/speed_filter", 2, 0, 0)];
        let now = [
            row("n/enrich/s1/speed_filter", 1, 30, 1_500),
            row("m/enrich/s2/speed_filter", 2, 10, 100),
            row("n/notify/s1/speed_filter", 3, 999, 0),
        ];
        let earlier = before.iter().map(|row| (row.name.as_str(), row)).collect();
        let stage = Stage::of("enrich", "SpeedFilter", &earlier, &now, 2.0).expect("a stage");
        assert_eq!((stage.actors, stage.mailbox, stage.messages_per_s), (2, 4, Some(15.0)));
        assert_eq!((stage.waiting, stage.backpressure), (Some(0.75), Some("high")));
    }

    #[test]
    fn of_a_new_incarnation_nothing_is_known() {
        let before = [row("n/enrich/s1/speed_filter", 1, 500, 0)];
        let now = [row("n/enrich/s1/speed_filter", 9, 3, 0)];
        let earlier = before.iter().map(|row| (row.name.as_str(), row)).collect();
        let stage = Stage::of("enrich", "SpeedFilter", &earlier, &now, 2.0).expect("a stage");
        assert_eq!((stage.messages_per_s, stage.busy, stage.backpressure), (None, None, None));
        assert_eq!(Stage::of("notify", "SpeedFilter", &earlier, &now, 2.0), None);
    }
}
