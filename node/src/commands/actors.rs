//! `speedtrap actors`.

use std::fmt::Write as _;

use super::client::{NodeArgs, get};
use super::print;
use super::table::{number, span_ms, table};
use crate::api::{ActorPage, ActorsPage};
use crate::exit::{Exit, Stop};

/// Restarts shown below the table; `--json` has all that the node keeps.
const RESTARTS_SHOWN: usize = 10;

/// Shows a node's actors.
///
/// # Errors
/// When the node does not answer.
pub(crate) fn actors(args: &NodeArgs) -> Result<Exit, Stop> {
    let (json, page) = get::<ActorsPage>(&args.node, "/api/v1/actors")?;
    print(&if args.json { json + "\n" } else { render(&page) });
    Ok(Exit::Ok)
}

fn render(page: &ActorsPage) -> String {
    let mut out = String::new();
    let restarts: u64 = page.rows.iter().map(|row| row.restarts).sum();
    let queued: u64 = page.rows.iter().map(|row| row.mailbox).sum();
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "{} actors, {queued} messages waiting, {restarts} restarts\n", page.total);
    let mut rows = table(&["ACTOR", "ID", "KIND", "STATE", "MAILBOX", "RECEIVED", "DONE", "BUSY", "WAITING", "RESTARTS"]);
    for row in &page.rows {
        rows.add_row(cells(row));
    }
    let _infallible = writeln!(out, "{}", rows.trim_fmt());
    if !page.restarts.is_empty() {
        let mut last = table(&["RESTARTED AT", "ACTOR", "REASON"]);
        for restart in page.restarts.iter().rev().take(RESTARTS_SHOWN) {
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
    use crate::api::{LastRestart, RestartPage};

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
            restarts: 1,
            last: Some(LastRestart { at: "2026-01-01T00:00:00Z".into(), reason: "panicked".into() }),
            up_s: 60,
        };
        let restart = |at: &str| RestartPage { at: at.into(), actor: "node/lane".into(), reason: "panicked".into(), attempt: 1 };
        let page = ActorsPage {
            schema: 1,
            total: 2,
            rows: vec![row("node", None), row("node/lane", Some("node"))],
            restarts: vec![restart("2026-01-01T00:00:00Z"), restart("2026-01-02T00:00:00Z")],
        };
        let shown = render(&page);
        assert!(shown.starts_with("2 actors, 6 messages waiting, 2 restarts\n"), "{shown}");
        assert!(shown.contains("  lane ") && shown.contains("running, waiting") && shown.contains("1.5 s"), "{shown}");
        assert!(shown.find("2026-01-02") < shown.find("2026-01-01"), "{shown}");
    }
}
