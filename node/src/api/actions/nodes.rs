//! Draining a node, and letting it take part again.

use std::time::Duration;

use axum::http::StatusCode;
use speedtrap_actors::cluster::{ClusterNode, NodeOrder, Presence};
use tokio::time::{Instant, sleep};

use super::Progress;
use super::desk::{End, Record};
use super::plan::{Kind, Plan, Planned, Risk, node_named, not_now, unreachable};
use super::run::{LOOK_EVERY, begun};
use crate::api::cluster::Api;
use crate::api::node_view::LIFE;
use crate::api::problem::Problem;

/// How long a node may take to give all its leases away; each lane has 10 s.
const ASIDE_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to be seen as taking part.
const BACK_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn plan_drain(api: &Api, name: &str, stay: bool) -> Result<Planned, Problem> {
    let node = node_named(api, name)?;
    let life: String = api.ask_now(&node, LIFE).await.map_err(|why| unreachable(&node, &why))?;
    if life == "ending" {
        return Err(drains_already(name));
    }
    if stay && life == "aside" {
        return Err(not_now(format!("{name} is drained and stays already; resume it, or drain it without staying")));
    }
    let leases = leases_of(api, &node).await;
    let said = leases.map_or_else(|| "its leases".to_owned(), |leases| format!("its {leases} leases"));
    let (mut effects, mut risk) = (
        vec![format!(
            "{name} takes nothing more in, finishes what it has begun, and gives {said} away, each with its checkpoint; nothing is processed twice"
        )],
        Risk::Medium,
    );
    let nobody: Vec<_> = node.roles.iter().filter(|role| !api.nodes().iter().any(|other| takes(other, &node, role))).collect();
    if !nobody.is_empty() {
        let roles: Vec<_> = nobody.into_iter().map(String::as_str).collect();
        effects.push(format!("no other node runs {}: its shards stand still until one does", roles.join(", ")));
        risk = Risk::High;
    }
    effects.push(match stay {
        true => "it stays, shown as draining, and takes no lease until it is resumed".to_owned(),
        false => "then its process ends with exit code 0, and has to be started again to come back".to_owned(),
    });
    let plan = Plan::Drain { node, stay };
    Ok(Planned { kind: Kind::Drain, target: name.to_owned(), effects, risk, confirm_text: name.to_owned(), plan })
}

fn takes(other: &ClusterNode, than: &ClusterNode, role: &str) -> bool {
    other.worker != than.worker
        && matches!(other.presence, Presence::Here | Presence::Linked)
        && !other.draining
        && other.roles.iter().any(|it| it == role)
}

pub(in crate::api) fn drains_already(name: &str) -> Problem {
    let detail = format!("{name} drains already; it stops by itself once its leases are given away");
    Problem::new(StatusCode::CONFLICT, "drains_already", detail)
}

pub(super) async fn plan_resume(api: &Api, name: &str) -> Result<Planned, Problem> {
    let node = node_named(api, name)?;
    let life: String = api.ask_now(&node, LIFE).await.map_err(|why| unreachable(&node, &why))?;
    match life.as_str() {
        "aside" => {}
        "ending" => return Err(not_now(format!("{name} drains in order to end; start it again once it has ended"))),
        _ => return Err(not_now(format!("{name} is not drained; it takes part"))),
    }
    let effects = vec![
        format!("{name} takes part again: it asks for its share of each role at once"),
        "each lease comes to it as a planned hand-over, without anything processed twice".to_owned(),
    ];
    let (target, confirm_text) = (name.to_owned(), name.to_owned());
    Ok(Planned { kind: Kind::Resume, target, effects, risk: Risk::Low, confirm_text, plan: Plan::Resume { node } })
}

async fn leases_of(api: &Api, node: &ClusterNode) -> Option<u64> {
    api.nodes_page().await.nodes.into_iter().find(|page| page.worker == node.worker).and_then(|page| page.n_leases())
}

/// Has a node give everything away and stay.
pub(super) async fn stand_aside(api: &Api, node: &ClusterNode, record: &Record) -> End {
    let started = Instant::now();
    let total = leases_of(api, node).await.unwrap_or_default();
    let doubt = match begun(api.order(node, NodeOrder::StandAside).await) {
        Ok(doubt) => doubt,
        Err(refused) => return refused,
    };
    let mut left = None;
    while started.elapsed() < ASIDE_WITHIN {
        sleep(LOOK_EVERY).await;
        left = leases_of(api, node).await;
        if let Some(left) = left {
            let total = total.max(left);
            record.progress(Progress { done: total - left, left, total });
        }
        match api.ask_now::<String>(node, LIFE).await.as_deref() {
            Ok("running") if doubt.is_none() => {
                return End::failed("ended_otherwise", format!("{} was resumed meanwhile", node.name));
            }
            Ok("aside") if left == Some(0) => {
                let took = started.elapsed().as_secs_f64();
                return End::Done(format!("{} gave {total} leases away in {took:.1} s and stays", node.name));
            }
            _ => {}
        }
    }
    match (doubt, left) {
        (Some(doubt), _) => End::failed("unknown_outcome", doubt),
        (None, left) => {
            let left = left.map_or_else(|| "an unknown number of".to_owned(), |left| left.to_string());
            End::timed_out(format!(
                "{} still holds {left} leases after {} s; it goes on giving them away",
                node.name,
                ASIDE_WITHIN.as_secs()
            ))
        }
    }
}

/// Tells a node to give everything away and to end. What becomes of that is not waited for: this may be that node.
pub(in crate::api) async fn tell_to_leave(api: &Api, node: &ClusterNode) -> Result<(), String> {
    match node.presence {
        Presence::Here => {
            api.node.drain_asked.notify_one();
            Ok(())
        }
        Presence::Linked => api.reach.drain(&node.worker).await.map_err(|failure| failure.reason),
        other => Err(format!("it is {}", other.label())),
    }
}

pub(super) async fn leave(api: &Api, node: &ClusterNode) -> End {
    match tell_to_leave(api, node).await {
        Ok(()) => End::Done(format!("{} was told; it hands its leases over and exits with 0", node.name)),
        Err(why) => End::failed("unknown_outcome", why),
    }
}

/// Lets a node take part again.
pub(super) async fn resume(api: &Api, node: &ClusterNode) -> End {
    let started = Instant::now();
    let doubt = match begun(api.order(node, NodeOrder::Resume).await) {
        Ok(doubt) => doubt,
        Err(refused) => return refused,
    };
    while started.elapsed() < BACK_WITHIN {
        sleep(LOOK_EVERY).await;
        let is_back = api.nodes().iter().any(|other| other.worker == node.worker && !other.draining);
        if is_back && api.ask_now::<String>(node, LIFE).await.as_deref() == Ok("running") {
            return End::Done(format!("{} takes part again", node.name));
        }
    }
    match doubt {
        Some(doubt) => End::failed("unknown_outcome", doubt),
        None => End::timed_out(format!("{} was not seen to take part within {} s", node.name, BACK_WITHIN.as_secs())),
    }
}
