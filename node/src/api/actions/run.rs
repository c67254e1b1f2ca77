//! Does what was confirmed, and notes how it ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use speedtrap_actors::cluster::OrderAnswer;

use super::desk::{Begun, End, Record};
use super::plan::Plan;
use super::{actors, letters, nodes, shards};
use crate::api::cluster::Api;

/// Time between two looks at what becomes of an action.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Begins a confirmed action; it ends by itself.
pub(super) fn start(api: &Arc<Api>, begun: Begun) {
    let Begun { planned, intent, record } = begun;
    let shared = Arc::clone(api);
    api.actions.spawn(async move {
        record.runs();
        // Whatever happens, the audit log says how it ended.
        let done = AssertUnwindSafe(carry_out(&shared, planned.plan, &record)).catch_unwind().await;
        let end = done.unwrap_or_else(|_| End::failed("broke_off", "it broke off by a fault of this program; see the log"));
        let audit = &shared.node.audit;
        match end.clone() {
            End::Done(outcome) => audit.conclude(intent, Ok(outcome)),
            End::Failed { why, .. } => audit.conclude(intent, Err(why)),
            End::Cancelled(outcome) => audit.cancelled(intent, outcome),
        }
        record.end(&end);
    });
}

async fn carry_out(api: &Api, plan: Plan, record: &Record) -> End {
    match plan {
        Plan::EndActor { node, path, how, shown_at } => actors::end(api, &node, &path, how, &shown_at, record).await,
        Plan::HandOver { from, to, application, role, shard } => {
            shards::hand_over(api, &from, &to, &application, &role, &shard).await
        }
        Plan::Rebalance { roles } => shards::rebalance(api, &roles, record).await,
        Plan::Drain { node, stay: true } => nodes::stand_aside(api, &node, record).await,
        Plan::Drain { node, stay: false } => nodes::leave(api, &node).await,
        Plan::Resume { node } => nodes::resume(api, &node).await,
        Plan::Letters { verb, ids, per_second } => letters::settle(api, verb, ids, per_second, record).await,
    }
}

impl End {
    pub(super) fn failed(code: &'static str, why: impl Into<String>) -> Self {
        Self::Failed { code, why: why.into() }
    }

    pub(super) fn timed_out(why: impl Into<String>) -> Self {
        Self::failed("timed_out", why)
    }
}

/// What an order came to: begun (with the doubt that is left about it), or refused.
pub(super) fn begun(answer: Result<OrderAnswer, String>) -> Result<Option<String>, End> {
    match answer {
        Ok(OrderAnswer::Begun) => Ok(None),
        Ok(OrderAnswer::Refused(_, why)) => Err(End::failed("refused", why)),
        Err(doubt) => Ok(Some(doubt)),
    }
}
