//! The lease tables before the first lane starts: none may be one of KCL 3.x, and what a stopped application left may be adopted.

use std::time::{Duration, SystemTime};

use futures::future::try_join_all;
use speedtrap_actors::cluster::{AdoptError, Adoption, Application, adopt};
use speedtrap_actors::ports::{FailureKind, LeaseError, RemoteFailure, SourceError};

use crate::exit::{Exit, Stop};

/// What `--adopt` and `--rewind` say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdoptArgs {
    pub(crate) adopt: bool,
    pub(crate) rewind: Option<Duration>,
}

/// Makes sure that every lease table may be used, and adopts it if asked.
///
/// # Errors
/// When a table is refused, or adoption is asked for and not possible.
pub(crate) async fn prepare(applications: &[Application], worker: &str, args: AdoptArgs) -> Result<(), Stop> {
    // Taken before anything is waited for, so that the time does not slip.
    let rewind_to = args.rewind.and_then(|rewind| SystemTime::now().checked_sub(rewind));
    let each = applications.iter().map(async |application| {
        match application.leases.ensure().await {
            Ok(()) => {}
            Err(LeaseError::Remote(failure)) if !args.adopt => {
                tracing::warn!(application = application.name, %failure, "lease table not seen; the lanes wait for it");
                return Ok(());
            }
            Err(error) => return Err(stop(&application.name, &error.into())),
        }
        if !args.adopt {
            return Ok(());
        }
        let adoption = Adoption { worker: worker.to_owned(), expires_after: application.timing.expires_after, rewind_to };
        let n = adopt(&*application.leases, &*application.source, &adoption).await;
        let n_leases = n.map_err(|error| stop(&application.name, &error))?;
        tracing::info!(application = application.name, n_leases, "leases adopted");
        Ok(())
    });
    try_join_all(each).await.map(drop)
}

fn stop(application: &str, error: &AdoptError) -> Stop {
    match error {
        AdoptError::StillRunning { .. } => Stop::new(Exit::Refused, format!("application `{application}` is still running"))
            .why(error)
            .next("stop it first, wait until its leases stand still, and start this node again"),
        AdoptError::Leases(LeaseError::Unusable(why)) => {
            Stop::new(Exit::Refused, format!("lease table `{application}` must not be written"))
                .why(why)
                .next("take the application back to KCL 2.x, or give this node a lease table of its own (dynamodb.*_leases)")
        }
        AdoptError::Leases(LeaseError::Remote(failure)) | AdoptError::Shards(SourceError::Remote(failure)) => {
            Stop::new(exit_of(failure), format!("the leases of `{application}` cannot be adopted")).why(failure)
        }
        AdoptError::Leases(LeaseError::Lost(_)) | AdoptError::Shards(SourceError::IteratorExpired | SourceError::Gone(_)) => {
            Stop::new(Exit::Failed, format!("the leases of `{application}` cannot be adopted"))
                .why(error)
                .next("start this node again")
        }
    }
}

fn exit_of(failure: &RemoteFailure) -> Exit {
    if failure.kind == FailureKind::Refused { Exit::Refused } else { Exit::Unreachable }
}
