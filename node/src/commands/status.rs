//! `speedtrap status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::client::{ScopeArgs, get};
use super::print;
use super::table::{number, span_ms, span_s, table, tinted};
use crate::api::{CacheCounts, ClusterStatusPage, IngestPage, LanePage, NodeStatus, StatusPage};
use crate::exit::{Exit, Stop};

/// Shows the lanes and counts of all nodes, or of one.
///
/// # Errors
/// When the node that is asked does not answer.
pub(crate) fn status(args: &ScopeArgs) -> Result<Exit, Stop> {
    let node = &args.node;
    let (json, shown, healthy) = if args.local {
        let (json, page) = get::<StatusPage>(&node.node, "/api/v1/status")?;
        (json, render_node(&page), is_healthy(&page))
    } else {
        let (json, page) = get::<ClusterStatusPage>(&node.node, "/api/v1/status?scope=cluster")?;
        (json, render(&page), page.healthy)
    };
    print(&if node.json { json + "\n" } else { shown });
    Ok(if healthy { Exit::Ok } else { Exit::Unhealthy })
}

fn is_healthy(page: &StatusPage) -> bool {
    page.state == "running" && page.lanes.iter().all(|lane| lane.state != "backoff")
}

fn verdict(healthy: bool) -> String {
    tinted(if healthy { "healthy" } else { "not healthy" }, healthy)
}

fn idle(idle: bool) -> &'static str {
    if idle { ", idle" } else { "" }
}

/// Writing to a String cannot fail, so the results are dropped here and below.
fn render_node(page: &StatusPage) -> String {
    let mut out = String::new();
    let (verdict, up) = (verdict(is_healthy(page)), span_s(page.uptime_s));
    let _infallible = writeln!(out, "node {}: {}, {verdict}, up {up}{}\n", page.node, page.state, idle(page.idle));
    add_lanes(&mut out, std::slice::from_ref(&page));
    add_counts(&mut out, page.events_in, &page.outcomes, page.possible_repeats);
    if let Some(ingest) = &page.ingest {
        add_ingest(&mut out, &page.node, ingest);
    }
    if let Some(cache) = &page.cache {
        add_cache(&mut out, &page.node, cache);
    }
    out
}

fn render(page: &ClusterStatusPage) -> String {
    let mut out = String::new();
    let n = page.nodes.len();
    let nodes = if n == 1 { "node" } else { "nodes" };
    let _infallible = writeln!(out, "{n} {nodes}: {}{}", verdict(page.healthy), idle(page.idle));
    for problem in &page.problems {
        let _infallible = writeln!(out, "  {problem}");
        let next = page.findings.iter().find(|finding| finding.text == *problem && !finding.next.is_empty());
        if let Some(finding) = next {
            let _infallible = writeln!(out, "    next: {}", finding.next);
        }
    }
    for note in &page.notes {
        let _infallible = writeln!(out, "  note: {}", note.text);
    }
    let mut nodes = table(&["NODE", "STATE", "UP", "LANES", "EVENTS IN"]);
    for node in &page.nodes {
        nodes.add_row(node_cells(node));
    }
    let _infallible = writeln!(out, "\n{}\n", nodes.trim_fmt());
    let statuses: Vec<&StatusPage> = page.nodes.iter().filter_map(|node| node.status.as_ref()).collect();
    add_lanes(&mut out, &statuses);
    add_counts(&mut out, page.events_in, &page.outcomes, page.possible_repeats);
    if !page.counts_are_whole {
        let _infallible = writeln!(out, "\ncounts of nodes that do not answer are old, or missing");
    }
    for status in statuses {
        if let Some(ingest) = &status.ingest {
            add_ingest(&mut out, &status.node, ingest);
        }
        if let Some(cache) = &status.cache {
            add_cache(&mut out, &status.node, cache);
        }
    }
    out
}

fn node_cells(node: &NodeStatus) -> [String; 5] {
    let status = node.status.as_ref();
    // What a silent node did when it answered last says nothing about now.
    let state = match (status, &node.silent) {
        (Some(status), None) => status.state.clone(),
        _ if node.presence == "linked" => "does not answer".to_owned(),
        _ => node.presence.clone(),
    };
    [
        node.name.clone(),
        state,
        status.map_or_else(|| "unknown".to_owned(), |status| span_s(status.uptime_s)),
        number(status.map(|status| status.lanes.iter().filter(|lane| is_live(lane)).count() as u64)),
        number(status.map(|status| status.events_in)),
    ]
}

fn is_live(lane: &LanePage) -> bool {
    !matches!(lane.state.as_str(), "closed" | "ended")
}

fn add_lanes(out: &mut String, nodes: &[&StatusPage]) {
    let mut lanes =
        table(&["NODE", "ROLE", "SHARD", "STATE", "IN", "IN LANE", "BEHIND", "CHECKPOINT AGE", "STARTS", "LAST FAULT"]);
    for node in nodes {
        for lane in &node.lanes {
            lanes.add_row(lane_cells(&node.node, lane));
        }
    }
    let _infallible = writeln!(out, "{}\n", lanes.trim_fmt());
}

fn lane_cells(node: &str, lane: &LanePage) -> [String; 10] {
    [
        node.to_owned(),
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

fn add_counts(out: &mut String, events_in: u64, outcomes: &BTreeMap<String, u64>, possible_repeats: u64) {
    let mut counts = table(&["OUTCOME", "EVENTS"]);
    counts.add_row(["(events in)".to_owned(), events_in.to_string()]);
    for (outcome, n) in outcomes.iter().filter(|(_, n)| **n > 0) {
        counts.add_row([outcome.clone(), n.to_string()]);
    }
    let _infallible = writeln!(out, "{}", counts.trim_fmt());
    if possible_repeats > 0 {
        let _infallible = writeln!(out, "\ntexts that may have been sent twice: {possible_repeats}");
    }
}

fn add_ingest(out: &mut String, node: &str, ingest: &IngestPage) {
    let state = match (ingest.leads, ingest.connected) {
        (false, _) => "stands by".to_owned(),
        (true, true) => "connected".to_owned(),
        (true, false) => format!("not connected: {}", ingest.trouble.as_deref().unwrap_or("not yet")),
    };
    let IngestPage { received, stored, dead_letters, acknowledged, open, .. } = ingest;
    let _infallible = writeln!(
        out,
        "\ningest of {node}: {state}; {received} received, {stored} stored, {dead_letters} dead letters, {acknowledged} acknowledged, \
         {open} open"
    );
}

fn add_cache(out: &mut String, node: &str, cache: &CacheCounts) {
    let CacheCounts { hits, misses, queries, entries } = cache;
    let _infallible =
        writeln!(out, "\ndriver cache of {node}: {hits} hits, {misses} misses, {queries} queries, {entries} entries");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kpis;
    use crate::findings::NodeFacts;

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
            version: "0.1.0".into(),
            state: state.into(),
            uptime_s: 61,
            lanes: vec![lane],
            events_in: 1_000,
            errors_in: 0,
            outcomes: [("published".to_owned(), 993), ("notified".to_owned(), 0)].into(),
            outcomes_by_role: [].into(),
            possible_repeats: 3,
            cache: None,
            warehouse: None,
            texts: Vec::new(),
            process: None,
            ingest: None,
            idle: false,
            facts: NodeFacts::default(),
        }
    }

    #[test]
    fn shows_lanes_and_counts_and_says_unknown() {
        let shown = render_node(&page("running", "running"));
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

    #[test]
    fn a_node_that_does_not_answer_is_shown_with_what_it_said_last() {
        let node = |name: &str, silent: Option<&str>, status: Option<StatusPage>| NodeStatus {
            name: name.into(),
            worker: format!("{name}#1"),
            presence: "linked".into(),
            silent: silent.map(str::to_owned),
            age_ms: status.as_ref().map(|_| 0),
            status,
        };
        let whole = page("running", "running");
        let nodes = vec![
            node("node-1", None, Some(page("running", "running"))),
            node("node-2", Some("no answer"), Some(whole)),
            node("node-3", Some("no answer"), None),
        ];
        let shown = render(&ClusterStatusPage {
            schema: 1,
            served_by: "node-1".into(),
            at: String::new(),
            healthy: false,
            problems: vec!["node-2 does not answer: no answer".into()],
            findings: Vec::new(),
            notes: Vec::new(),
            kpis: Kpis::default(),
            counts_are_whole: false,
            events_in: 2_000,
            errors_in: 0,
            outcomes: [].into(),
            outcomes_by_role: [].into(),
            possible_repeats: 0,
            idle: false,
            nodes,
        });
        assert!(shown.starts_with("3 nodes: not healthy\n  node-2 does not answer: no answer\n"), "{shown}");
        let line =
            |name: &str| shown.lines().skip(2).find(|line| line.trim_start().starts_with(name)).expect("a line").to_owned();
        assert!(line("node-2").contains("does not answer") && line("node-2").contains("1000"), "{shown}");
        assert_eq!(line("node-3").matches("unknown").count(), 3, "{shown}");
        assert!(shown.contains("are old, or missing"), "{shown}");
    }
}
