//! `speedtrap actors`.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::act::{ActArgs, act};
use super::client::{ScopeArgs, get};
use super::nodes::note_silent;
use super::print;
use super::table::{number, span_ms, table};
use super::watch::Watched;
use crate::api::{ActorPage, ActorsPage, ClusterActorsPage, Options, RestartPage, Target};
use crate::exit::{Exit, Stop};

/// Restarts shown below the table; `--json` has all that the node keeps.
const RESTARTS_SHOWN: usize = 10;

/// Arguments of `actors`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ActorsArgs {
    #[command(subcommand)]
    command: Option<ActorsCommand>,
    #[command(flatten)]
    scope: Watched<ScopeArgs>,
}

#[derive(Debug, Subcommand)]
enum ActorsCommand {
    /// Ends an actor after the message in hand; its supervisor starts it again. A lane starts again with it.
    Restart(ActorArgs),
    /// Has a lane finish what it has begun, and start again; any other actor works off its mailbox first.
    Drain(ActorArgs),
    /// Ends an actor at once, in the middle of what it does; its supervisor starts it again. A lane starts again with it.
    Kill(ActorArgs),
}

#[derive(Debug, Args)]
struct ActorArgs {
    /// Its name, as `speedtrap actors --json` has it, such as `node-1/enrich/shardId-000000000000/speed_filter`.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Shows actors, or ends one so that it starts again.
///
/// # Errors
/// When the node that is asked does not answer, or it is not done.
pub(crate) fn actors(args: ActorsArgs) -> Result<Exit, Stop> {
    let (kind, of) = match &args.command {
        None => return args.scope.run(list),
        Some(ActorsCommand::Restart(of)) => ("restart-actor", of),
        Some(ActorsCommand::Drain(of)) => ("drain-actor", of),
        Some(ActorsCommand::Kill(of)) => ("kill-actor", of),
    };
    act(&of.act, kind, Target::Name(of.name.clone()), Options::default())
}

/// Shows the actors of all nodes, or of one.
fn list(args: &ScopeArgs) -> Result<Exit, Stop> {
    let node = &args.node;
    let (json, rows, restarts) = if args.local {
        let (json, page) = get::<ActorsPage>(&node.node, "/api/v1/actors")?;
        (json, page.rows, page.restarts)
    } else {
        let (json, page) = get::<ClusterActorsPage>(&node.node, "/api/v1/actors?scope=cluster")?;
        note_silent(&page.silent);
        (json, page.rows, page.restarts)
    };
    print(&if node.json { json + "\n" } else { render(&rows, &restarts) });
    Ok(Exit::Ok)
}

fn render(actors: &[ActorPage], log: &[RestartPage]) -> String {
    let mut out = String::new();
    let restarts: u64 = actors.iter().map(|row| row.restarts).sum();
    let queued: u64 = actors.iter().map(|row| row.mailbox).sum();
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "{} actors, {queued} messages waiting, {restarts} restarts\n", actors.len());
    let mut rows = table(&["ACTOR", "ID", "KIND", "STATE", "MAILBOX", "RECEIVED", "DONE", "BUSY", "WAITING", "RESTARTS"]);
    for row in actors {
        rows.add_row(cells(row));
    }
    let _infallible = writeln!(out, "{}", rows.trim_fmt());
    if !log.is_empty() {
        let mut last = table(&["RESTARTED AT", "ACTOR", "REASON"]);
        for restart in log.iter().rev().take(RESTARTS_SHOWN) {
            last.add_row([&restart.at, &restart.actor, &restart.reason]);
        }
        let _infallible = writeln!(out, "\n{}", last.trim_fmt());
    }
    out
}

fn cells(row: &ActorPage) -> [String; 10] {
    // The tree is shown by indentation; the path's last part is the actor's own name.
    let depth = row.name.matches('/').count();
    let own = row.name.rsplit('/').next().unwrap_or(&row.name);
    [
        format!("{}{own}", "  ".repeat(depth)),
        row.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        row.kind.clone(),
        if row.waiting { format!("{}, waiting", row.state) } else { row.state.clone() },
        number(Some(row.mailbox)),
        row.received.to_string(),
        row.done.to_string(),
        span_ms(Some(row.busy_ms)),
        span_ms(Some(row.waiting_ms)),
        row.restarts.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LastRestart;

    #[test]
    fn shows_the_tree_and_the_latest_restarts_first() {
        let row = |name: &str, parent: Option<&str>| ActorPage {
            id: Some(7),
            node: "node-1".into(),
            parent: parent.map(str::to_owned),
            name: name.into(),
            kind: "SpeedFilter".into(),
            state: "running".into(),
            mailbox: 3,
            received: 10,
            done: 7,
            busy_ms: 1_500,
            waiting_ms: 0,
            waiting: true,
            p95_us: None,
            mailbox_p95_us: None,
            restarts: 1,
            last: Some(LastRestart { at: "2026-01-01T00:00:00Z".into(), reason: "panicked".into(), by: None, delay_ms: None }),
            up_s: 60,
        };
        let restart = |at: &str| RestartPage {
            at: at.into(),
            actor: "node/lane".into(),
            reason: "panicked".into(),
            by: None,
            attempt: 1,
            delay_ms: None,
        };
        let rows = [row("node", None), row("node/lane", Some("node"))];
        let shown = render(&rows, &[restart("2026-01-01T00:00:00Z"), restart("2026-01-02T00:00:00Z")]);
        assert!(shown.starts_with("2 actors, 6 messages waiting, 2 restarts\n"), "{shown}");
        assert!(shown.contains("  lane ") && shown.contains("running, waiting") && shown.contains("1.5 s"), "{shown}");
        assert!(shown.find("2026-01-02") < shown.find("2026-01-01"), "{shown}");
    }
}
