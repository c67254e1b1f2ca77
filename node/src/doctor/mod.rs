//! What a node needs, looked at without changing anything: AWS, the warehouse, this machine.
//!
//! A check is one future that comes to one finding. All run side by side, each with a timeout, so that the whole ends in time also
//! where nothing answers. `permissions` says for every call that writes why its form here cannot change anything.

mod aws;
mod files;
mod identity;
mod leases;
mod permissions;
mod ports;
mod quotas;
mod report;
mod streams;
mod tables;
mod trials;
mod warehouse;

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use crate::config::{NodeConfig, RoleName};
use crate::exit::Stop;
use crate::wiring::{self, Clients};
use report::Finding;
pub(crate) use report::{Group, Line, Report, Verdict};

/// A check may make several calls, one after the other.
const CHECK_TIMEOUT: Duration = Duration::from_secs(7);
/// All checks together.
const TOTAL: Duration = Duration::from_secs(14);
/// A check makes up to seven calls at a time; a small machine and a local cloud must bear all of them.
const MOST_AT_ONCE: usize = 8;

/// One thing to look at.
struct Check {
    group: Group,
    id: String,
    is_remote: bool,
    work: BoxFuture<'static, Finding>,
}

/// What checks of AWS share.
struct Place {
    config: NodeConfig,
    clients: Clients,
}

impl Check {
    /// A look at something that answers over the network.
    fn remote(group: Group, id: impl Into<String>, work: impl Future<Output = Finding> + Send + 'static) -> Self {
        Self { group, id: id.into(), is_remote: true, work: work.boxed() }
    }

    /// A look at this machine.
    fn local(group: Group, id: impl Into<String>, look: impl FnOnce() -> Finding + Send + 'static) -> Self {
        let work = async {
            let looked = tokio::task::spawn_blocking(look).await;
            looked.unwrap_or_else(|_| Finding::fail("the check itself failed", "report it, with the configuration"))
        };
        Self { group, id: id.into(), is_remote: false, work: work.boxed() }
    }

    async fn run(self, deadline: Instant) -> Line {
        let limit = CHECK_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let is_remote = self.is_remote;
        let finding = match tokio::time::timeout(limit, self.work).await {
            Ok(finding) => finding,
            Err(_) if limit.is_zero() => Finding::no_answer("the other checks took all the time there is"),
            Err(_) => Finding::no_answer(format!("it took more than {:.0} s", limit.as_secs_f64())),
        };
        Line::new(self.group, self.id, finding, is_remote)
    }
}

impl Place {
    fn has(&self, role: RoleName) -> bool {
        self.config.node.roles.contains(&role)
    }
}

/// Looks at everything that this configuration needs.
///
/// # Errors
/// When no region is set, so that nobody can be asked.
pub(crate) async fn examine(config: &NodeConfig) -> Result<Report, Stop> {
    let started = Instant::now();
    let (sdk, where_to) = wiring::sdk_config().await?;
    let sdk = impatient(sdk);
    let place = Arc::new(Place { config: config.clone(), clients: Clients::new(&sdk, where_to.clone()) });
    let deadline = started + TOTAL;
    let all = checks(&place, &sdk);
    let mut lines: Vec<_> = futures::stream::iter(all.into_iter().enumerate())
        .map(|(n, check)| async move { (n, check.run(deadline).await) })
        .buffer_unordered(MOST_AT_ONCE)
        .collect()
        .await;
    lines.sort_by_key(|(n, _)| *n);
    let lines = lines.into_iter().map(|(_, line)| line).collect();
    Ok(Report::new(config, where_to, lines, started.elapsed()))
}

/// Nobody waits for a doctor as long as a lane waits for a record.
fn impatient(sdk: SdkConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(Duration::from_secs(6))
        .build();
    sdk.into_builder().timeout_config(timeouts).retry_config(RetryConfig::standard().with_max_attempts(2)).build()
}

fn checks(place: &Arc<Place>, sdk: &SdkConfig) -> Vec<Check> {
    let (caller, mut all) = identity::checks(place, sdk);
    all.extend(streams::checks(place, &caller));
    all.extend(tables::checks(place));
    all.extend(leases::checks(place));
    all.extend(permissions::checks(place, &caller));
    all.extend(quotas::checks(place));
    all.extend(warehouse::checks(place));
    all.extend(files::checks(&place.config));
    all.extend(ports::checks(&place.config));
    all
}
