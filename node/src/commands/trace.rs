//! `speedtrap trace`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use humantime_serde::re::humantime::parse_duration;

use super::table::table;
use super::{load_for_node, print};
use crate::audit::{Asked, Audit};
use crate::config::{self, Flags, NodeConfig};
use crate::exit::{Exit, Stop};
use crate::trace::{Place, Question, Story, TracePage, trace as answer};

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// An event id, or a plate: then its latest events.
    #[arg(value_name = "EVENT_ID|PLATE")]
    what: String,
    /// The plate of the event: spares a look through the whole table, and tells the shard.
    #[arg(long, value_name = "PLATE", conflicts_with = "event")]
    plate: Option<String>,
    /// Of the plate only this event.
    #[arg(long, value_name = "EVENT_ID")]
    event: Option<String>,
    /// When the reading was taken, in UTC: finds readings that are no violations, too.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<SystemTime>,
    /// How long after it was taken it may have arrived; longer for a device that was without a network.
    #[arg(long, value_name = "SPAN", default_value = "10min", value_parser = parse_duration)]
    within: Duration,
    /// Most events of a plate.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    limit: u64,
    /// Most reads of each stream for one event; a search reads a shard once a second.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    reads: u32,
    /// Shows plate, name and number instead of masking them; noted in the audit log.
    #[arg(long, requires = "reason")]
    reveal: bool,
    /// Why persons are looked at; the audit log keeps it.
    #[arg(long, value_name = "WORDS", requires = "reveal")]
    reason: Option<String>,
    /// TOML file to lay over the defaults: the names of streams and tables.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CONFIG")]
    config: Option<PathBuf>,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

/// Tells what became of an event.
///
/// # Errors
/// When nothing is found, or AWS cannot be reached.
pub(crate) fn trace(args: &TraceArgs) -> Result<Exit, Stop> {
    let config = load_for_node(args.config.as_deref(), Flags::default())?;
    let question = Question {
        asked: args.what.clone(),
        plate: args.plate.clone(),
        event: args.event.clone(),
        at: args.at,
        within: args.within,
        most_events: usize::try_from(args.limit).unwrap_or(100),
        most_reads: args.reads,
        reveal: args.reveal,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
    let told = runtime.block_on(async {
        tokio::select! {
            told = audited(&config, args, &question) => told.map(Some),
            _interrupted = tokio::signal::ctrl_c() => Ok(None),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    progress("");
    let Some(page) = told? else { return Ok(Exit::Interrupted) };
    let has_gaps = page.events.iter().any(Story::has_gaps);
    if args.json {
        let json =
            serde_json::to_string(&page).map_err(|error| Stop::new(Exit::Failed, "the answer cannot be written").why(error))?;
        print(&(json + "\n"));
    } else {
        print(&render(&page));
    }
    Ok(if has_gaps { Exit::Unhealthy } else { Exit::Ok })
}

/// Whoever looks at a person is noted before he sees anything, on this machine: no node takes part.
async fn audited(config: &NodeConfig, args: &TraceArgs, question: &Question) -> Result<TracePage, Stop> {
    let Some(reason) = &args.reason else { return answer(config, question, &progress).await };
    let path = config.audit_file();
    let refused = |error: std::io::Error| {
        Stop::new(Exit::Refused, format!("nothing was shown, because the audit log {} cannot be written", path.display()))
            .why(error)
            .next("name a file that this user may write with dashboard.audit_file")
    };
    let audit = Audit::open(&config.node.name, &path).map_err(refused)?;
    let (who, target) = (config::user(), format!("trace of {}", crate::api::masked_plate(&args.what)));
    let asked = Asked { who: &who, role: "admin", from: "command", action: "reveal", target: &target, reason, key: None };
    let intent = audit.intend(&asked).map_err(refused)?;
    let told = answer(config, question, &progress).await;
    let ids = |page: &TracePage| page.events.iter().map(|story| story.event_id.clone()).collect::<Vec<_>>().join(" ");
    audit.conclude(intent, told.as_ref().map(ids).map_err(|stop| stop.what.clone()));
    if told.is_ok() {
        eprintln!("note: who looked and why stands in {}", path.display());
    }
    told
}

/// One line that follows the work, on a terminal only.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

fn render(page: &TracePage) -> String {
    let mut out = String::new();
    for story in &page.events {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let speed = story.speed_mph.map_or_else(|| "no speed".to_owned(), |mph| format!("{mph} mph"));
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "event {}, plate {}, {speed} in {}, {}: {}",
            story.event_id,
            shown(&story.plate),
            shown(&story.city),
            shown(&story.state),
            story.verdict.replace('_', " ")
        );
        if let Some(driver) = &story.driver {
            let _infallible = writeln!(out, "driver {} {}, number {}", driver.first_name, driver.last_name, driver.myphone);
        }
        let mut rows = table(&["STEP", "STATE", "AT", "DELAY", "WHERE AND WHAT"]);
        for step in &story.steps {
            let delay = match (step.delay_ms, step.after) {
                (Some(ms), Some(after)) => format!("{} after {after}", span_of(ms)),
                _ => "-".to_owned(),
            };
            let place = step.place.as_ref().map(place).unwrap_or_default();
            let what = [place.as_str(), step.text.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            rows.add_row([step.step, step.state, step.at.as_deref().unwrap_or("-"), &delay, &what.join(": ")]);
        }
        let _infallible = writeln!(out, "\n{}\n", rows.trim_fmt());
    }
    if page.more > 0 {
        let _infallible = writeln!(out, "{} earlier events of the plate are not shown; --limit shows more", page.more);
    }
    for note in &page.notes {
        let _infallible = writeln!(out, "note: {note}");
    }
    out
}

fn place(place: &Place) -> String {
    match place {
        Place::Stream { stream, shard, sequence, sub: 0 } => format!("{stream} {shard} {sequence}"),
        Place::Stream { stream, shard, sequence, sub } => format!("{stream} {shard} {sequence}/{sub}"),
        Place::Item { table, event_id } => format!("{table} {event_id}"),
        Place::Object { bucket, key, line } => format!("s3://{bucket}/{key} line {line}"),
        Place::Message { message_id } => format!("message {message_id}"),
        Place::Letter { table, letter_id } => format!("{table} {letter_id}"),
    }
}

fn span_of(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", super::table::span_ms(Some(ms.unsigned_abs())))
}

fn time(text: &str) -> Result<SystemTime, String> {
    crate::trace::taken_at(text).ok_or_else(|| "a time is written as 2026-01-31T12:00:00Z".to_owned())
}
