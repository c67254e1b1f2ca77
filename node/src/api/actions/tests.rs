//! Actions over a real loopback socket, on a node whose actors run on memory ports.

use std::time::Duration;

use serde_json::{Value, json};
use speedtrap_actors::cluster::{Cluster, NodeSupervisorMsg, Work, start_node};
use speedtrap_actors::observe::{Mailbox, Spot};

use super::desk::{ActionDesk, Confirmed, End, PREVIEW_LASTS};
use super::plan::{Kind, Plan, Planned, Risk};
use super::*;
use crate::api::tests::{Answer, Served, serve};
use crate::audit::Audit;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(served: &Served, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers: Vec<_> = [JSON].into_iter().chain(headers.iter().copied()).collect();
    served.ask("POST", path, &headers, &body.to_string()).await
}

async fn preview(served: &Served, who: &str, kind: &str, target: &str) -> Answer {
    let order = json!({"kind": kind, "target": target});
    post(served, "/api/v1/actions/preview", &[("x-speedtrap-who", who)], &order).await
}

async fn confirm(served: &Served, who: &str, key: &str, token: &str, text: &str) -> Answer {
    let order = json!({"token": token, "reason": "a test", "confirm_text": text});
    post(served, "/api/v1/actions", &[("x-speedtrap-who", who), ("idempotency-key", key)], &order).await
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

async fn ended(served: &Served, id: &str) -> Value {
    for _ in 0..200 {
        let page = served.get(&format!("/api/v1/actions/{id}")).await.json();
        if !page["outcome"].is_null() {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("action {id} did not end");
}

/// With the tree of a node that runs nothing but the root, and one actor below it that nobody starts again.
async fn with_root(served: &Served) -> Mailbox<NodeSupervisorMsg> {
    let work = Work::default();
    let root = start_node("node-1#1", &served.view.actors, work, Cluster::alone()).await.expect("it starts");
    assert!(served.view.root.set(root.clone()).is_ok());
    served.view.enter(crate::api::Phase::Running);
    root
}

#[tokio::test]
async fn an_actor_is_killed_once_after_a_preview_that_was_confirmed_by_whoever_made_it() {
    let served = serve().await;
    let root = with_root(&served).await;
    let spot = Spot { path: "node-1/enrich/a/speed_filter".into(), kind: "SpeedFilter", parent: Some("node-1/enrich/a".into()) };
    let actor = served.spawn(&spot).await;
    let page = preview(&served, "op", "kill-actor", &spot.path).await;
    let said = page.json();
    assert_eq!((page.status, &said["confirm_text"], &said["expires_s"]), (200, &json!("speed_filter"), &json!(60)), "{said}");
    assert_eq!((&said["risk"], &said["target"]), (&json!("medium"), &json!(spot.path)));
    assert!(said["effects"].to_string().contains("one-for-all"), "{said}");
    let token = said["token"].as_str().expect("a token");

    assert_eq!(code(&confirm(&served, "op", "k1", token, "speed-filter").await), (409, "not_confirmed".into()));
    assert_eq!(code(&confirm(&served, "other", "k1", token, "speed_filter").await), (403, "foreign_token".into()));
    let no_key = json!({"token": token, "reason": "a test", "confirm_text": "speed_filter"});
    let no_key = post(&served, "/api/v1/actions", &[("x-speedtrap-who", "op")], &no_key).await;
    assert_eq!(code(&no_key), (400, "no_idempotency_key".into()));
    assert!(actor.cell().get_status() == ractor::ActorStatus::Running, "nothing was done yet");

    let begun = confirm(&served, "op", "k1", token, "speed_filter").await;
    assert_eq!((begun.status, &begun.json()["state"]), (202, &json!("intent")));
    let id = begun.json()["action_id"].as_str().expect("an id").to_owned();
    let again = confirm(&served, "op", "k1", token, "speed_filter").await;
    assert_eq!((again.status, &again.json()["action_id"]), (202, &json!(id)), "the same key is the same action");
    assert_eq!(code(&confirm(&served, "op", "k1", token, "other").await), (409, "key_reused".into()));
    assert_eq!(code(&confirm(&served, "op", "k2", token, "speed_filter").await), (409, "used_token".into()));
    actor.cell().wait(Some(Duration::from_secs(5))).await.expect("it was killed");

    // Its supervisor would do this.
    assert_eq!(served.view.actors.ordered(&spot.path).map(|ordered| ordered.by).as_deref(), Some("op"));
    served.view.actors.failed(&spot.path, "killed");
    served.spawn(&spot).await;
    let page = ended(&served, &id).await;
    assert_eq!((&page["state"], &page["kind"], &page["who"]), (&json!("done"), &json!("kill-actor"), &json!("op")), "{page}");
    let rows = served.get("/api/v1/actors").await.json();
    let row = rows["rows"].as_array().expect("rows").iter().find(|row| row["name"] == spot.path.as_str()).expect("its row");
    assert_eq!((&row["last"]["reason"], &row["last"]["by"]), (&json!("killed by op: a test"), &json!("op")));
    assert_eq!(rows["restarts"][0]["by"], "op");

    let lines = served.get("/api/v1/audit").await.json()["lines"].as_array().expect("lines").clone();
    let phases: Vec<_> =
        lines.iter().map(|line| (line["phase"].as_str().expect("one"), line["who"].as_str().expect("one"))).collect();
    let refused = ("refused", "op");
    assert_eq!(phases[..3], [refused, ("refused", "other"), refused], "{lines:?}");
    assert_eq!(phases.iter().filter(|(phase, _)| *phase == "intent").count(), 1);
    let done = lines.iter().find(|line| line["phase"] == "done").expect("an outcome");
    assert_eq!(
        (&done["action_id"], &done["role"], &done["key"], &done["reason"]),
        (&json!(id), &json!("admin"), &json!("k1"), &json!("a test"))
    );
    drop(root);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_before_anything_is_asked_for() {
    let served = serve().await;
    let _root = with_root(&served).await;
    let refused = async |kind: &str, target: &str| code(&preview(&served, "op", kind, target).await);
    assert_eq!(refused("kill-actor", "node-1").await, (409, "not_allowed".into()));
    assert_eq!(refused("kill-actor", "node-1/nobody").await, (404, "unknown_actor".into()));
    assert_eq!(refused("restart-actor", "node-9/x").await, (404, "unknown_actor".into()));
    assert_eq!(refused("handoff-shard", "enrich/none").await, (404, "unknown_shard".into()));
    assert_eq!(refused("rebalance", "nothing").await, (404, "unknown_role".into()));
    assert_eq!(refused("drain-node", "node-9").await, (404, "unknown_node".into()));
    assert_eq!(refused("resume-node", "node-1").await, (409, "not_now".into()));
    assert_eq!(refused("explode", "node-1").await, (400, "unknown_kind".into()));
    assert_eq!(refused("redrive", "x").await, (503, "no_letters".into()));
    assert_eq!(code(&confirm(&served, "op", "k", "guessed", "x").await), (409, "unknown_token".into()));
    let cancel = post(&served, "/api/v1/actions/none/cancel", &[], &json!({})).await;
    assert_eq!(code(&cancel), (404, "unknown_action".into()));
}

#[tokio::test]
async fn a_node_that_stands_aside_is_shown_so_until_it_resumes_and_may_be_told_to_end() {
    let served = serve().await;
    let _root = with_root(&served).await;
    let order = json!({"kind": "drain-node", "target": "node-1", "options": {"stay": true}});
    let page = post(&served, "/api/v1/actions/preview", &[], &order).await.json();
    let begun = confirm(&served, "local", "k1", page["token"].as_str().expect("a token"), "node-1").await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let state = served.get("/api/v1/status").await.json();
    assert_eq!((&state["state"], served.get("/readyz").await.status), (&json!("draining"), 503));
    assert_eq!(served.get("/api/v1/nodes").await.json()["nodes"][0]["draining"], true);
    assert_eq!(code(&post(&served, "/api/v1/actions/preview", &[], &order).await), (409, "not_now".into()));

    let page = preview(&served, "local", "resume-node", "node-1").await.json();
    let begun = confirm(&served, "local", "k2", page["token"].as_str().expect("a token"), "node-1").await;
    let page = ended(&served, begun.json()["action_id"].as_str().expect("an id")).await;
    assert_eq!((&page["state"], served.get("/readyz").await.status), (&json!("done"), 200), "{page}");

    let drain = post(&served, "/api/v1/nodes/node-1/drain", &[("x-speedtrap-who", "op")], &json!({"reason": "old"})).await;
    assert_eq!(drain.status, 202);
    let last = served.get("/api/v1/audit").await.json()["lines"].as_array().expect("lines").last().cloned().expect("a line");
    assert_eq!(
        (&last["action"], &last["phase"], &last["who"], &last["reason"]),
        (&json!("drain-node"), &json!("done"), &json!("op"), &json!("old"))
    );
}

fn planned() -> Planned {
    let plan = Plan::Rebalance { roles: Vec::new() };
    Planned {
        kind: Kind::Rebalance,
        target: "all".into(),
        effects: Vec::new(),
        risk: Risk::Low,
        confirm_text: "all".into(),
        plan,
    }
}

fn try_to(desk: &ActionDesk, audit: &Audit, key: &str, token: &str) -> Result<String, String> {
    let caller = Caller { name: "op".into(), role: Role::Operator, from: "page" };
    let order = ConfirmOrder { token: token.to_owned(), reason: "r".into(), confirm_text: "all".into() };
    match desk.confirm(&caller, key, &order, audit, |_| Ok(())) {
        Ok(Confirmed::Now(begun)) => {
            begun.record.end(&End::Done("done".into()));
            Ok(begun.record.id())
        }
        Ok(Confirmed::Before(id)) => Ok(id),
        Err(problem) => Err(problem.detail().to_owned()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_preview_lasts_a_minute_and_only_so_many_are_kept() {
    let (desk, audit) = (ActionDesk::default(), Audit::in_memory("node-1"));
    let token = desk.keep("op", planned());
    tokio::time::advance(PREVIEW_LASTS).await;
    assert!(try_to(&desk, &audit, "a", &token).expect_err("too old").contains("older than a minute"));
    let first = desk.keep("op", planned());
    let tokens: Vec<_> = (0..64).map(|_| desk.keep("op", planned())).collect();
    assert!(try_to(&desk, &audit, "b", &first).expect_err("pushed out").contains("no such preview"));
    assert!(try_to(&desk, &audit, "b", &tokens[0]).is_ok());
}

#[test]
fn the_last_two_hundred_actions_are_kept() {
    let (desk, audit) = (ActionDesk::default(), Audit::in_memory("node-1"));
    let ids: Vec<_> =
        (0..201).map(|n| try_to(&desk, &audit, &n.to_string(), &desk.keep("op", planned())).expect("confirmed")).collect();
    assert_eq!((desk.all().len(), &desk.all()[0].action_id), (200, &ids[200]));
    assert!(desk.find(&ids[0]).is_none() && desk.find(&ids[1]).is_some());
}
