//! `speedtrap audit`.

use super::client::{NodeArgs, get};
use super::nodes::note_silent;
use super::print;
use super::table::table;
use crate::api::AuditPage;
use crate::exit::{Exit, Stop};

/// Shows what operators did, on all nodes.
///
/// # Errors
/// When the node that is asked does not answer.
pub(crate) fn audit(args: &NodeArgs) -> Result<Exit, Stop> {
    let (json, page) = get::<AuditPage>(&args.node, "/api/v1/audit")?;
    note_silent(&page.silent);
    if args.json {
        print(&(json + "\n"));
        return Ok(Exit::Ok);
    }
    let mut rows = table(&["AT", "NODE", "PHASE", "WHO", "FROM", "ACTION", "TARGET", "REASON", "OUTCOME"]);
    for line in &page.lines {
        // Lists of letters stand in full in --json and in the file.
        let target: String = line.target.chars().take(48).collect();
        rows.add_row([
            &line.at,
            &line.node,
            &line.phase,
            &line.who,
            &line.from,
            &line.action,
            &target,
            &line.reason,
            &line.outcome,
        ]);
    }
    print(&format!("{}\n", rows.trim_fmt()));
    Ok(Exit::Ok)
}
