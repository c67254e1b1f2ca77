//! The process itself: who it is, what it shows, how it stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// `[node]`: who this node is and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSection {
    /// Name of this node, unlike that of any other; it owns leases and claims under it. Default `node-1`; 1 to 64 characters
    /// `[A-Za-z0-9._-]`.
    pub(crate) name: String,
    /// Kinds of lane that run here, each once. Default all four: `enrich`, `notify`, `archive`, `errors`.
    pub(crate) roles: Vec<RoleName>,
}

/// A kind of lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    /// Finds violations, their drivers, stores and publishes them.
    Enrich,
    /// Texts drivers.
    Notify,
    /// Archives stored violations.
    Archive,
    /// Makes what the IoT rule could not deliver into dead letters.
    Errors,
}

/// `[dashboard]`: the API that shows the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DashboardConfig {
    /// Address of the API. Default `127.0.0.1:7300`; a loopback address, since it knows neither TLS nor users; port 0 takes a
    /// free one.
    pub(crate) listen: SocketAddr,
    /// Where actions of operators are logged, one JSON line before and one after each. Default empty: `audit-<node>.ndjson` in the
    /// folder that systemd gives (`StateDirectory=`), else in `speedtrap/` of the user's state folder
    /// (<https://specifications.freedesktop.org/basedir-spec/latest/>).
    pub(crate) audit_file: PathBuf,
}

/// `[drain]`: the clean stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DrainConfig {
    /// Longest time from SIGTERM until the lanes have finished their calls, written their checkpoints and released their
    /// leases. Default 30s, which is also what ECS waits before it kills
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>); 1s to 15min.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// Least level of this program's own lines: `error`, `warn`, `info`, `debug` or `trace`. Libraries stay at `info` or
    /// above, since their finer lines hold payloads. Default `info`.
    pub(crate) level: LogLevel,
    /// `human`, `json` (one object a line), or `auto`: human on a terminal, else json. Default `auto`.
    pub(crate) format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// By what standard error is.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

impl RoleName {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Enrich, Self::Notify, Self::Archive, Self::Errors];

    /// The name used in the configuration.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Enrich => "enrich",
            Self::Notify => "notify",
            Self::Archive => "archive",
            Self::Errors => "errors",
        }
    }
}

impl Default for NodeSection {
    fn default() -> Self {
        Self { name: "node-1".into(), roles: RoleName::ALL.to_vec() }
    }
}

impl Default for DashboardConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7_300)), audit_file: PathBuf::new() }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Auto }
    }
}
