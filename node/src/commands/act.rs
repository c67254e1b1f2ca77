//! Actions as commands: what would happen, whether it is wanted, and what became of it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use humantime_serde::re::humantime::parse_duration;
use rand::distr::{Alphanumeric, SampleString as _};

use super::client::{NodeAccess, NodeArgs, get, post, post_json, post_once};
use super::interrupt::Interrupts;
use super::print;
use crate::api::{ActionAccepted, ActionPage, ConfirmOrder, Options, PreviewOrder, PreviewPage, Target};
use crate::exit::{Exit, Stop};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A node that does not answer for so long while it does something is not there any more.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// How often a confirmation without an answer is sent; the node does it once all the same.
const TRIES: u32 = 3;

/// How an action is confirmed and waited for.
#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// Why, in one line; the audit log keeps it. Asked for on a terminal.
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
    /// Does not ask; needed, with --reason, where standard input is no terminal.
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Only tells what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Longest wait for its end; it goes on after it.
    #[arg(long, value_name = "DURATION", default_value = "2min", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    node: NodeArgs,
}

/// Has an action done, if whoever sits there still wants it after seeing what it does.
///
/// # Errors
/// When it cannot be done, is not confirmed, fails, or takes too long.
pub(crate) fn act(args: &ActArgs, kind: &str, target: Target, options: Options) -> Result<Exit, Stop> {
    let node = &args.node.node;
    let order = PreviewOrder { kind: kind.to_owned(), target, options };
    let (json, preview) = post_json::<_, PreviewPage>(node, "/api/v1/actions/preview", &order)?;
    if args.dry_run {
        print(&if args.node.json { json + "\n" } else { render(&preview) });
        return Ok(Exit::Ok);
    }
    let reason = confirm(args, &preview)?;
    let Ended { json, page, interrupted } = carry_out(node, preview, reason, Some(args.timeout))?;
    let said = page.outcome.as_deref().unwrap_or_default();
    let exit = if interrupted && page.state == "cancelled" { Exit::Interrupted } else { exit_of(&page) };
    if args.node.json {
        print(&(json + "\n"));
    } else if exit == Exit::Ok {
        print(&format!("{}: {said}\n", page.target));
    }
    match exit {
        Exit::Ok => Ok(Exit::Ok),
        exit => Err(Stop::new(exit, format!("{} of {} {}", page.kind, page.target, page.state)).why(said)),
    }
}

/// An action that has ended.
pub(super) struct Ended {
    pub(super) json: String,
    pub(super) page: ActionPage,
    /// Whether somebody pressed Ctrl-C meanwhile.
    pub(super) interrupted: bool,
}

/// Has what was previewed done and waits for its end, if need be no longer than `limit`. Ctrl-C breaks it off where that can be.
///
/// # Errors
/// When it is refused, or what became of it is not known.
pub(super) fn carry_out(node: &NodeAccess, preview: PreviewPage, reason: String, limit: Option<Duration>) -> Result<Ended, Stop> {
    let interrupts = Interrupts::listen()?;
    let confirmed = ConfirmOrder { token: preview.token, reason, confirm_text: preview.confirm_text };
    let key = Alphanumeric.sample_string(&mut rand::rng(), 32);
    let mut tries = 1;
    let accepted = loop {
        match post_once::<_, ActionAccepted>(node, "/api/v1/actions", &key, &confirmed) {
            Err(stop) if stop.exit == Exit::Unreachable && tries < TRIES => tries += 1,
            accepted => break accepted?.1,
        }
    };
    let (json, page) = wait(node, &accepted.action_id, limit, &interrupts)?;
    Ok(Ended { json, page, interrupted: interrupts.times() > 0 })
}

fn render(preview: &PreviewPage) -> String {
    let mut out = format!("{} of {} (risk: {})\n", preview.kind, preview.target, preview.risk);
    for effect in &preview.effects {
        out.push_str(&format!("  - {effect}\n"));
    }
    out
}

/// Gives the reason, once it is clear that it is wanted.
fn confirm(args: &ActArgs, preview: &PreviewPage) -> Result<String, Stop> {
    let given = args.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    if let (true, Some(reason)) = (args.yes, given) {
        return Ok(reason.to_owned());
    }
    if !std::io::stdin().is_terminal() {
        let what = format!("nobody is there to confirm {} of {}", preview.kind, preview.target);
        return Err(Stop::new(Exit::Refused, what).next("confirm it with --yes --reason 'WORDS', or see it with --dry-run"));
    }
    eprint!("{}", render(preview));
    let reason = match given {
        Some(reason) => reason.to_owned(),
        None => ask("Reason: ")?,
    };
    if reason.is_empty() {
        return Err(Stop::new(Exit::Refused, "no reason was given; nothing was done"));
    }
    if ask(&format!("Type `{}` to go on: ", preview.confirm_text))? == preview.confirm_text {
        Ok(reason)
    } else {
        Err(Stop::new(Exit::Refused, "not confirmed; nothing was done"))
    }
}

fn ask(question: &str) -> Result<String, Stop> {
    eprint!("{question}");
    let _nobody_reads = std::io::stderr().flush();
    let mut typed = String::new();
    match std::io::stdin().lock().read_line(&mut typed) {
        Ok(_) => Ok(typed.trim().to_owned()),
        Err(error) => Err(Stop::new(Exit::Refused, "nothing could be read; nothing was done").why(error)),
    }
}

/// Looks until it has ended.
fn wait(node: &NodeAccess, id: &str, limit: Option<Duration>, interrupts: &Interrupts) -> Result<(String, ActionPage), Stop> {
    let (started, mut heard) = (Instant::now(), Instant::now());
    let mut line = Line::default();
    let (mut asked_to_cancel, mut goes_on) = (false, false);
    loop {
        if interrupts.times() > 0 && !asked_to_cancel {
            asked_to_cancel = true;
            // One that cannot be broken off goes on without us; one that has ended is looked at once more.
            goes_on = post::<ActionPage>(node, &format!("/api/v1/actions/{id}/cancel")).is_err();
        }
        match get::<ActionPage>(node, &format!("/api/v1/actions/{id}")) {
            Ok((json, page)) if page.outcome.is_some() => return Ok((json, page)),
            Ok((_, page)) => {
                heard = Instant::now();
                line.show(&page);
            }
            Err(stop) if stop.exit != Exit::Unreachable => return Err(stop),
            Err(stop) if heard.elapsed() > SILENCE_LIMIT => {
                let what = format!("the node does not answer any more, so what became of {id} is not known");
                return Err(Stop::new(Exit::Unreachable, what).why(stop).next("see `speedtrap audit` once it is there again"));
            }
            Err(_) => {}
        }
        if goes_on || interrupts.times() > 1 {
            return Err(Stop::new(Exit::Interrupted, format!("interrupted; {id} goes on")).next("see `speedtrap audit`"));
        }
        if limit.is_some_and(|limit| started.elapsed() > limit) {
            let what = format!("{id} has not ended within {:?}", limit.unwrap_or_default());
            return Err(Stop::new(Exit::TimedOut, what).next("it goes on; see `speedtrap audit`, or wait longer with --timeout"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

pub(super) fn exit_of(page: &ActionPage) -> Exit {
    match (page.state.as_str(), page.code.as_deref()) {
        ("done", _) => Exit::Ok,
        ("cancelled", _) | (_, Some("left_some")) => Exit::Unhealthy,
        (_, Some("refused")) => Exit::Refused,
        (_, Some("timed_out")) => Exit::TimedOut,
        (_, Some("unknown_outcome")) => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// A line on a terminal that is written over as the action goes on.
#[derive(Default)]
struct Line {
    shown: bool,
}

impl Line {
    fn show(&mut self, page: &ActionPage) {
        let Some(progress) = page.progress.filter(|_| std::io::stderr().is_terminal()) else { return };
        self.shown = true;
        let mut err = std::io::stderr().lock();
        let _terminal_gone =
            write!(err, "\r\x1b[K{}: {} of {} done, {} left", page.kind, progress.done, progress.total, progress.left)
                .and_then(|()| err.flush());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_action_ended_is_the_exit_code() {
        let page = |state: &str, code: Option<&str>| ActionPage {
            schema: 1,
            action_id: "a".into(),
            at: String::new(),
            kind: "redrive".into(),
            target: "x".into(),
            who: "op".into(),
            reason: "r".into(),
            state: state.into(),
            progress: None,
            outcome: Some("said".into()),
            code: code.map(str::to_owned),
            left: Vec::new(),
        };
        for (state, code, exit) in [
            ("done", None, Exit::Ok),
            ("cancelled", None, Exit::Unhealthy),
            ("failed", Some("left_some"), Exit::Unhealthy),
            ("failed", Some("refused"), Exit::Refused),
            ("failed", Some("timed_out"), Exit::TimedOut),
            ("failed", Some("unknown_outcome"), Exit::Unreachable),
            ("failed", Some("broke_off"), Exit::Failed),
        ] {
            assert_eq!(exit_of(&page(state, code)), exit, "{state} {code:?}");
        }
    }

    #[test]
    fn what_would_happen_is_shown_line_by_line() {
        let preview = PreviewPage {
            schema: 1,
            kind: "kill-actor".into(),
            target: "n/a".into(),
            effects: vec!["it ends".into(), "it starts again".into()],
            risk: "medium".into(),
            confirm_text: "a".into(),
            token: "t".into(),
            expires_s: 60,
        };
        assert_eq!(render(&preview), "kill-actor of n/a (risk: medium)\n  - it ends\n  - it starts again\n");
    }
}
