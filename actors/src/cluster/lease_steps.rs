//! Reads what a lease plan is made from, and does what it says.

use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::Application;
use super::lease_plan::Step;
use super::shard_assigner::ShardAssignerMsg;
use crate::observe::Mailbox;
use crate::ports::{Lease, LeaseError, Peers, Shard, SourceError};

/// Leases taken at the same time. A node that takes over hundreds does not wait for each one in turn.
const AT_ONCE: usize = 8;

/// What a look found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) shards: Vec<Shard>,
    pub(super) leases: Vec<Lease>,
}

/// Why the shards or leases could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Leases(#[from] LeaseError),
    #[error(transparent)]
    Shards(#[from] SourceError),
}

/// Looks at the leases, and at the shards unless they are known already.
pub(super) async fn find(application: &Application, table_made: bool, shards: Option<Vec<Shard>>) -> Result<Finding, SyncError> {
    if !table_made {
        application.leases.ensure().await?;
    }
    let shards = match shards {
        Some(shards) => shards,
        None => application.source.shards().await?,
    };
    Ok(Finding { shards, leases: application.leases.list().await? })
}

/// Does what can be done, and tells the assigner; what another node was faster at, or what fails, shows at the next look. Rows are
/// made one after the other, since a child's row says that its parents' were made.
pub(super) async fn perform(
    application: &Application,
    peers: &dyn Peers,
    worker: &str,
    steps: Vec<Step>,
    assigner: &Mailbox<ShardAssignerMsg>,
) {
    let (creates, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| matches!(step, Step::Create(_)));
    let mut changed = false;
    for step in creates {
        if let Step::Create(new) = step {
            match application.leases.create(&new).await {
                Ok(made) => changed |= made,
                Err(error) => {
                    tracing::warn!(application = application.name, %error, "lease not made");
                    break;
                }
            }
        }
    }
    let done = stream::iter(others).map(|step| do_one(application, peers, worker, step));
    let mut done = done.buffer_unordered(AT_ONCE);
    while let Some(news) = done.next().await {
        changed |= matches!(news, Some(ShardAssignerMsg::Taken(..)));
        if let Some(news) = news {
            // When the actor is gone there is nobody left to tell.
            let _gone = assigner.cast(news);
        }
    }
    let _gone = assigner.cast(ShardAssignerMsg::Performed);
    if changed {
        let _gone = assigner.cast(ShardAssignerMsg::LookAgain);
    }
}

async fn do_one(application: &Application, peers: &dyn Peers, worker: &str, step: Step) -> Option<ShardAssignerMsg> {
    let result = match step {
        Step::Create(_) => return None,
        Step::Take(lease) => {
            let begun = Instant::now();
            let taken = application.leases.take(&lease, worker).await;
            taken.map(|lease| Some(ShardAssignerMsg::Taken(lease, begun)))
        }
        Step::NoteHashRange(shard, range) => application.leases.note_hash_range(&shard, &range).await.map(|()| None),
        Step::Delete(lease) => application.leases.delete(&lease).await.map(|()| None),
        Step::Ask(other) => match peers.ask_lease(&other, &application.name, worker).await {
            Ok(promised) => return Some(ShardAssignerMsg::Promised(promised)),
            Err(failure) => {
                tracing::info!(application = application.name, %failure, "no lease asked for");
                return None;
            }
        },
    };
    match result {
        Ok(news) => news,
        Err(LeaseError::Lost(shard)) => {
            tracing::info!(application = application.name, %shard, "another node was faster");
            None
        }
        Err(error) => {
            tracing::warn!(application = application.name, %error, "lease not taken");
            None
        }
    }
}
