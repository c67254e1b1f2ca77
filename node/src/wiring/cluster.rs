//! What makes a node one of several: its socket, its place in the node table, the secret of the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use speedtrap_actors::adapters::{CallLimits, ClusterSocket, ClusterTls, DynamoNodeTable};
use speedtrap_actors::cluster::{ClusterTimings, Desk, Links, MembershipSettings};
use speedtrap_actors::flow::{Pulse, RetryBudget};
use speedtrap_actors::ports::{FailureKind, NodeRow, NodeTable, RemoteFailure};

use super::bad;
use super::clients::Clients;
use crate::config::{LEAST_COOKIE_BYTES, NodeConfig};
use crate::exit::{Exit, Stop};

/// One write of a heartbeat, or one scan: shorter than the second between two of them.
const CALL_TIMEOUT: Duration = Duration::from_millis(800);

/// How this node reaches others and is reached.
pub(crate) struct ClusterParts {
    table: Option<Arc<dyn NodeTable>>,
    socket: ClusterSocket,
    address: String,
    join: Vec<String>,
    cookie: String,
    boot: u64,
}

/// Opens the socket and finds the node table. `None` for a node that nothing leads to others: it has no node table, nobody to
/// join and no cookie.
pub(super) async fn parts(config: &NodeConfig, clients: &Clients) -> Result<Option<ClusterParts>, Stop> {
    let (cluster, name) = (&config.cluster, &config.dynamodb.nodes_table);
    if name.is_empty() && cluster.join.is_empty() && !cluster.has_cookie() {
        return Ok(None);
    }
    let cookie = given_cookie(config)?;
    let socket = socket(config).await?;
    let local = socket.local_addr().map_err(|error| Stop::new(Exit::Failed, "cannot tell the cluster address").why(error))?;
    let address = if cluster.advertise.is_empty() { local.to_string() } else { cluster.advertise.clone() };
    let mut table: Option<Arc<dyn NodeTable>> = None;
    let (mut kept, mut boot) = (None, now_ms());
    if !name.is_empty() {
        let patient = DynamoNodeTable::new(&clients.dynamodb, name, clients.limits("membership"));
        let cannot = |error: RemoteFailure| cannot_use(name, &error);
        patient.ensure().await.map_err(cannot)?;
        boot = boot_after(&patient, &config.node.name, boot).await.map_err(cannot)?;
        if cookie.is_none() {
            kept = Some(patient.shared_cookie().await.map_err(cannot)?);
        }
        let limits = clients.limits("heartbeat");
        let once = RetryBudget { most_elapsed: Duration::ZERO, ..limits.budget };
        let limits = CallLimits { timeout: CALL_TIMEOUT, budget: once, ..limits };
        table = Some(Arc::new(DynamoNodeTable::new(&clients.dynamodb, name, limits)));
    }
    let cookie = cookie.or(kept).ok_or_else(|| bad("cluster.cookie", &"is not set"))?;
    Ok(Some(ClusterParts { table, socket, address, join: cluster.join.clone(), cookie, boot }))
}

impl ClusterParts {
    /// Whether this node may act: watched through the node table, it may not while its heartbeat is stale.
    pub(crate) fn pulse(&self) -> Pulse {
        if self.table.is_some() { Pulse::lasting(ClusterTimings::default().still_for) } else { Pulse::unwatched() }
    }

    /// Tells this start of the node apart from earlier ones.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// Joins them with what the program knows.
    pub(crate) fn settings(
        self,
        me: NodeRow,
        links: Links,
        desk: Desk,
        pulse: Pulse,
        superseded: Arc<dyn Fn() + Send + Sync>,
    ) -> MembershipSettings {
        let Self { table, socket, address, join, cookie, boot: _ } = self;
        let me = NodeRow { address: Some(address), ..me };
        let (socket, timings) = (Arc::new(socket), ClusterTimings::default());
        MembershipSettings { me, table, socket, join, cookie, links, desk, pulse, superseded, timings }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The boot of a start at this time: later than the one that has the row of its name, though the clock may have gone back since.
async fn boot_after(table: &dyn NodeTable, name: &str, now_ms: u64) -> Result<u64, RemoteFailure> {
    let rows = table.list().await?;
    let last = rows.iter().find(|row| row.name == name).map_or(0, |row| row.boot);
    Ok(now_ms.max(last.saturating_add(1)))
}

async fn socket(config: &NodeConfig) -> Result<ClusterSocket, Stop> {
    let cluster = &config.cluster;
    let tls = if cluster.tls_ca.is_empty() {
        None
    } else {
        let [ca, certificate, key] = cluster.tls_files().map(|(_, file)| Path::new(file));
        let tls = ClusterTls::from_files(ca, certificate, key, &cluster.tls_name);
        Some(tls.map_err(|error| {
            let at_fault = cluster.tls_files().into_iter().find(|(_, file)| Path::new(file) == error.file);
            bad(at_fault.map_or("cluster.tls_name", |(key, _)| key), &error)
        })?)
    };
    ClusterSocket::bind(cluster.listen, tls).await.map_err(|error| {
        Stop::new(Exit::Failed, format!("cannot listen on {} for other nodes", cluster.listen))
            .why(error)
            .next("give this node a cluster address of its own with --cluster-listen (port 0 takes a free one)")
    })
}

fn given_cookie(config: &NodeConfig) -> Result<Option<String>, Stop> {
    let cluster = &config.cluster;
    if cluster.cookie.is_set() {
        return Ok(Some(cluster.cookie.reveal().to_owned()));
    }
    let file = &cluster.cookie_file;
    if file.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| bad("cluster.cookie_file", &format_args!("`{file}` cannot be read: {error}")))?;
    let cookie = text.trim();
    if cookie.len() < LEAST_COOKIE_BYTES {
        let why = format_args!("`{file}` holds less than {LEAST_COOKIE_BYTES} bytes, too few for a secret");
        return Err(bad("cluster.cookie_file", &why));
    }
    Ok(Some(cookie.to_owned()))
}

fn cannot_use(table: &str, error: &RemoteFailure) -> Stop {
    let exit = if error.kind == FailureKind::Refused { Exit::Refused } else { Exit::Unreachable };
    Stop::new(exit, format!("cannot use node table `{table}`")).why(error).next(
        "check the credentials and what they may do; with dynamodb.nodes_table = \"\" a node does without, and without others",
    )
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::testing::MemoryNodeTable;

    use super::*;

    #[tokio::test]
    async fn a_start_is_later_than_the_last_one_though_the_clock_went_back() {
        let table = MemoryNodeTable::default();
        let row = |name: &str, boot| NodeRow {
            name: name.into(),
            boot,
            address: None,
            dashboard: None,
            roles: Vec::new(),
            heartbeat: 0,
            draining: false,
        };
        table.register(&row("node-1", 5_000)).await.expect("registered");
        table.register(&row("node-2", 9_000)).await.expect("registered");
        assert_eq!(boot_after(&table, "node-1", 6_000).await, Ok(6_000));
        let boot = boot_after(&table, "node-1", 1_000).await.expect("the table can be read");
        assert_eq!(boot, 5_001);
        assert_eq!(table.register(&row("node-1", boot)).await, Ok(()));
        assert_eq!(boot_after(&table, "node-3", 1_000).await, Ok(1_000));
    }
}
