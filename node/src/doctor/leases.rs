//! Lease tables: not there yet, or in a mode that nodes may share.

use std::sync::Arc;
use std::time::Duration;

use speedtrap_actors::adapters::{CallLimits, DynamoLeaseTable};
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::Calls;
use speedtrap_actors::ports::{FailureKind, LeaseError, LeaseTable as _};

use super::aws::Told;
use super::report::Finding;
use super::{Check, Group, Place};
use crate::config::RoleName;

const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(3),
    budget: RetryBudget {
        backoff: Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) },
        most_elapsed: Duration::from_secs(1),
    },
    calls: Calls::unwatched(),
};

/// One table a role.
pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let of_role = |role: &RoleName| {
        let (place, name) = (Arc::clone(place), table_of(&place.config.dynamodb, *role).to_owned());
        Check::remote(Group::Leases, format!("leases.{}", role.label()), async move { leases(&place, &name).await })
    };
    place.config.node.roles.iter().map(of_role).collect()
}

/// The lease table of a role.
pub(super) fn table_of(tables: &crate::config::DynamoDbConfig, role: RoleName) -> &str {
    match role {
        RoleName::Enrich => &tables.enrich_leases,
        RoleName::Notify => &tables.notify_leases,
        RoleName::Archive => &tables.archive_leases,
        RoleName::Errors => &tables.errors_leases,
    }
}

async fn leases(place: &Place, name: &str) -> Finding {
    let dynamodb = &place.clients.dynamodb;
    let answer = dynamodb.describe_table().table_name(name).send().await;
    if answer.is_err() {
        let missing = || Finding::ok(format!("`{name}` is not there yet; the first node makes it"));
        return Told::of(&answer).finding("dynamodb:DescribeTable", missing);
    }
    let table = DynamoLeaseTable::new(dynamodb, name, LIMITS);
    // It is there, so nothing is made; the table and its rows are only read.
    let seen = match table.ensure().await {
        Ok(()) => table.list().await,
        Err(error) => Err(error),
    };
    match seen {
        Ok(leases) => {
            let owned = leases.iter().filter(|lease| lease.owner.is_some()).count();
            Finding::ok(format!("`{name}`: {} leases, {owned} of them owned, in the format of KCL 1.x and 2.x", leases.len()))
        }
        Err(LeaseError::Unusable(why)) => Finding::fail(
            format!("`{name}` must not be written: {why}"),
            "take the application back to KCL 2.x, or give this node a lease table of its own (dynamodb.*_leases)",
        ),
        Err(LeaseError::Remote(failure)) if failure.kind == FailureKind::Refused => {
            Finding::skip(format!("not known here: the rows of `{name}` may not be read ({failure})"))
        }
        Err(LeaseError::Remote(failure)) => Finding::no_answer(failure),
        Err(LeaseError::Lost(shard)) => Finding::warn(format!("the lease of {shard} changed while it was read"), "look again"),
    }
}
