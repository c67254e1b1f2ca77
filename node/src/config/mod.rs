//! The configuration of a node: one struct a section, and one place for each default.
//!
//! Later sources win: defaults, the TOML file, the environment (`SPEEDTRAP_<SECTION>__<KEY>`), flags. AWS endpoints, regions and
//! credentials are none of it: they come from the AWS SDK's own chain.

mod cluster;
mod environment;
mod ingest;
mod lanes;
mod load;
mod process;
mod show;
mod streams;
mod validate;
mod warehouse;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use cluster::ClusterConfig;
pub(crate) use environment::{aws_endpoint_faults, has_own_aws_endpoint, no_colour, user};
pub(crate) use ingest::IngestConfig;
use lanes::{LaneConfig, LeaseConfig, NotifyConfig, RuleConfig};
pub(crate) use load::{Flags, load};
pub(crate) use process::{DashboardConfig, DrainConfig, LogConfig, LogFormat, LogLevel, RoleName};
use process::{MetricsConfig, NodeSection};
pub(crate) use show::{DEFAULTS, to_json, to_toml};
pub(crate) use streams::DynamoDbConfig;
use streams::{ArchiveConfig, KinesisConfig, PersistConfig};
pub(crate) use validate::LEAST_COOKIE_BYTES;
use warehouse::LookupConfig;
pub(crate) use warehouse::WarehouseConfig;

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeConfig {
    pub(crate) node: NodeSection,
    pub(crate) kinesis: KinesisConfig,
    pub(crate) dynamodb: DynamoDbConfig,
    pub(crate) archive: ArchiveConfig,
    pub(crate) lane: LaneConfig,
    pub(crate) rule: RuleConfig,
    pub(crate) lookup: LookupConfig,
    pub(crate) warehouse: WarehouseConfig,
    pub(crate) persist: PersistConfig,
    pub(crate) notify: NotifyConfig,
    pub(crate) lease: LeaseConfig,
    pub(crate) ingest: IngestConfig,
    pub(crate) cluster: ClusterConfig,
    pub(crate) dashboard: DashboardConfig,
    pub(crate) drain: DrainConfig,
    pub(crate) log: LogConfig,
    pub(crate) metrics: MetricsConfig,
}

impl NodeConfig {
    /// Where actions of operators are logged.
    pub(crate) fn audit_file(&self) -> PathBuf {
        match &self.dashboard.audit_file {
            named if !named.as_os_str().is_empty() => named.clone(),
            _ => environment::state_folder().join(format!("audit-{}.ndjson", self.node.name)),
        }
    }
}

/// One thing that is wrong, with where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFault {
    /// Section and key, such as `lane.batch_events`; or a file.
    pub(crate) key: String,
    /// What was found and what is allowed.
    pub(crate) what: String,
    /// Where it was set, if anywhere.
    pub(crate) origin: Option<String>,
}

/// Everything that is wrong, found in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFaults(pub(crate) Vec<ConfigFault>);

impl ConfigFault {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into(), origin: None }
    }
}

impl std::fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.0.len();
        write!(f, "bad configuration ({n} {}):", if n == 1 { "fault" } else { "faults" })?;
        for fault in &self.0 {
            write!(f, "\n  {}: {}", fault.key, fault.what)?;
            if let Some(origin) = &fault.origin {
                write!(f, " [{origin}]")?;
            }
        }
        Ok(())
    }
}
