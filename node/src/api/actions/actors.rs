//! Restarting, draining and killing actors.

use std::time::Duration;

use axum::http::StatusCode;
use speedtrap_actors::cluster::{ActorEnd, ClusterNode, NodeOrder, why_never_ended};
use tokio::time::{Instant, sleep};

use super::desk::{End, Record};
use super::plan::{Kind, Plan, Planned, Risk, node_named, not_allowed, not_now, unreachable};
use super::run::{LOOK_EVERY, begun};
use crate::api::cluster::Api;
use crate::api::node_view::ACTOR;
use crate::api::pages::ActorPage;
use crate::api::problem::Problem;

/// How long an actor may take to run again. A lane that drains has 10 s for that, and its lease may have to be taken anew.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);
/// The same when nobody knows whether the order arrived.
const AGAIN_WITHIN_IN_DOUBT: Duration = Duration::from_secs(10);

pub(super) async fn plan(api: &Api, how: ActorEnd, path: String) -> Result<Planned, Problem> {
    let unknown = || {
        let detail =
            format!("there is no actor `{path}`; names begin with that of a node, as `speedtrap actors --json` has them");
        Problem::new(StatusCode::NOT_FOUND, "unknown_actor", detail)
    };
    let node = node_named(api, path.split('/').next().unwrap_or_default()).map_err(|_| unknown())?;
    let seen: Result<Option<ActorPage>, String> = api.ask_now(&node, &format!("{ACTOR}{path}")).await;
    let actor = seen.map_err(|why| unreachable(&node, &why))?.ok_or_else(unknown)?;
    if let Some(why) = why_never_ended(&actor.kind) {
        return Err(not_allowed(format!("{} may not be {}: {why}", actor.kind, how.past())));
    }
    if actor.state != "running" {
        return Err(not_now(format!("`{path}` does not run now ({}); its supervisor starts it again", actor.state)));
    }
    let (effects, risk) = effects(how, &actor);
    let confirm_text = own_name(&path).to_owned();
    let shown_at = shown_at(how, &actor);
    let plan = Plan::EndActor { node, path: path.clone(), how, shown_at };
    Ok(Planned { kind: Kind::EndActor(how), target: path, effects, risk, confirm_text, plan })
}

fn own_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where the restart will show: a lane's own supervisor lives through its drain.
fn shown_at(how: ActorEnd, actor: &ActorPage) -> String {
    match (how, actor.kind.as_str(), &actor.parent) {
        (ActorEnd::Drain, "LaneSupervisor", _) => format!("{}/shard_reader", actor.name),
        (ActorEnd::Drain, "LeaseKeeper", Some(lane)) => format!("{lane}/shard_reader"),
        _ => actor.name.clone(),
    }
}

/// What ending this actor does.
fn effects(how: ActorEnd, actor: &ActorPage) -> (Vec<String>, Risk) {
    let parts: Vec<&str> = actor.name.split('/').collect();
    let own = own_name(&actor.name);
    let mut effects = Vec::new();
    if let (&[node, role, shard, ..], ActorEnd::Drain) = (&parts[..], how) {
        effects.push(format!("the lane {role} {shard} on {node} takes nothing more in, finishes what it has begun (10 s at most), and writes its checkpoint"));
        effects.push(
            "then all its actors start again from there, as a new generation; nothing is processed twice that ended in time"
                .to_owned(),
        );
        return (effects, Risk::Low);
    }
    effects.push(match how {
        ActorEnd::Kill => format!("{own} ends at once, in the middle of what it does, and starts again"),
        ActorEnd::Restart => format!("{own} ends after the message in hand and starts again"),
        ActorEnd::Drain => format!("{own} works off its mailbox, ends, and starts again"),
    });
    let risk = match (&parts[..], actor.kind.as_str()) {
        (&[node, role, shard], _) | (&[node, role, shard, _], "LeaseKeeper") => {
            effects.push(format!("the lane {role} {shard} on {node} ends with it; its lease is taken anew about a second later"));
            effects.extend(again(role));
            Risk::High
        }
        (&[node, role, shard, _], _) => {
            effects.push(format!("a lane is one-for-all: all actors of {role} {shard} on {node} end with it and start again from the checkpoint, as a new generation"));
            effects.extend(again(role));
            if role == "notify" && how == ActorEnd::Kill { Risk::High } else { Risk::Medium }
        }
        (&[node, role], "ShardAssigner") => {
            effects.push(format!("all lanes of {role} on {node} end with it and start again from their checkpoints"));
            effects.extend(again(role));
            Risk::High
        }
        (_, "Heartbeat") => {
            effects.push(
                "the node's heartbeat is written again within a second; its lanes pause if that takes more than 2 s".to_owned(),
            );
            Risk::Medium
        }
        (_, "IngestSupervisor" | "MqttReader" | "StreamWriter") => {
            effects.push("the ingest lane ends with it; what the broker has no acknowledgement for comes again".to_owned());
            Risk::Medium
        }
        _ => Risk::Medium,
    };
    if actor.mailbox > 0 && how != ActorEnd::Drain {
        effects.push(format!(
            "{} messages that wait in its mailbox are dropped; what they carry starts again from a checkpoint",
            actor.mailbox
        ));
    }
    effects.push("no record is blamed for it".to_owned());
    (effects, risk)
}

fn again(role: &str) -> Vec<String> {
    let mut again = vec!["what was in the lane is processed again; its effects stay one each".to_owned()];
    if role == "notify" {
        again.push(
            "texts that are just being sent, `notify.in_flight` of them at most, may be sent twice; they are counted".to_owned(),
        );
    }
    again
}

/// Ends the actor, and waits until it runs again.
pub(super) async fn end(api: &Api, node: &ClusterNode, path: &str, how: ActorEnd, shown_at: &str, record: &Record) -> End {
    let look = async || api.ask_now::<Option<ActorPage>>(node, &format!("{ACTOR}{shown_at}")).await.ok().flatten();
    let restarts = look().await.map_or(0, |actor| actor.restarts);
    let (by, reason) = (record.who().to_owned(), record.reason().to_owned());
    let order = NodeOrder::EndActor { path: path.to_owned(), how, by: by.clone(), reason };
    let started = Instant::now();
    let doubt = match begun(api.order(node, order).await) {
        Ok(doubt) => doubt,
        Err(refused) => return refused,
    };
    let within = if doubt.is_some() { AGAIN_WITHIN_IN_DOUBT } else { AGAIN_WITHIN };
    let mut last_state = "not known".to_owned();
    while started.elapsed() < within {
        sleep(LOOK_EVERY).await;
        let Some(actor) = look().await else { continue };
        if let (true, "running", Some(last)) = (actor.restarts > restarts, actor.state.as_str(), &actor.last) {
            let took = started.elapsed().as_secs_f64();
            return match &last.by {
                Some(told) if *told == by => {
                    End::Done(format!("{} on {}; it runs again after {took:.1} s", how.past(), node.name))
                }
                _ => End::failed("ended_otherwise", format!("it started again for another reason: {}", last.reason)),
            };
        }
        last_state = actor.state;
    }
    match doubt {
        Some(doubt) => End::failed("unknown_outcome", format!("{doubt}; it was not seen to start again")),
        None => End::timed_out(format!("it has not run again within {} s; its state is {last_state}", within.as_secs())),
    }
}
