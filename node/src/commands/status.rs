//! `speedtrap status`.

use std::fmt::Write as _;

use super::client::{NodeArgs, get};
use super::print;
use super::table::{number, span_ms, span_s, table, tinted};
use crate::api::{LanePage, StatusPage};
use crate::exit::{Exit, Stop};

/// Shows a node's lanes and counts.
///
/// # Errors
/// When the node does not answer.
pub(crate) fn status(args: &NodeArgs) -> Result<Exit, Stop> {
    let (json, page) = get::<StatusPage>(&args.node, "/api/v1/status")?;
    print(&if args.json { json + "\n" } else { render(&page) });
    Ok(if is_healthy(&page) { Exit::Ok } else { Exit::Unhealthy })
}

fn is_healthy(page: &StatusPage) -> bool {
    page.state == "running" && page.lanes.iter().all(|lane| lane.state != "backoff")
}

fn render(page: &StatusPage) -> String {
    let mut out = String::new();
    let healthy = is_healthy(page);
    let verdict = tinted(if healthy { "healthy" } else { "not healthy" }, healthy);
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        out,
        "node {}: {}, {verdict}, up {}{}\n",
        page.node,
        page.state,
        span_s(page.uptime_s),
        if page.idle { ", idle" } else { "" }
    );
    let mut lanes = table(&["ROLE", "SHARD", "STATE", "IN", "IN LANE", "BEHIND", "CHECKPOINT AGE", "STARTS", "LAST FAULT"]);
    for lane in &page.lanes {
        lanes.add_row(lane_cells(lane));
    }
    let _infallible = writeln!(out, "{}\n", lanes.trim_fmt());
    let mut counts = table(&["OUTCOME", "EVENTS"]);
    counts.add_row(["(events in)".to_owned(), page.events_in.to_string()]);
    for (outcome, n) in page.outcomes.iter().filter(|(_, n)| **n > 0) {
        counts.add_row([outcome.clone(), n.to_string()]);
    }
    let _infallible = writeln!(out, "{}", counts.trim_fmt());
    if page.possible_repeats > 0 {
        let _infallible = writeln!(out, "\ntexts that may have been sent twice: {}", page.possible_repeats);
    }
    if let Some(cache) = &page.cache {
        let _infallible = writeln!(
            out,
            "\ndriver cache: {} hits, {} misses, {} queries, {} entries",
            cache.hits, cache.misses, cache.queries, cache.entries
        );
    }
    out
}

fn lane_cells(lane: &LanePage) -> [String; 9] {
    [
        lane.role.clone(),
        lane.shard.clone(),
        lane.state.clone(),
        lane.records_in.to_string(),
        number(Some(lane.in_lane)),
        span_ms(lane.millis_behind),
        span_ms(lane.checkpoint_age_ms),
        lane.generation.to_string(),
        lane.last_fault.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(state: &str, lane_state: &str) -> StatusPage {
        let lane = LanePage {
            application: "IotFastCarSensor".into(),
            role: "enrich".into(),
            shard: "shardId-000000000000".into(),
            state: lane_state.into(),
            generation: 2,
            records_in: 1_000,
            in_lane: 7,
            checkpoint: None,
            checkpoint_age_ms: None,
            millis_behind: None,
            last_fault: Some("the warehouse is gone".into()),
        };
        StatusPage {
            schema: 1,
            node: "node-1".into(),
            state: state.into(),
            uptime_s: 61,
            lanes: vec![lane],
            events_in: 1_000,
            errors_in: 0,
            outcomes: [("published".to_owned(), 993), ("notified".to_owned(), 0)].into(),
            outcomes_by_role: [].into(),
            possible_repeats: 3,
            cache: None,
            idle: false,
        }
    }

    #[test]
    fn shows_lanes_and_counts_and_says_unknown() {
        let shown = render(&page("running", "running"));
        assert!(shown.starts_with("node node-1: running, healthy, up 61 s\n"), "{shown}");
        for part in ["shardId-000000000000", "unknown", "the warehouse is gone", "published", "993", "sent twice: 3"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        assert!(!shown.contains("notified"), "{shown}");
    }

    #[test]
    fn a_starting_node_and_a_lane_in_backoff_are_not_healthy() {
        assert!(is_healthy(&page("running", "running")));
        assert!(!is_healthy(&page("starting", "running")));
        assert!(!is_healthy(&page("running", "backoff")));
    }
}
