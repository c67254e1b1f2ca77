//! Prices, from a dated file.

use serde::Deserialize;

/// The file that the program carries, with the pages that its prices are from.
pub(crate) const PRICES: &str = include_str!("../../../deploy/aws/prices.toml");

/// What everything costs, in US dollars.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    pub(crate) region: String,
    /// When they were written down.
    pub(crate) as_of: String,
    /// Which of them, as `section.key`, were found in no source.
    #[serde(default)]
    pub(crate) unverified: Vec<String>,
    pub(super) iot: Iot,
    pub(super) kinesis: Kinesis,
    pub(super) dynamodb: DynamoDb,
    pub(super) firehose: Firehose,
    pub(super) s3: S3,
    pub(super) sms: Sms,
    pub(super) ec2: Ec2,
    pub(super) redshift: Redshift,
    pub(super) secrets: Secrets,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Iot {
    pub(super) million_messages: f64,
    pub(super) million_rules_triggered: f64,
    pub(super) million_actions: f64,
    pub(super) million_minutes_connected: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kinesis {
    pub(super) shard_hour: f64,
    pub(super) million_put_units: f64,
    pub(super) extended_shard_hour: f64,
    pub(super) long_term_gb_month: f64,
    pub(super) fan_out_consumer_shard_hour: f64,
    pub(super) fan_out_gb: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DynamoDb {
    pub(super) million_writes: f64,
    pub(super) million_reads: f64,
    pub(super) gb_month: f64,
    pub(super) million_stream_reads: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Firehose {
    pub(super) gb: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3 {
    pub(super) gb_month: f64,
    pub(super) thousand_puts: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sms {
    pub(super) part: f64,
    pub(super) carrier_fee: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ec2 {
    pub(super) instance_hour: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redshift {
    pub(super) node_hour: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    pub(super) secret_month: f64,
}

impl Prices {
    /// Reads a file of them.
    ///
    /// # Errors
    /// With what is wrong with it, in words.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_the_program_carries_can_be_read() {
        let prices = Prices::read(PRICES).expect("a file of prices");
        assert_eq!((prices.region.as_str(), prices.kinesis.shard_hour), ("us-east-1", 0.015));
        assert!(Prices::read("region = 1").is_err());
        let file: toml::Table = PRICES.parse().expect("TOML");
        for name in &prices.unverified {
            let key = name.split_once('.').and_then(|(section, key)| file.get(section)?.get(key));
            assert!(key.is_some(), "`{name}` is no price");
        }
    }
}
