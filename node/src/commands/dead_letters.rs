//! `speedtrap dead-letters`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, Subcommand};

use super::act::{Ended, carry_out, exit_of};
use super::client::{NodeArgs, get, post_json};
use super::print;
use super::table::table;
use crate::api::{LetterPage, LettersPage, Options, OrderEnd, PreviewOrder, PreviewPage, Reveal, Revealed, Target};
use crate::exit::{Exit, Stop};

/// Letters of one redrive: more of one kind are a fault to mend first, and would flood the streams.
const MOST_AT_ONCE: usize = 5_000;

/// Arguments of `dead-letters`.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Lists letters, the latest first, with persons masked.
    List(ListArgs),
    /// Shows one letter with its record, persons masked.
    Show(ShowArgs),
    /// Puts the records of open letters back on the streams they came from.
    Redrive(OrderArgs),
    /// Notes that nobody will do anything about open letters; rows and payloads stay.
    Discard(OrderArgs),
}

/// Which letters are listed.
#[derive(Debug, Args)]
struct ListArgs {
    /// `open`, `redriven`, `discarded` or `all`.
    #[arg(long, default_value = "open", value_parser = ["open", "redriven", "discarded", "all"])]
    state: String,
    /// Only those of this stage: enrich, notify, archive, errors or ingest.
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Most letters to show.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The letter's id.
    #[arg(value_name = "ID")]
    id: String,
    /// Shows the record as it came, persons unmasked; the audit log keeps who did so and why.
    #[arg(long, requires = "reason")]
    reveal: bool,
    /// With --reveal: why.
    #[arg(long, value_name = "WORDS", requires = "reveal")]
    reason: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Which letters, why, and how fast.
#[derive(Debug, Args)]
struct OrderArgs {
    /// Ids of letters.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All open letters, or those of --stage with --matching in their reason.
    #[arg(long)]
    all: bool,
    /// With --all: only those of this stage.
    #[arg(long, value_name = "STAGE", requires = "all")]
    stage: Option<String>,
    /// With --all: only those whose reason holds these words.
    #[arg(long, value_name = "WORDS", requires = "all")]
    matching: Option<String>,
    /// Most letters, the earliest first; up to 5000.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=MOST_AT_ONCE as u64))]
    max: u64,
    /// Letters a second, so that what comes in meanwhile is not held up.
    #[arg(long, visible_alias = "per-second", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Why; the audit log keeps it.
    #[arg(long, value_name = "WORDS")]
    reason: String,
    /// Does not ask; needed where standard input is no terminal.
    #[arg(long)]
    yes: bool,
    /// Only tells what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Works with dead letters.
///
/// # Errors
/// When the node does not answer, or refuses.
pub(crate) fn dead_letters(args: DeadLettersArgs) -> Result<Exit, Stop> {
    match args.command {
        DeadLettersCommand::List(args) => list(&args),
        DeadLettersCommand::Show(args) => show(&args),
        DeadLettersCommand::Redrive(args) => order(&args, "redrive"),
        DeadLettersCommand::Discard(args) => order(&args, "discard"),
    }
}

fn list(args: &ListArgs) -> Result<Exit, Stop> {
    let stage = args.stage.as_ref().map_or_else(String::new, |stage| format!("&stage={}", encoded(stage)));
    let path = format!("/api/v1/dead-letters?state={}&limit={}{stage}", args.state, args.limit);
    let (json, page) = get::<LettersPage>(&args.node.node, &path)?;
    print(&if args.node.json { json + "\n" } else { render(&page, &args.state) });
    Ok(Exit::Ok)
}

fn render(page: &LettersPage, state: &str) -> String {
    let mut out = String::new();
    let of_state = if state == "all" { "letters" } else { &format!("{state} letters") };
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "{} {of_state}, {} shown\n", page.total, page.letters.len());
    if page.letters.is_empty() {
        return out;
    }
    let mut rows = table(&["ID", "STAGE", "STATE", "LAST SEEN", "TRIES", "PLATE", "BYTES", "REASON"]);
    for letter in &page.letters {
        let LetterPage { id, stage, state, last_seen, tries, payload_bytes, reason, plate, .. } = letter;
        let (tries, bytes) = (tries.to_string(), payload_bytes.to_string());
        rows.add_row([id, stage, state, last_seen, &tries, plate.as_deref().unwrap_or("unknown"), &bytes, reason]);
    }
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for letter in &page.letters {
        *reasons.entry((&letter.stage, &letter.reason)).or_default() += 1;
    }
    let mut groups: Vec<_> = reasons.into_iter().collect();
    groups.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let mut by_reason = table(&["LETTERS", "STAGE", "REASON"]);
    for ((stage, reason), n) in groups {
        by_reason.add_row([n.to_string().as_str(), stage, reason]);
    }
    let _infallible = writeln!(out, "{}\n\n{}", rows.trim_fmt(), by_reason.trim_fmt());
    if !page.whole {
        out.push_str("\nthe table holds more letters than were read\n");
    }
    out
}

fn show(args: &ShowArgs) -> Result<Exit, Stop> {
    if let Some(reason) = args.reason.as_ref().filter(|_| args.reveal) {
        return reveal(args, reason);
    }
    let (json, letter) = get::<LetterPage>(&args.node.node, &format!("/api/v1/dead-letters/{}", encoded(&args.id)))?;
    if args.node.json {
        print(&(json + "\n"));
        return Ok(Exit::Ok);
    }
    let mut facts = table(&["LETTER", &letter.id]);
    let (tries, bytes) = (letter.tries.to_string(), letter.payload_bytes.to_string());
    for (name, value) in [
        ("stage", &letter.stage),
        ("state", &letter.state),
        ("reason", &letter.reason),
        ("source", &letter.source),
        ("first seen", &letter.first_seen),
        ("last seen", &letter.last_seen),
        ("tries", &tries),
        ("bytes", &bytes),
    ] {
        facts.add_row([name, value]);
    }
    let record = letter.payload.map_or_else(String::new, |record| format!("{record:#}"));
    print(&format!("{}\n\n{record}\n", facts.trim_fmt()));
    Ok(Exit::Ok)
}

fn reveal(args: &ShowArgs, reason: &str) -> Result<Exit, Stop> {
    let wanted = Reveal { kind: "dead-letter".to_owned(), id: args.id.clone(), reason: reason.to_owned() };
    let (json, record) = post_json::<_, Revealed>(&args.node.node, "/api/v1/reveal", &wanted)?;
    if args.node.json {
        print(&(json + "\n"));
        return Ok(Exit::Ok);
    }
    eprintln!("note: the audit log says that you looked at it, and why");
    match (record.encoding.as_str(), &record.payload) {
        ("json", payload) => print(&format!("{payload:#}\n")),
        (_, serde_json::Value::String(text)) => print(&format!("{text}\n")),
        (_, payload) => print(&format!("{payload}\n")),
    }
    Ok(Exit::Ok)
}

fn order(args: &OrderArgs, action: &str) -> Result<Exit, Stop> {
    let ids = if args.all { matching(args)? } else { args.ids.clone() };
    if args.dry_run {
        print(&(serde_json::json!({"schema": 1, "action": action, "ids": ids}).to_string() + "\n"));
        return Ok(Exit::Ok);
    }
    if ids.is_empty() {
        eprintln!("note: there is no such open letter");
        shown(args, action, &OrderEnd::default());
        return Ok(Exit::Ok);
    }
    confirm(args, action, ids.len())?;
    let options = Options { per_second: Some(args.rate), each: true, ..Options::default() };
    let wanted = PreviewOrder { kind: action.to_owned(), target: Target::Ids(ids), options };
    let (_, preview) = post_json::<_, PreviewPage>(&args.node.node, "/api/v1/actions/preview", &wanted)?;
    // How long it takes follows from its pace.
    let Ended { page, interrupted, .. } = carry_out(&args.node.node, preview, args.reason.clone(), None)?;
    if !matches!((page.state.as_str(), page.code.as_deref()), ("done" | "cancelled", _) | (_, Some("left_some"))) {
        let what = format!("{action} of {} {}", page.target, page.state);
        return Err(Stop::new(exit_of(&page), what).why(page.outcome.unwrap_or_default()));
    }
    let progress = page.progress.unwrap_or_default();
    let n_left = progress.total.saturating_sub(progress.done);
    let end = OrderEnd {
        done: progress.done,
        left_unnamed: n_left.saturating_sub(page.left.len() as u64),
        left: page.left,
        ..OrderEnd::default()
    };
    shown(args, action, &end);
    Ok(match (n_left, end.done) {
        _ if interrupted && page.state == "cancelled" => Exit::Interrupted,
        (0, _) => Exit::Ok,
        (_, 0) if end.left.iter().all(|left| left.why == "there is no such letter") => Exit::NotFound,
        _ => Exit::Unhealthy,
    })
}

fn shown(args: &OrderArgs, action: &str, end: &OrderEnd) {
    if args.node.json {
        print(&(serde_json::json!(end).to_string() + "\n"));
        return;
    }
    let past = if action == "redrive" { "redriven" } else { "discarded" };
    print(&format!("{} {past}, {} left\n", end.done, end.left.len() as u64 + end.left_unnamed));
    for left in &end.left {
        eprintln!("  {}: {}", left.id, left.why);
    }
}

/// The earliest open letters that were asked for.
fn matching(args: &OrderArgs) -> Result<Vec<String>, Stop> {
    let stage = args.stage.as_ref().map_or_else(String::new, |stage| format!("&stage={}", encoded(stage)));
    let (_, page) = get::<LettersPage>(&args.node.node, &format!("/api/v1/dead-letters?state=open{stage}"))?;
    let wanted = |letter: &LetterPage| args.matching.as_ref().is_none_or(|words| letter.reason.contains(words));
    let mut letters: Vec<_> = page.letters.into_iter().filter(wanted).collect();
    letters.reverse();
    letters.truncate(usize::try_from(args.max).unwrap_or(MOST_AT_ONCE));
    Ok(letters.into_iter().map(|letter| letter.id).collect())
}

/// Asks whoever sits there to type what would be done.
fn confirm(args: &OrderArgs, action: &str, n: usize) -> Result<(), Stop> {
    if args.yes {
        return Ok(());
    }
    let words = format!("{action} {n}");
    if !std::io::stdin().is_terminal() {
        return Err(Stop::new(Exit::Refused, format!("nobody is there to confirm `{words}`")).next("confirm it with --yes"));
    }
    eprint!("{n} letters will be {action}n with the reason `{}`.\nType `{words}` to go on: ", args.reason);
    let _nobody_reads = std::io::stderr().flush();
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == words { Ok(()) } else { Err(Stop::new(Exit::Refused, "not confirmed; nothing was done")) }
}

/// A part of a path or query; ids and stages need no more than that nothing in them ends it.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b"-_.".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_listed_and_grouped_by_reason() {
        let letter = |id: &str, reason: &str| LetterPage {
            id: id.into(),
            stage: "enrich".into(),
            reason: reason.into(),
            state: "open".into(),
            source: "s/0/1/0".into(),
            first_seen: "2026-01-01T00:00:00Z".into(),
            last_seen: "2026-01-01T00:00:00Z".into(),
            tries: 1,
            payload_bytes: 10,
            plate: None,
            payload: None,
        };
        let letters = vec![letter("a", "no speed"), letter("b", "no plate"), letter("c", "no speed")];
        let page = LettersPage { schema: 1, total: 7, open: 7, whole: true, letters };
        let shown = render(&page, "open");
        assert!(shown.starts_with("7 open letters, 3 shown\n"), "{shown}");
        let groups: Vec<_> = shown.split("LETTERS").nth(1).expect("groups").lines().skip(1).map(str::trim_start).collect();
        assert!(groups[0].starts_with('2') && groups[0].ends_with("no speed"), "{shown}");
        assert!(groups[1].starts_with('1') && groups[1].ends_with("no plate"), "{shown}");
    }

    #[test]
    fn nothing_in_an_id_can_lead_elsewhere() {
        assert_eq!(encoded("0a1b"), "0a1b");
        assert_eq!(encoded("../x?y=1&z#"), "..%2Fx%3Fy%3D1%26z%23");
    }
}
