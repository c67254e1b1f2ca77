//! `speedtrap actors`.

use std::fmt::Write as _;

use super::client::{ScopeArgs, get};
use super::nodes::note_silent;
use super::print;
use super::table::{number, span_ms, table};
use crate::api::{ActorPage, ActorsPage, ClusterActorsPage, RestartPage};
use crate::exit::{Exit, Stop};

/// Restarts shown below the table; `--json` has all that the node keeps.
const RESTARTS_SHOWN: usize = 10;

/// Shows the actors of all nodes, or of one.
///
/// # Errors
/// When the node that is asked does not answer.
pub(crate) fn actors(args: &ScopeArgs) -> Result<Exit, Stop> {
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
            last: Some(LastRestart { at: "2026-01-01T00:00:00Z".into(), reason: "panicked".into() }),
            up_s: 60,
        };
        let restart = |at: &str| RestartPage { at: at.into(), actor: "node/lane".into(), reason: "panicked".into(), attempt: 1 };
        let rows = [row("node", None), row("node/lane", Some("node"))];
        let shown = render(&rows, &[restart("2026-01-01T00:00:00Z"), restart("2026-01-02T00:00:00Z")]);
        assert!(shown.starts_with("2 actors, 6 messages waiting, 2 restarts\n"), "{shown}");
        assert!(shown.contains("  lane ") && shown.contains("running, waiting") && shown.contains("1.5 s"), "{shown}");
        assert!(shown.find("2026-01-02") < shown.find("2026-01-01"), "{shown}");
    }
}
