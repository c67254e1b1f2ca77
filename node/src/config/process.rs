//! The process itself: who it is, what it shows, how it stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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

/// `[dashboard]`: the API that shows the node, and its page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DashboardConfig {
    /// Address of the API. Default `127.0.0.1:7300`; port 0 takes a free one. Any other than a loopback address needs the TLS files
    /// and tokens.
    pub(crate) listen: SocketAddr,
    /// PEM file with the certificate that the API shows, with those between it and its authority after it. Default empty: no TLS.
    pub(crate) tls_cert: PathBuf,
    /// PEM file with its private key; readable by the node alone. Default empty.
    pub(crate) tls_key: PathBuf,
    /// File with who may ask for what, of mode 0600; `speedtrap token new` writes it, and a running node sees its changes. Default
    /// empty: whoever reaches the API may do everything, which is why it is then kept on this machine.
    pub(crate) tokens_file: PathBuf,
    /// URL that people and other nodes reach the API at, `https://host:port` or `http://host:port`. Default empty: `listen`, with the
    /// port that was taken.
    pub(crate) url: String,
    /// Further names that requests may give for this node in their Host header, without ports. Default none: `listen` and the host of
    /// `url`.
    pub(crate) hosts: Vec<String>,
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

/// `[metrics]`: figures for who does not ask `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsConfig {
    /// Time between two writes of all metrics to standard output, in the format that CloudWatch takes them out of logs by
    /// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
    /// Default 0s: never; else 1s to 1h. CloudWatch keeps one figure a minute, so `60s` loses nothing.
    #[serde(with = "humantime_serde")]
    pub(crate) embedded_every: Duration,
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

impl DashboardConfig {
    /// Certificate and key, if the API speaks TLS.
    pub(crate) fn tls_files(&self) -> Option<(&Path, &Path)> {
        (!self.tls_cert.as_os_str().is_empty()).then_some((&self.tls_cert, &self.tls_key))
    }

    /// The file of tokens, if there is one.
    pub(crate) fn tokens_file(&self) -> Option<&Path> {
        (!self.tokens_file.as_os_str().is_empty()).then_some(&self.tokens_file)
    }

    /// The host of `url`, without its port.
    pub(crate) fn url_host(&self) -> Option<&str> {
        host_of(&self.url)
    }
}

/// The host of a URL that is nothing but scheme, host and port.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?.trim_end_matches('/');
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            port.parse::<u16>().ok().filter(|port| *port > 0)?;
            host
        }
        _ => authority,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    (!host.is_empty() && host.chars().all(is_host)).then_some(host)
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
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7_300)),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            tokens_file: PathBuf::new(),
            url: String::new(),
            hosts: Vec::new(),
            audit_file: PathBuf::new(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found_and_nothing_else_is_one() {
        for (url, host) in [
            ("https://node-1.example:7300", Some("node-1.example")),
            ("https://node-1.example", Some("node-1.example")),
            ("http://127.0.0.1:7300/", Some("127.0.0.1")),
            ("https://[2001:db8::1]:7300", Some("[2001:db8::1]")),
            ("https://[2001:db8::1]", Some("[2001:db8::1]")),
            ("node-1.example:7300", None),
            ("https://", None),
            ("https://node-1.example:0", None),
            ("https://node-1.example:port", None),
            ("https://node-1.example/path", None),
            ("https://user@node-1.example", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
