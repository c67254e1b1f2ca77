//! `speedtrap forget`.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use sha2::{Digest as _, Sha256};
use speedtrap_actors::domain::{LicensePlate, PlateKey};

use super::client::{NodeAccess, post_json};
use super::config::load_for_node;
use super::print;
use crate::api::masked_plate;
use crate::audit::{Asked, Audit};
use crate::config::{self, Flags, NodeConfig};
use crate::exit::{Exit, Stop};
use crate::forget::{Deleted, Forgotten, Traces};
use crate::wiring::Clients;

/// Arguments of `forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The plate, in any case.
    #[arg(value_name = "PLATE", value_parser = plate)]
    plate: PlateKey,
    /// Why; the audit log keeps it.
    #[arg(long, value_name = "WORDS")]
    reason: String,
    /// Does not ask; needed where standard input is no terminal.
    #[arg(long)]
    yes: bool,
    /// Only tells what would be deleted, and what remains.
    #[arg(long)]
    dry_run: bool,
    /// The nodes' TOML file: it names tables, streams and warehouse.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    node: NodeAccess,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

/// Deletes what is kept of one driver.
///
/// # Errors
/// When something cannot be read or deleted, or nobody confirms.
pub(crate) fn forget(args: &ForgetArgs) -> Result<Exit, Stop> {
    let config = load_for_node(args.config.as_deref(), Flags::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
    runtime.block_on(async {
        tokio::select! {
            done = work(args, &config, args.plate.clone()) => done,
            _interrupted = tokio::signal::ctrl_c() => {
                eprintln!("speedtrap: interrupted; the same command again deletes the rest");
                Ok(Exit::Interrupted)
            }
        }
    })
}

async fn work(args: &ForgetArgs, config: &NodeConfig, plate: PlateKey) -> Result<Exit, Stop> {
    let clients = Clients::from_environment().await?;
    let shown = masked_plate(plate.as_str());
    say(&format!("reading tables for {shown}"));
    let traces = Traces::find(config, &clients, plate.clone()).await?;
    if args.dry_run || traces.is_empty() {
        let kept = traces.perhaps();
        return end(
            args,
            &traces,
            Forgotten { schema: 1, plate: shown, dry_run: args.dry_run, deleted: traces.counts(), kept, remains: Vec::new() },
        )
        .await;
    }
    confirm(args, &traces.counts(), &plate)?;
    // The log must say whom a request was about without naming them: whoever has the plate can compute this.
    let target = format!("plate {shown} sha256:{}", fingerprint(&plate));
    let path = config.audit_file();
    let audit = Audit::open(&config.node.name, &path).map_err(|error| unlogged(&path, &error))?;
    let who = config::user();
    let asked =
        Asked { who: &who, role: "admin", from: "command", action: "forget", target: &target, reason: &args.reason, key: None };
    let intent = audit.intend(&asked).map_err(|error| unlogged(&path, &error))?;
    say("deleting");
    let (deleted, mut kept) = match traces.delete().await {
        Ok(done) => done,
        Err(stop) => {
            audit.conclude(intent, Err(stop.what.clone()));
            return Err(stop);
        }
    };
    if let Err(stop) = empty_caches(&args.node) {
        kept.push(format!(
            "driver caches of the nodes: {}; they forget by themselves after lookup.known_for; name a node with --node",
            stop.what
        ));
    }
    let told = format!("{} violations, {} alerts, {} letters deleted", deleted.violations, deleted.alerts, deleted.dead_letters);
    audit.conclude(intent, if kept.is_empty() { Ok(told) } else { Err(format!("{told}; kept: {}", kept.len())) });
    end(args, &traces, Forgotten { schema: 1, plate: shown, dry_run: false, deleted, kept, remains: Vec::new() }).await
}

/// Adds what remains, and shows all of it.
async fn end(args: &ForgetArgs, traces: &Traces<'_>, mut done: Forgotten) -> Result<Exit, Stop> {
    say("looking at streams and archive");
    done.remains = traces.remains().await?;
    print(&if args.json { serde_json::json!(done).to_string() + "\n" } else { render(&done) });
    Ok(match (traces.is_empty() && done.remains.iter().all(|it| it.next.is_none()), done.kept.is_empty()) {
        (true, _) => Exit::NotFound,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Unhealthy,
    })
}

fn render(done: &Forgotten) -> String {
    let Deleted { violations, raw_events, alerts, dead_letters } = &done.deleted;
    let mut out = String::new();
    // Which events have been texted shows when their claims are deleted.
    let (past, alerts) = match done.dry_run {
        true => ("would be deleted", "and the alerts of these events".to_owned()),
        false => ("deleted", format!("{alerts} alerts")),
    };
    let _never_fails = writeln!(
        out,
        "{}: {past}: {violations} violations, {raw_events} raw events, {dead_letters} dead letters, {alerts}",
        done.plate
    );
    for kept in &done.kept {
        let _never_fails = writeln!(out, "still there: {kept}");
    }
    for it in &done.remains {
        let until = it.until.as_ref().map_or_else(|| "stays".to_owned(), |until| format!("gone by {until}"));
        let _never_fails = writeln!(out, "remains: {}: {} ({until})", it.place, it.what);
        if let Some(next) = &it.next {
            let _never_fails = writeln!(out, "  next: {next}");
        }
    }
    out
}

/// Nodes drop what they know of drivers when they hear of a load.
fn empty_caches(node: &NodeAccess) -> Result<(), Stop> {
    let load = serde_json::json!({"load_id": format!("forget-{}", crate::wiring::now_ms())});
    post_json::<_, serde_json::Value>(node, "/api/v1/loads", &load).map(drop)
}

fn confirm(args: &ForgetArgs, counts: &Deleted, plate: &PlateKey) -> Result<(), Stop> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Stop::new(Exit::Refused, "nobody is there to confirm the deletion").next("confirm it with --yes"));
    }
    let Deleted { violations, raw_events, dead_letters, .. } = counts;
    eprint!(
        "{violations} violations, {raw_events} raw events and {dead_letters} dead letters will be gone for good.\nType the plate to go on: "
    );
    let _nobody_reads = std::io::stderr().flush();
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && PlateKey::of(&typed) == *plate {
        return Ok(());
    }
    Err(Stop::new(Exit::Refused, "not confirmed; nothing was deleted"))
}

fn unlogged(path: &std::path::Path, error: &std::io::Error) -> Stop {
    Stop::new(Exit::Failed, format!("nothing was deleted, because the audit log {} cannot be written", path.display()))
        .why(error)
        .next("name a file that you may write with dashboard.audit_file")
}

fn plate(text: &str) -> Result<PlateKey, String> {
    LicensePlate::parse(text).map(|plate| plate.key()).map_err(|error| error.to_string())
}

fn fingerprint(plate: &PlateKey) -> String {
    Sha256::digest(plate.as_str()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whoever sits there sees that it goes on.
fn say(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what}…");
    }
}
