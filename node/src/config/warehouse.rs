//! The warehouse of drivers and the cache in front of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// `[lookup]`: the cache of drivers and the queries for what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LookupConfig {
    /// How long a driver is remembered. Default 1h; 1s to 7d. A load told to the node is seen at once; a load it was not told
    /// of is seen after this time.
    #[serde(with = "humantime_serde")]
    pub(crate) known_for: Duration,
    /// How long it is remembered that a plate has no driver. Default 60s; 1s to 1h.
    #[serde(with = "humantime_serde")]
    pub(crate) unknown_for: Duration,
    /// Most plates remembered; one takes about 600 bytes. Default 100000; 1 to 50000000.
    pub(crate) max_entries: u64,
    /// How long a missing plate waits for others to share its query. Default 5ms; 0ms to 1s.
    #[serde(with = "humantime_serde")]
    pub(crate) batch_linger: Duration,
    /// Most queries at once. Default 4; 1 to `warehouse.pool_size`, since each needs a connection.
    pub(crate) max_queries: usize,
}

/// `[warehouse]`: where the table of drivers is. Of `url`, `url_file` and `secret_arn` the first that is set counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WarehouseConfig {
    /// `postgresql://user:password@host:5439/database`, best given by `SPEEDTRAP_WAREHOUSE__URL`. Shown as `***`. Default empty.
    pub(crate) url: Secret,
    /// File that holds such a URL and nothing else; readable by the node alone. Default empty.
    pub(crate) url_file: String,
    /// ARN or name of a secret in Secrets Manager: JSON with `username`, `password` and, as Redshift writes them, `host`, `port`
    /// and `dbName`; what it lacks is taken from the three keys below. Default `rtr-iot/warehouse`.
    pub(crate) secret_arn: String,
    /// Host of the warehouse if the secret names none. Default empty.
    pub(crate) host: String,
    /// Its port if the secret names none. Default 5439, Redshift's; 1 to 65535.
    pub(crate) port: u16,
    /// Its database if the secret names none. Default `dev`, Redshift's first.
    pub(crate) database: String,
    /// Most connections. Default 4; 1 to 50. Redshift takes 500 to 2000 for all its users
    /// (<https://docs.aws.amazon.com/redshift/latest/mgmt/amazon-redshift-limits.html>).
    pub(crate) pool_size: usize,
    /// Longest time to get a connection. Default 5s; 100ms to 1min.
    #[serde(with = "humantime_serde")]
    pub(crate) connect_timeout: Duration,
    /// Longest time of one query. Default 10s; 100ms to 5min.
    #[serde(with = "humantime_serde")]
    pub(crate) query_timeout: Duration,
    /// PEM file with the authorities that the warehouse's certificate is checked against. Default empty: those of the system,
    /// which know Redshift's
    /// (<https://docs.aws.amazon.com/redshift/latest/mgmt/connecting-transitioning-to-acm-certs.html>). TLS is used unless the
    /// URL says `sslmode=disable` or names this machine.
    pub(crate) ca_file: String,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is set.
    pub(crate) fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_set() { "***" } else { "" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "***" } else { "(not set)" })
    }
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            known_for: Duration::from_secs(3_600),
            unknown_for: Duration::from_secs(60),
            max_entries: 100_000,
            batch_linger: Duration::from_millis(5),
            max_queries: 4,
        }
    }
}

impl Default for WarehouseConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            url_file: String::new(),
            secret_arn: "rtr-iot/warehouse".into(),
            host: String::new(),
            port: 5_439,
            database: "dev".into(),
            pool_size: 4,
            connect_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(10),
            ca_file: String::new(),
        }
    }
}
