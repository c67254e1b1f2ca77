//! `speedtrap drain`.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use humantime_serde::re::humantime::parse_duration;

use super::client::{NodeAccess, NodeArgs, get, post};
use super::print;
use super::table::number;
use crate::api::{DrainAccepted, NodePage, NodesPage, ShardsPage};
use crate::exit::{Exit, Stop};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A draining node answers until it ends, so one that does not is gone.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// A cluster of which nobody answers for this long is not there any more.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Name of the node.
    #[arg(value_name = "NODE", value_parser = node_name)]
    name: String,
    #[command(flatten)]
    node: NodeArgs,
    /// Waits until the node has no lease left and is gone; the default.
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Returns as soon as the node is told.
    #[arg(long)]
    no_wait: bool,
    /// Longest wait; the node goes on draining after it.
    #[arg(long, value_name = "DURATION", default_value = "2min", value_parser = parse_duration)]
    timeout: Duration,
}

/// What is left of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    leases: Option<u64>,
    is_there: bool,
}

/// Has a node give its leases away and end.
///
/// # Errors
/// When there is no such node, it drains already, nobody answers, or it takes too long.
pub(crate) fn drain(args: &DrainArgs) -> Result<Exit, Stop> {
    let asked = &args.node.node;
    let before = get::<NodesPage>(asked, "/api/v1/nodes")?.1;
    let (json, accepted) = post::<DrainAccepted>(asked, &format!("/api/v1/nodes/{}/drain", args.name))?;
    if args.no_wait {
        print(&if args.node.json { json + "\n" } else { format!("{} drains: {}\n", accepted.node, accepted.next) });
        return Ok(Exit::Ok);
    }
    let witnesses = witnesses(&asked.url, &before, &accepted.worker);
    let started = Instant::now();
    let left = wait_until_gone(asked, &witnesses, &accepted, started, args.timeout)?;
    let seconds = started.elapsed().as_secs_f64();
    if left.is_none() {
        eprintln!("note: it was the last node, so nobody is left who knows whether its leases are free; see its log");
    }
    if args.node.json {
        let said = serde_json::json!({"schema": 1, "node": accepted.node, "worker": accepted.worker, "leases_left": left,
            "seconds": seconds});
        print(&format!("{said}\n"));
    } else {
        let leases = if left.is_some() { "holds no lease and " } else { "" };
        print(&format!("{} is drained: it {leases}is gone, after {seconds:.1} s\n", accepted.node));
    }
    Ok(Exit::Ok)
}

/// Whom to ask meanwhile: the other nodes, which are there to the end. If there are none, the node itself, until it ends.
struct Witnesses {
    urls: Vec<String>,
    is_itself: bool,
}

fn witnesses(asked: &str, before: &NodesPage, worker: &str) -> Witnesses {
    let asked_is_target = before.nodes.iter().any(|node| node.worker == worker && node.presence == "here");
    let linked = |node: &&NodePage| node.worker != worker && node.presence == "linked";
    let others = before.nodes.iter().filter(linked).filter_map(|node| node.dashboard.clone());
    let urls: Vec<String> = (!asked_is_target).then(|| asked.to_owned()).into_iter().chain(others).collect();
    match urls.is_empty() {
        true => Witnesses { urls: vec![asked.to_owned()], is_itself: true },
        false => Witnesses { urls, is_itself: false },
    }
}

/// Looks until the node is gone without leases. `None` means that it is gone, and nobody is there who knows of its leases.
fn wait_until_gone(
    asked: &NodeAccess,
    witnesses: &Witnesses,
    accepted: &DrainAccepted,
    started: Instant,
    timeout: Duration,
) -> Result<Option<u64>, Stop> {
    let mut progress = Progress::default();
    let (mut heard, mut last) = (Instant::now(), accepted.leases);
    loop {
        match witnesses.urls.iter().find_map(|witness| look(&asked.at(witness), &accepted.worker).ok()) {
            Some(left) => {
                heard = Instant::now();
                last = left.leases;
                progress.show(&accepted.node, left);
                if !left.is_there && left.leases == Some(0) {
                    return Ok(left.leases);
                }
            }
            None if witnesses.is_itself && heard.elapsed() > GONE_AFTER => return Ok(None),
            None if heard.elapsed() > SILENCE_LIMIT => {
                let what = format!("no node answers any more, so whether {} is drained is not known", accepted.node);
                return Err(Stop::new(Exit::Unreachable, what).next("ask another node: speedtrap nodes --node URL"));
            }
            None => {}
        }
        if started.elapsed() > timeout {
            let left = number(last);
            let what = format!("{} has not ended within {timeout:?}; leases left: {left}", accepted.node);
            return Err(Stop::new(Exit::TimedOut, what).next("it goes on draining; look with `speedtrap nodes`, or see its log"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn look(witness: &NodeAccess, worker: &str) -> Result<Left, Stop> {
    let nodes = get::<NodesPage>(witness, "/api/v1/nodes")?.1;
    let shards = get::<ShardsPage>(witness, "/api/v1/shards")?.1.shards;
    let own = shards.iter().filter(|shard| shard.worker.as_deref() == Some(worker) && shard.state != "ended");
    // A witness that has just started has not looked at the leases yet.
    let has_looked = nodes.nodes.iter().any(|node| node.presence == "here" && node.n_leases().is_some());
    let is_there = nodes.nodes.iter().any(|node| node.worker == worker && !matches!(node.presence.as_str(), "dead" | "left"));
    Ok(Left { leases: has_looked.then(|| own.count() as u64), is_there })
}

/// A line on a terminal that is written over as leases go.
#[derive(Default)]
struct Progress(Option<Left>);

impl Progress {
    fn show(&mut self, node: &str, left: Left) {
        if self.0 == Some(left) || !std::io::stderr().is_terminal() {
            return;
        }
        self.0 = Some(left);
        let leases = left.leases.map_or_else(|| "unknown".to_owned(), |leases| leases.to_string());
        let state = if left.is_there { "" } else { ", gone" };
        let mut err = std::io::stderr().lock();
        let _terminal_gone = write!(err, "\r\x1b[K{node}: leases left: {leases}{state}").and_then(|()| err.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Names are part of an address, and no node has another kind of name.
fn node_name(text: &str) -> Result<String, &'static str> {
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !text.is_empty() && is_name(text) { Ok(text.to_owned()) } else { Err("a node's name has only [A-Za-z0-9._-]") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_itself_is_asked_only_if_there_is_no_other() {
        let node = |name: &str, presence: &str| NodePage {
            name: name.into(),
            worker: format!("{name}#1"),
            address: None,
            dashboard: Some(format!("http://{name}")),
            roles: Vec::new(),
            draining: false,
            presence: presence.into(),
            round_trip_ms: None,
            misses: 0,
            leases: [].into(),
        };
        let page = |nodes| NodesPage { schema: 1, served_by: "a".into(), at: String::new(), nodes };
        let three = page(vec![node("a", "here"), node("b", "linked"), node("c", "dead")]);
        for (target, urls) in [("a#1", &["http://b"][..]), ("b#1", &["http://asked"]), ("c#1", &["http://asked", "http://b"])] {
            let found = witnesses("http://asked", &three, target);
            assert_eq!((found.urls, found.is_itself), (urls.iter().map(|url| (*url).to_owned()).collect(), false), "{target}");
        }
        let alone = witnesses("http://asked", &page(vec![node("a", "here")]), "a#1");
        assert_eq!((alone.urls, alone.is_itself), (vec!["http://asked".to_owned()], true));
    }

    #[test]
    fn a_name_is_checked_before_it_becomes_part_of_an_address() {
        assert_eq!(node_name("node-1.eu_2"), Ok("node-1.eu_2".to_owned()));
        assert!(["", "a/b", "a b", "a?b", "a#1"].iter().all(|name| node_name(name).is_err()));
    }
}
