//! Configuration: defaults, then a TOML file, then `SPEEDTRAP_LOADER_<SECTION>__<KEY>`, then flags. AWS endpoint, region and
//! credentials are not ours: the SDK reads `AWS_ENDPOINT_URL`, `AWS_REGION` and its credential chain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use speedtrap_actors::flow::{Backoff, RetryBudget};

use crate::contract_file::ContractError;
use crate::notify::Nodes;
use crate::pack::MAX_BYTES_PER_RECORD;
use crate::staged_row::hex;
use crate::warehouse::OnDrift;

const ENV_PREFIX: &str = "SPEEDTRAP_LOADER_";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoaderConfig {
    /// AWS account, part of the default bucket's name: 12 digits.
    pub(crate) account: String,
    /// Folder for rejected rows, made when there are any.
    pub(crate) rejects_dir: PathBuf,
    /// Folder for what is known of loads that are under way. Default: `speedtrap-loader` under `$XDG_STATE_HOME` or
    /// `~/.local/state`.
    pub(crate) state_dir: Option<PathBuf>,
    /// The contract of the files; without one, the built-in contract holds.
    pub(crate) contract: Option<PathBuf>,
    /// Nodes to tell of a committed load, tried in order. Without one, nodes notice within the hour their cache lasts.
    pub(crate) node_urls: Vec<String>,
    /// File with the token that nodes know the loader by, an operator's. Without one, they must want none.
    pub(crate) node_token_file: Option<PathBuf>,
    /// PEM file with the authorities that signed the nodes' certificates, for https addresses. Without one, those of the system.
    pub(crate) node_ca_file: Option<PathBuf>,
    /// How often a load may start again by itself: 0 to 100.
    pub(crate) max_restarts: u32,
    pub(crate) firehose: FirehoseConfig,
    pub(crate) s3: S3Config,
    pub(crate) warehouse: WarehouseConfig,
}

/// The delivery stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirehoseConfig {
    pub(crate) stream: String,
    /// Rows are packed into records of up to this size: 64 KiB to Firehose's 1000 KiB. Each record is billed in steps of 5 KiB.
    pub(crate) record_bytes: ByteSize,
    /// Calls at a time: 1 to 16.
    pub(crate) in_flight: usize,
    /// For one call: 1s to 5m.
    #[serde(with = "humantime_serde")]
    pub(crate) call_timeout: Duration,
    /// How long a call is repeated while nothing gets through: 1s to 1h.
    #[serde(with = "humantime_serde")]
    pub(crate) retry_for: Duration,
}

/// Where the stream delivers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Config {
    /// Default: `rtr-iot-drivers-<account>`.
    pub(crate) bucket: Option<String>,
    pub(crate) prefix: String,
    /// Pause between two looks: 50ms to 5m.
    #[serde(with = "humantime_serde")]
    pub(crate) poll: Duration,
    /// How long sent rows may stay away. Firehose buffers up to 15 minutes: 1s to 24h.
    #[serde(with = "humantime_serde")]
    pub(crate) staged_timeout: Duration,
    /// Put the bucket into the path instead of the host name. Default: whether `AWS_ENDPOINT_URL` is set.
    pub(crate) path_style: Option<bool>,
}

/// The warehouse; its tables have fixed names.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WarehouseConfig {
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; secret, so better in the environment or in `url_file`.
    pub(crate) url: Option<String>,
    /// A file that holds the URL.
    pub(crate) url_file: Option<PathBuf>,
    /// Certificates to trust, in PEM. Default: those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// The role as which Redshift reads the bucket: an ARN, or `default` for the cluster's default role
    /// (<https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-authorization.html>). PostgreSQL needs none.
    pub(crate) iam_role: String,
    /// The bucket's region, where Redshift is in another one.
    pub(crate) region: Option<String>,
    /// What to do where the table of drivers differs from what is loaded: freeze, add or discard.
    pub(crate) on_drift: OnDrift,
    /// For opening a connection: 1s to 5m.
    #[serde(with = "humantime_serde")]
    pub(crate) connect_timeout: Duration,
    /// For one statement: 1s to 6h.
    #[serde(with = "humantime_serde")]
    pub(crate) statement_timeout: Duration,
}

/// One key with a value it must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFault {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) allowed: &'static str,
}

/// What is wrong with the configuration; all of it at once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("bad configuration: {0}")]
    Unreadable(String),
    #[error("bad configuration:{}", faults.iter().map(|f| format!("\n  {} = `{}`, allowed: {}", f.key, f.value, f.allowed)).collect::<String>())]
    Faults { faults: Vec<ConfigFault> },
    #[error(transparent)]
    Contract(#[from] ContractError),
}

/// What the environment says beyond our own keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AwsEnvironment {
    pub(crate) endpoint_url: Option<String>,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            account: "000000000000".to_owned(),
            rejects_dir: PathBuf::from("rejects"),
            state_dir: None,
            contract: None,
            node_urls: Vec::new(),
            node_token_file: None,
            node_ca_file: None,
            max_restarts: 5,
            firehose: FirehoseConfig {
                stream: "rtr-iot-drivers".to_owned(),
                record_bytes: ByteSize::kib(500),
                in_flight: 2,
                call_timeout: Duration::from_secs(30),
                retry_for: Duration::from_secs(60),
            },
            s3: S3Config {
                bucket: None,
                prefix: "drivers/".to_owned(),
                poll: Duration::from_secs(1),
                staged_timeout: Duration::from_secs(15 * 60),
                path_style: None,
            },
            warehouse: WarehouseConfig {
                url: None,
                url_file: None,
                ca_file: None,
                iam_role: "default".to_owned(),
                region: None,
                on_drift: OnDrift::Freeze,
                connect_timeout: Duration::from_secs(10),
                statement_timeout: Duration::from_secs(10 * 60),
            },
        }
    }
}

impl LoaderConfig {
    /// Reads file and environment over the defaults; flags come after.
    pub(crate) fn read(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError::Unreadable(format!("`{}` is no file", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        for (name, value) in environment {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                figment = figment.merge((key.to_lowercase().replace("__", "."), env_value(&value)));
            }
        }
        figment.extract().map_err(|errors| {
            // The value of a key may be a secret, so only keys and reasons are shown.
            let said: Vec<String> =
                errors.into_iter().map(|error| format!("{}: {}", error.path.join("."), reason_of(&error.kind))).collect();
            ConfigError::Unreadable(said.join("; "))
        })
    }

    /// Checks every value.
    pub(crate) fn validate(&self, aws: &AwsEnvironment) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, key, value: String, allowed| {
            if !ok {
                faults.push(ConfigFault { key, value, allowed });
            }
        };
        let within = |value: Duration, from_ms: u64, to_s: u64| {
            value >= Duration::from_millis(from_ms) && value <= Duration::from_secs(to_s)
        };
        let is_account = self.account.len() == 12 && self.account.bytes().all(|byte| byte.is_ascii_digit());
        check(is_account, "account", self.account.clone(), "12 digits");
        check(self.max_restarts <= 100, "max_restarts", self.max_restarts.to_string(), "0 to 100");
        for url in &self.node_urls {
            check(
                url.starts_with("http://") || url.starts_with("https://"),
                "node_urls",
                url.clone(),
                "http:// or https:// addresses",
            );
        }
        let firehose = &self.firehose;
        check(!firehose.stream.is_empty(), "firehose.stream", firehose.stream.clone(), "a name");
        let bytes = firehose.record_bytes.as_u64();
        let is_record = (64 * 1024..=MAX_BYTES_PER_RECORD as u64).contains(&bytes);
        check(is_record, "firehose.record_bytes", firehose.record_bytes.to_string(), "64 KiB to 1000 KiB");
        check((1..=16).contains(&firehose.in_flight), "firehose.in_flight", firehose.in_flight.to_string(), "1 to 16");
        check(
            within(firehose.call_timeout, 1_000, 300),
            "firehose.call_timeout",
            format!("{:?}", firehose.call_timeout),
            "1s to 5m",
        );
        check(within(firehose.retry_for, 1_000, 3_600), "firehose.retry_for", format!("{:?}", firehose.retry_for), "1s to 1h");
        check(self.s3.bucket.as_deref() != Some(""), "s3.bucket", String::new(), "a name");
        check(within(self.s3.poll, 50, 300), "s3.poll", format!("{:?}", self.s3.poll), "50ms to 5m");
        check(
            within(self.s3.staged_timeout, 1_000, 86_400),
            "s3.staged_timeout",
            format!("{:?}", self.s3.staged_timeout),
            "1s to 24h",
        );
        let warehouse = &self.warehouse;
        let given = usize::from(warehouse.url.is_some()) + usize::from(warehouse.url_file.is_some());
        check(given == 1, "warehouse.url", format!("({given} given)"), "exactly one of warehouse.url and warehouse.url_file");
        check(
            within(warehouse.connect_timeout, 1_000, 300),
            "warehouse.connect_timeout",
            format!("{:?}", warehouse.connect_timeout),
            "1s to 5m",
        );
        // The value names an account, so it is not shown.
        let role = &warehouse.iam_role;
        let is_role = role == "default" || role.starts_with("arn:aws") && role.contains(":iam::") && role.contains(":role/");
        check(is_role, "warehouse.iam_role", "…".to_owned(), "default, or arn:aws:iam::<account>:role/<name>");
        let region = warehouse.region.as_deref().unwrap_or("us-east-2");
        let is_region = region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        check(is_region && !region.is_empty(), "warehouse.region", region.to_owned(), "a region such as us-east-2");
        let timeout = warehouse.statement_timeout;
        check(within(timeout, 1_000, 21_600), "warehouse.statement_timeout", format!("{timeout:?}"), "1s to 6h");
        // The SDK panics on an empty one.
        let is_endpoint = aws.endpoint_url.as_deref().is_none_or(|url| url.starts_with("http://") || url.starts_with("https://"));
        let endpoint = aws.endpoint_url.clone().unwrap_or_default();
        check(is_endpoint, "environment AWS_ENDPOINT_URL", endpoint, "unset, or an http:// or https:// address");
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults { faults }) }
    }

    /// Where the journals of loads are kept; nowhere for a user without a home.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let usual = || folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
        self.state_dir.clone().or_else(|| Some(usual()?.join("speedtrap-loader")))
    }

    /// The nodes to tell of loads.
    pub(crate) fn nodes(&self) -> Nodes<'_> {
        Nodes { urls: &self.node_urls, token_file: self.node_token_file.as_deref(), ca_file: self.node_ca_file.as_deref() }
    }

    /// The bucket's name.
    pub(crate) fn bucket(&self) -> String {
        self.s3.bucket.clone().unwrap_or_else(|| format!("rtr-iot-drivers-{}", self.account))
    }

    /// The warehouse's URL, read from its file if that is where it is.
    pub(crate) fn warehouse_url(&self) -> Result<String, ConfigError> {
        match (&self.warehouse.url, &self.warehouse.url_file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map(|url| url.trim().to_owned())
                .map_err(|error| ConfigError::Unreadable(format!("warehouse.url_file `{}`: {error}", file.display()))),
            (None, None) => Err(ConfigError::Unreadable("warehouse.url is not set".to_owned())),
        }
    }

    /// Stands for all places a load goes to, and says nothing about them.
    pub(crate) fn target(&self, aws: &AwsEnvironment) -> Result<String, ConfigError> {
        let url = self.warehouse_url()?;
        // Another user or password leads to the same warehouse.
        let warehouse = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let warehouse = warehouse.rsplit_once('@').map_or(warehouse, |(_, place)| place);
        let endpoint = aws.endpoint_url.clone().unwrap_or_default();
        let places = [endpoint.as_str(), &self.account, &self.firehose.stream, &self.bucket(), &self.s3.prefix, warehouse];
        Ok(hex(&Sha256::digest(places.join("\n"))[..8]))
    }

    /// How remote calls are repeated.
    pub(crate) fn retry(&self) -> RetryBudget {
        let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };
        RetryBudget { backoff, most_elapsed: self.firehose.retry_for }
    }
}

/// The URL holds the password.
impl fmt::Debug for WarehouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_ref().map(|_| "***");
        f.debug_struct("WarehouseConfig").field("url", &url).field("url_file", &self.url_file).finish_non_exhaustive()
    }
}

impl AwsEnvironment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        Self { endpoint_url: std::env::var("AWS_ENDPOINT_URL").ok() }
    }
}

/// Texts of digits with a leading zero stay texts: figment would make the number 0 of the account 000000000000.
fn env_value(text: &str) -> figment::value::Value {
    let is_code = text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_code || text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return figment::value::Value::from(text);
    }
    match text.parse() {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn reason_of(kind: &figment::error::Kind) -> String {
    use figment::error::Kind;
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("expected {expected}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
