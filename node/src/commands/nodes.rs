//! `speedtrap nodes`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use super::act::{ActArgs, act};
use super::client::{NodeArgs, get};
use super::print;
use super::table::{number, span_ms, table};
use super::watch::Watched;
use crate::api::{NodePage, NodesPage, Options, SilentNode, Target};
use crate::exit::{Exit, Stop};

/// Arguments of `nodes`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    command: Option<NodesCommand>,
    #[command(flatten)]
    node: Watched<NodeArgs>,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// Has a node give its leases away and end, or stay without any; `speedtrap drain` waits until it is gone.
    Drain(DrainArgs),
    /// Lets a node that was drained and stayed take part again.
    Resume(ResumeArgs),
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// Name of the node.
    #[arg(value_name = "NODE")]
    name: String,
    /// It keeps running, shown as draining, and takes no lease until it is resumed.
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    act: ActArgs,
}

#[derive(Debug, Args)]
struct ResumeArgs {
    /// Name of the node.
    #[arg(value_name = "NODE")]
    name: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Shows all nodes, drains one or lets it take part again.
///
/// # Errors
/// When the node that is asked does not answer, or it is not done.
pub(crate) fn nodes(args: NodesArgs) -> Result<Exit, Stop> {
    match &args.command {
        None => args.node.run(list),
        Some(NodesCommand::Drain(of)) => {
            let options = Options { stay: of.stay, ..Options::default() };
            act(&of.act, "drain-node", Target::Name(of.name.clone()), options)
        }
        Some(NodesCommand::Resume(of)) => act(&of.act, "resume-node", Target::Name(of.name.clone()), Options::default()),
    }
}

fn list(args: &NodeArgs) -> Result<Exit, Stop> {
    let (json, page) = get::<NodesPage>(&args.node, "/api/v1/nodes")?;
    print(&if args.json { json + "\n" } else { render(&page) });
    Ok(if all_there(&page.nodes) { Exit::Ok } else { Exit::Unhealthy })
}

/// A node that left on purpose is missed by nobody, nor is a boot that a later one of its name has replaced.
fn all_there(nodes: &[NodePage]) -> bool {
    let there = |node: &NodePage| matches!(node.presence.as_str(), "here" | "linked");
    let replaced = |node: &NodePage| nodes.iter().any(|other| other.name == node.name && there(other));
    nodes.iter().all(|node| there(node) || node.presence == "left" || replaced(node))
}

/// Says on standard error whose part is old or missing in what follows.
pub(super) fn note_silent(silent: &[SilentNode]) {
    for node in silent {
        let last = match node.last_heard_ms {
            Some(ms) => format!("what it said {} ago is shown", span_ms(Some(ms))),
            None => "what it runs is not known".to_owned(),
        };
        eprintln!("note: {} does not answer ({}); {last}", node.node, node.why);
    }
}

fn render(page: &NodesPage) -> String {
    let roles: BTreeSet<&String> = page.nodes.iter().flat_map(|node| &node.roles).collect();
    let titles: Vec<String> = roles.iter().map(|role| role.to_uppercase()).collect();
    let mut header = vec!["NODE", "STATE", "LEASES"];
    header.extend(titles.iter().map(String::as_str));
    header.extend(["ROUND TRIP", "MISSES", "API"]);
    let mut rows = table(&header);
    for node in &page.nodes {
        let draining = if node.draining && node.presence != "left" { ", draining" } else { "" };
        let mut cells = vec![node.name.clone(), format!("{}{draining}", node.presence), number(node.n_leases())];
        let of_role = |role: &&String| node.leases.get(*role).map_or_else(|| "-".to_owned(), |leases| number(*leases));
        cells.extend(roles.iter().map(of_role));
        let trip = match node.presence.as_str() {
            "here" => "-".to_owned(),
            _ => node.round_trip_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms:.1} ms")),
        };
        cells.extend([trip, node.misses.to_string(), node.dashboard.clone().unwrap_or_else(|| "-".to_owned())]);
        rows.add_row(cells);
    }
    format!("{}\n", rows.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_leases_by_role_and_what_is_unknown() {
        let node = |name: &str, presence: &str, leases: Option<u64>| NodePage {
            name: name.into(),
            worker: format!("{name}#1"),
            address: None,
            dashboard: None,
            roles: vec!["enrich".into()],
            draining: name == "node-2",
            presence: presence.into(),
            round_trip_ms: None,
            misses: 0,
            leases: [("enrich".to_owned(), leases)].into(),
        };
        let nodes = vec![node("node-1", "here", Some(2)), node("node-2", "linked", None)];
        let page = NodesPage { schema: 1, served_by: "node-1".into(), at: String::new(), nodes };
        let shown = render(&page);
        assert!(!render(&NodesPage { nodes: vec![node("node-2", "left", None)], ..page }).contains("draining"));
        assert!(shown.contains("ENRICH") && shown.contains("linked, draining"), "{shown}");
        assert_eq!(shown.lines().nth(2).map(|line| line.matches("unknown").count()), Some(3), "{shown}");
        let there = ["here", "linked", "left"].map(|presence| (presence, true));
        for (presence, there) in there.into_iter().chain(["unlinked", "suspect", "dead"].map(|presence| (presence, false))) {
            assert_eq!(all_there(&[node("a", "here", None), node("b", presence, None)]), there, "{presence}");
        }
        assert!(all_there(&[node("a", "here", None), node("b", "dead", None), node("b", "linked", None)]));
    }
}
