//! `speedtrap shards`.

use clap::{Args, Subcommand};

use super::act::{ActArgs, act};
use super::client::{NodeArgs, get};
use super::nodes::note_silent;
use super::print;
use super::table::{number, span_ms, table};
use super::watch::Watched;
use crate::api::{Options, ShardPage, ShardsPage, Target};
use crate::exit::{Exit, Stop};

/// Arguments of `shards`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ShardsArgs {
    #[command(subcommand)]
    command: Option<ShardsCommand>,
    #[command(flatten)]
    node: Watched<NodeArgs>,
}

#[derive(Debug, Subcommand)]
enum ShardsCommand {
    /// Hands a shard to another node, which goes on from its checkpoint; nothing is processed twice.
    Handoff(HandoffArgs),
    /// Has the nodes even out at once who holds how many shards.
    Rebalance(RebalanceArgs),
}

#[derive(Debug, Args)]
struct HandoffArgs {
    /// The shard, such as `enrich/shardId-000000000000`.
    #[arg(value_name = "ROLE/SHARD")]
    shard: String,
    /// The node that is to have it; else the one with the fewest.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    #[command(flatten)]
    act: ActArgs,
}

#[derive(Debug, Args)]
struct RebalanceArgs {
    /// Only the shards of this role; else all.
    #[arg(value_name = "ROLE", default_value = "all")]
    role: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Shows all shards, or moves some.
///
/// # Errors
/// When the node that is asked does not answer, or it is not done.
pub(crate) fn shards(args: ShardsArgs) -> Result<Exit, Stop> {
    match &args.command {
        None => args.node.run(list),
        Some(ShardsCommand::Handoff(of)) => {
            let options = Options { to: of.to.clone(), ..Options::default() };
            act(&of.act, "handoff-shard", Target::Name(of.shard.clone()), options)
        }
        Some(ShardsCommand::Rebalance(of)) => act(&of.act, "rebalance", Target::Name(of.role.clone()), Options::default()),
    }
}

fn list(args: &NodeArgs) -> Result<Exit, Stop> {
    let (json, page) = get::<ShardsPage>(&args.node, "/api/v1/shards")?;
    note_silent(&page.silent);
    print(&if args.json { json + "\n" } else { render(&page) });
    Ok(Exit::Ok)
}

fn render(page: &ShardsPage) -> String {
    let mut rows = table(&[
        "ROLE",
        "SHARD",
        "NODE",
        "LEASE",
        "LEFT",
        "LANE",
        "BEHIND",
        "LAST RECORD",
        "RECORDS/S",
        "CHECKPOINT AGE",
        "IN LANE",
        "RESTARTS",
        "THROTTLES",
        "WHY",
    ]);
    for shard in &page.shards {
        rows.add_row(cells(shard));
    }
    format!("{}\n", rows.trim_fmt())
}

fn cells(shard: &ShardPage) -> [String; 14] {
    let nothing = || "-".to_owned();
    // A lane that nobody needs is not unknown.
    let lane = |known: Option<String>| known.unwrap_or_else(|| if shard.state == "held" { "unknown".into() } else { nothing() });
    let row = shard.lane.as_ref();
    [
        shard.role.clone(),
        shard.shard.clone(),
        shard.node.clone().or_else(|| shard.worker.clone()).unwrap_or_else(nothing),
        shard.state.clone(),
        lane(row.map(|_| span_ms(shard.lease_left_ms))),
        lane(row.map(|row| row.state.clone())),
        lane(row.map(|row| span_ms(row.lag_ms))),
        lane(row.map(|row| span_ms(row.iterator_age_ms))),
        lane(row.map(|row| row.records_per_s.map_or_else(|| "unknown".to_owned(), |rate| format!("{rate:.1}")))),
        lane(row.map(|row| span_ms(row.checkpoint_age_ms))),
        lane(row.map(|row| number(Some(row.in_lane)))),
        lane(row.map(|row| number(Some(row.restarts)))),
        lane(row.map(|row| number(row.throttles))),
        shard.why.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_who_holds_a_shard_and_why_it_does_not_move() {
        let shard = |state: &str, why: Option<&str>| ShardPage {
            application: "IotFastCarSensor".into(),
            role: "enrich".into(),
            shard: "shardId-000000000000".into(),
            node: None,
            worker: None,
            state: state.into(),
            counter: 7,
            checkpoint: "TRIM_HORIZON".into(),
            lease_left_ms: None,
            parents: Vec::new(),
            children: Vec::new(),
            hash_range: None,
            unowned_ms: None,
            lane: None,
            why: why.map(str::to_owned),
        };
        let shards = vec![shard("held", None), shard("free", Some("nobody took it yet"))];
        let page = ShardsPage { schema: 1, served_by: "node-1".into(), at: String::new(), shards, silent: Vec::new() };
        let shown = render(&page);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].matches("unknown").count(), 9, "{shown}");
        assert!(!lines[2].contains("unknown") && lines[2].ends_with("nobody took it yet"), "{shown}");
    }
}
