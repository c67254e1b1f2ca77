//! Handing a shard to another node, and evening out who holds how many.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use speedtrap_actors::cluster::{ClusterNode, NodeOrder};
use tokio::time::{Instant, sleep};

use super::Progress;
use super::desk::{End, Record};
use super::plan::{Kind, Plan, Planned, Risk, can_be_told, not_allowed, not_now};
use super::run::{LOOK_EVERY, begun};
use crate::api::ShardPage;
use crate::api::cluster::Api;
use crate::api::problem::Problem;

/// A lane has 10 s to finish what it has begun; then the new owner looks and starts.
const MOVE_WITHIN: Duration = Duration::from_secs(30);
/// How long evening out may take without any lease moving.
const STILL_FOR: Duration = Duration::from_secs(30);
/// Time between two rounds in which the nodes are told to look.
const ROUND: Duration = Duration::from_secs(1);

/// Leases of one role by the name of their node.
type Held = BTreeMap<String, u64>;

pub(super) async fn plan_hand_over(api: &Api, target: String, to: Option<&str>) -> Result<Planned, Problem> {
    let shards = api.shards().await.shards;
    let is_it = |page: &&ShardPage| target.split_once('/') == Some((page.role.as_str(), page.shard.as_str()));
    let Some(page) = shards.iter().find(is_it) else {
        let detail = format!("there is no shard `{target}`; name it as ROLE/SHARD, as `speedtrap shards` shows them");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_shard", detail));
    };
    let nodes = api.nodes();
    let owner = nodes.iter().find(|node| Some(&node.worker) == page.worker.as_ref() && can_be_told(node));
    let (Some(from), "held") = (owner, page.state.as_str()) else {
        let why = page.why.as_deref().unwrap_or("no node that can be told holds it");
        return Err(not_now(format!("{target} cannot be handed over now ({}): {why}", page.state)));
    };
    let takes = |node: &&ClusterNode| can_be_told(node) && !node.draining && node.roles.contains(&page.role);
    let held = held(&shards, &page.role, &nodes);
    let to = match to {
        Some(name) if name == from.name => return Err(not_now(format!("{name} holds {target} already"))),
        Some(name) => {
            let Some(node) = nodes.iter().find(|node| node.name == name && !node.has_left()) else {
                return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_node", format!("there is no node `{name}`")));
            };
            let why = format!("{name} cannot take it: a node must be linked, run {}, and not drain", page.role);
            Some(node).filter(takes).ok_or_else(|| not_allowed(why))?
        }
        None => {
            let others = nodes.iter().filter(|node| node.name != from.name).filter(takes);
            let nobody = || not_now(format!("no other node takes shards of {}", page.role));
            others.min_by_key(|node| held.get(&node.name).copied()).ok_or_else(nobody)?
        }
    };
    let (effects, risk) = hand_over_effects(page, &from.name, &to.name, held);
    let plan = Plan::HandOver {
        from: from.clone(),
        to: to.clone(),
        application: page.application.clone(),
        role: page.role.clone(),
        shard: page.shard.clone(),
    };
    let confirm_text = page.shard.clone();
    Ok(Planned { kind: Kind::HandOver, target: format!("{target} to {}", to.name), effects, risk, confirm_text, plan })
}

fn hand_over_effects(page: &ShardPage, from: &str, to: &str, mut held: Held) -> (Vec<String>, Risk) {
    let mut effects = vec![
        format!(
            "{from} takes nothing more of {} in, finishes what it has begun, writes the checkpoint, and makes the lease {to}'s",
            page.shard
        ),
        format!("{to} goes on from that checkpoint; nothing is processed twice, and the shard stands still for about a second"),
    ];
    *held.entry(from.to_owned()).or_default() -= 1;
    *held.entry(to.to_owned()).or_default() += 1;
    if is_fair(&held) {
        return (effects, Risk::Low);
    }
    effects.push(format!(
        "the nodes then hold {}; they even that out again by themselves, perhaps with another shard",
        spread(&held)
    ));
    (effects, Risk::Medium)
}

/// Has the lease handed over, and waits until its lane runs there.
pub(super) async fn hand_over(
    api: &Api,
    from: &ClusterNode,
    to: &ClusterNode,
    application: &str,
    role: &str,
    shard: &str,
) -> End {
    let started = Instant::now();
    let order = NodeOrder::HandOver { application: application.to_owned(), shard: shard.to_owned(), to: Some(to.worker.clone()) };
    let doubt = match begun(api.order(from, order).await) {
        Ok(doubt) => doubt,
        Err(refused) => return refused,
    };
    while started.elapsed() < MOVE_WITHIN {
        sleep(LOOK_EVERY).await;
        let shards = api.shards().await.shards;
        let Some(page) = shards.iter().find(|page| page.role == role && page.shard == shard) else { continue };
        let runs = page.lane.as_ref().is_some_and(|lane| lane.state == "running" && lane.node == to.name);
        if page.worker.as_ref() == Some(&to.worker) && (runs || page.state == "ended") {
            let took = started.elapsed().as_secs_f64();
            return End::Done(format!("{} runs it after {took:.1} s, from checkpoint {}", to.name, page.checkpoint));
        }
        let elsewhere = page.worker.as_ref().is_some_and(|worker| *worker != from.worker && *worker != to.worker);
        if elsewhere && page.state == "held" {
            let holder = page.node.as_deref().unwrap_or("another worker");
            return End::failed("ended_otherwise", format!("{holder} holds it now"));
        }
    }
    match doubt {
        Some(doubt) => End::failed("unknown_outcome", format!("{doubt}; {} was not seen to run it", to.name)),
        None => End::timed_out(format!("{} has not run it within {} s", to.name, MOVE_WITHIN.as_secs())),
    }
}

pub(super) async fn plan_rebalance(api: &Api, target: String) -> Result<Planned, Problem> {
    let nodes = api.nodes();
    let mut known: Vec<String> = nodes.iter().filter(|node| can_be_told(node)).flat_map(|node| node.roles.clone()).collect();
    known.sort_unstable();
    known.dedup();
    let roles = if target == "all" { known.clone() } else { known.iter().filter(|role| **role == target).cloned().collect() };
    if roles.is_empty() {
        let detail = format!("no node runs `{target}`; there are {} and all", known.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_role", detail));
    }
    let shards = api.shards().await.shards;
    let mut effects = Vec::new();
    let mut moves = 0;
    for role in &roles {
        let held = held(&shards, role, &nodes);
        moves += missing(&held);
        let fair = if is_fair(&held) { "which is fair to within one" } else { "which is not fair" };
        effects.push(format!("{role}: {}, {fair}", spread(&held)));
    }
    effects.push("each node with too few asks the fullest at once instead of after a pause; each lease moves as a planned hand-over, without anything processed twice".to_owned());
    let risk = if moves == 0 { Risk::Low } else { Risk::Medium };
    Ok(Planned {
        kind: Kind::Rebalance,
        target: target.clone(),
        effects,
        risk,
        confirm_text: target,
        plan: Plan::Rebalance { roles },
    })
}

/// Tells the nodes to look until the spread is fair.
pub(super) async fn rebalance(api: &Api, roles: &[String], record: &Record) -> End {
    let (mut total, mut fewest, mut moved) = (0, u64::MAX, Instant::now());
    loop {
        let (nodes, shards) = (api.nodes(), api.shards().await.shards);
        let spreads: Vec<_> = roles.iter().map(|role| (role, held(&shards, role, &nodes))).collect();
        let left: u64 = spreads.iter().map(|(_, held)| missing(held)).sum();
        total = left.max(total);
        if left < fewest {
            (fewest, moved) = (left, Instant::now());
        }
        record.progress(Progress { done: total - left, left, total });
        let said: Vec<_> = spreads.iter().map(|(role, held)| format!("{role} {}", spread(held))).collect();
        let said = said.join("; ");
        let is_settled = |page: &ShardPage| {
            !roles.contains(&page.role) || matches!(page.state.as_str(), "held" | "ended" | "waits_for_parent")
        };
        if spreads.iter().all(|(_, held)| is_fair(held)) && shards.iter().all(is_settled) {
            return End::Done(format!("fair to within one: {said}"));
        }
        if let Some(by) = record.cancelled_by() {
            return End::Cancelled(format!("broken off by {by}; {said}"));
        }
        if moved.elapsed() >= STILL_FOR {
            return End::timed_out(format!("not fair, and no lease moved for {} s: {said}", STILL_FOR.as_secs()));
        }
        for node in nodes.iter().filter(|node| can_be_told(node) && !node.draining) {
            for role in roles.iter().filter(|role| node.roles.contains(*role)) {
                let Some(page) = shards.iter().find(|page| page.role == *role) else { continue };
                // Whoever does not hear it looks by itself, somewhat later.
                let _unheard = api.order(node, NodeOrder::Balance { application: page.application.clone() }).await;
            }
        }
        tokio::select! {
            () = sleep(ROUND) => {}
            () = record.cancelled() => {}
        }
    }
}

/// What each node holds that takes part in a role.
fn held(shards: &[ShardPage], role: &str, nodes: &[ClusterNode]) -> Held {
    let takes_part = |node: &&ClusterNode| can_be_told(node) && !node.draining && node.roles.iter().any(|it| it == role);
    let count = |node: &ClusterNode| {
        let its = |page: &&ShardPage| page.role == role && page.state != "ended" && page.worker.as_ref() == Some(&node.worker);
        (node.name.clone(), shards.iter().filter(its).count() as u64)
    };
    nodes.iter().filter(takes_part).map(count).collect()
}

fn is_fair(held: &Held) -> bool {
    held.values().max().copied().unwrap_or_default() <= held.values().min().copied().unwrap_or_default() + 1
}

/// Leases that have to move until the spread is fair to within one.
fn missing(held: &Held) -> u64 {
    let (n, all) = (held.len() as u64, held.values().sum::<u64>());
    if n == 0 || is_fair(held) {
        return 0;
    }
    let short: u64 = held.values().map(|count| (all / n).saturating_sub(*count)).sum();
    let over: u64 = held.values().map(|count| count.saturating_sub(all.div_ceil(n))).sum();
    short.max(over)
}

/// Such as `node-1 3, node-2 2`.
fn spread(held: &Held) -> String {
    held.iter().map(|(node, count)| format!("{node} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_fair_to_within_one_and_else_says_how_many_have_to_move() {
        let held = |counts: &[u64]| -> Held { counts.iter().enumerate().map(|(n, count)| (format!("n{n}"), *count)).collect() };
        for (counts, moves) in
            [(&[3, 3, 2][..], 0), (&[4, 4, 0], 2), (&[8, 0, 0], 5), (&[2, 2, 2, 4], 1), (&[1, 3], 1), (&[5], 0), (&[], 0)]
        {
            assert_eq!((missing(&held(counts)), is_fair(&held(counts))), (moves, moves == 0), "{counts:?}");
        }
    }
}
