//! Parts of a node's status: how it asks the warehouse, and what became of texts.

use speedtrap_actors::domain::{Outcome, OutcomeCounts};
use speedtrap_actors::ports::Connections;

use serde::{Deserialize, Serialize};

use super::pages::millis;
use super::{ApplicationView, DriverCache, NodeView};

/// Queries to the warehouse since the node started, and its connections now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WarehousePage {
    /// Queries that were answered.
    pub(crate) answered: u64,
    /// Mean of their times, the wait for a connection included; null before the first.
    pub(crate) mean_ms: Option<f64>,
    pub(crate) times: Vec<TimeCount>,
    pub(crate) connections: Option<ConnectionsPage>,
}

/// How many took no longer than this, and longer than the one before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TimeCount {
    /// Null: any time.
    pub(crate) up_to_ms: Option<u64>,
    pub(crate) queries: u64,
}

/// The connections of a node to the warehouse.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectionsPage {
    pub(crate) most: u64,
    pub(crate) open: u64,
    pub(crate) in_use: u64,
    /// Queries that wait for one.
    pub(crate) waiting: u64,
}

/// Texts that came to the same end for the same cause.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextCause {
    /// `sent`, `suppressed` or `failed`.
    pub(crate) fate: String,
    /// Null where there is nothing to say.
    pub(crate) cause: Option<String>,
    /// Those that a checkpoint has settled; of failed ones, as often as it was tried.
    pub(crate) texts: u64,
}

impl WarehousePage {
    pub(super) fn of(drivers: &DriverCache) -> Self {
        let seen = (drivers.query_times)();
        let answered: u64 = seen.buckets.iter().map(|(_, n)| n).sum();
        let times = seen.buckets.iter().map(|(end, n)| TimeCount { up_to_ms: end.map(millis), queries: *n });
        Self {
            answered,
            mean_ms: (answered > 0).then(|| seen.sum.as_secs_f64() * 1_000.0 / answered as f64),
            times: times.collect(),
            connections: (drivers.connections)().map(ConnectionsPage::of),
        }
    }
}

impl ConnectionsPage {
    fn of(Connections { most, open, in_use, waiting }: Connections) -> Self {
        Self { most: most as u64, open: open as u64, in_use: in_use as u64, waiting: waiting as u64 }
    }
}

impl TextCause {
    /// All that this node has decided: nothing where it decides nothing.
    pub(super) fn all(view: &NodeView) -> Vec<Self> {
        let of = |role: &str| view.applications.iter().find(|application| application.role == role);
        let mut all = Vec::new();
        let mut add = |fate: &str, cause: Option<&str>, texts| {
            all.push(Self { fate: fate.to_owned(), cause: cause.map(str::to_owned), texts });
        };
        if let Some(notify) = of("notify") {
            let ended = ended(notify);
            add("sent", None, ended.get(Outcome::Notified));
            add("suppressed", Some("texted before"), ended.get(Outcome::Duplicate));
            add("suppressed", Some("cool-down"), ended.get(Outcome::Suppressed));
            for (cause, texts) in notify.stats.refused_texts() {
                add("failed", Some(&cause), texts);
            }
        }
        if let Some(enrich) = of("enrich") {
            add("suppressed", Some("no driver known"), ended(enrich).get(Outcome::OwnerUnknown));
        }
        all
    }
}

fn ended(application: &ApplicationView) -> OutcomeCounts {
    let mut all = OutcomeCounts::default();
    application.stats.snapshot().iter().for_each(|lane| all.merge(&lane.outcomes));
    all
}
