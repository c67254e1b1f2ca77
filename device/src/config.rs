//! The command line. All checks of single values happen here, so a wrong one is a usage error (exit 2).

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::publish::PublishArgs;
use crate::commands::selftest::SelftestArgs;

const EXAMPLES: &str = "\
Examples:
  speedtrap-device publish --endpoint abc123-ats.iot.us-east-2.amazonaws.com \\
      --root-ca AmazonRootCA1.pem --cert device.pem.crt --key private.pem.key --file readings.csv
  speedtrap-device publish --endpoint localhost --port 18883 --root-ca ca.pem --cert dev.pem --key dev.key \\
      --file readings.csv --rate 50 --count 200 --json
  speedtrap-device publish --config kit/speedtrap-device.toml --file readings.csv --loop --trigger keys
  radar | speedtrap-device publish --config kit/speedtrap-device.toml --sensor -

Exit codes:
  0 all readings acknowledged     5 the broker refused the client,
                                    or the outbox is in use
  1 readings file or outbox bad   6 the broker stopped acknowledging
  2 wrong usage                  69 the broker cannot be reached
  3 some rows were rejected,     78 a setting, certificate, key or CA file is bad,
    all others acknowledged         or was refused
                                130 interrupted";

const SELFTEST_EXAMPLES: &str = "\
Examples:
  speedtrap-device selftest --config kit/speedtrap-device.toml
  speedtrap-device selftest --config kit/speedtrap-device.toml --echo --json

Exit codes:
  0 all is well, or there are only warnings     2 wrong usage
  1 something is wrong";

/// Publishes speed readings over MQTT with mutual TLS; each is on disk until the broker has acknowledged it.
#[derive(Parser)]
#[command(name = "speedtrap-device", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Publishes the rows of a file, at once, at a rate or one at each press of a button, or what a sensor says.
    ///
    /// Each reading is stamped with the time of its press, kept on disk, and sent at least once (QoS 1).
    #[command(after_help = EXAMPLES)]
    Publish(Box<PublishArgs>),
    /// Looks at configuration, files, clock, outbox, name, port, TLS and broker, and says what is wrong and what to do.
    ///
    /// It connects under the device's own name, so a device that is running meanwhile loses its connection for a moment. What
    /// waits in the outbox stays as it is.
    #[command(after_help = SELFTEST_EXAMPLES)]
    Selftest(Box<SelftestArgs>),
}

/// Which broker, and as whom.
#[derive(clap::Args)]
pub(crate) struct ConnectionArgs {
    /// File with settings: any of these flags as `client_id = "PI-07"`, paths relative to the file. The environment
    /// (SPEEDTRAP_DEVICE_CLIENT_ID) goes over it, and flags go over both.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Host name of the broker; its certificate must carry it.
    #[arg(long, value_name = "HOST")]
    pub(crate) endpoint: String,
    /// Port of the broker. On 443 the protocol is named in the TLS handshake, as AWS IoT asks.
    #[arg(long, default_value_t = 8883, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// PEM file of the authority that signed the broker's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_ca: PathBuf,
    /// PEM file of this device's certificate (with its chain, if it has one).
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// PEM file of this device's private key (PKCS#1, PKCS#8 or SEC1).
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// MQTT client id; AWS IoT policies usually want the thing name.
    #[arg(long, default_value = "RTRPIIOT", value_parser = client_id)]
    pub(crate) client_id: String,
}

impl ConnectionArgs {
    pub(crate) fn is_loopback(&self) -> bool {
        self.endpoint == "localhost" || self.endpoint.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate == 0.0 || (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a rate is 0, or from 0.001 to 1000000 readings a second".to_owned()),
    }
}

/// 128 bytes is what AWS IoT takes.
fn client_id(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) { Ok(text.to_owned()) } else { Err("a client id has 1 to 128 bytes".to_owned()) }
}

pub(crate) fn topic(text: &str) -> Result<String, String> {
    // The MQTT standard allows wildcards in subscriptions only; AWS IoT takes 256 bytes.
    if text.is_empty() || text.len() > 256 || text.contains(['+', '#', '\0']) {
        return Err("a topic to publish to has 1 to 256 bytes and no `+` or `#`".to_owned());
    }
    Ok(text.to_owned())
}

/// An event id has at most 64 characters, of which boot id and sequence number may need 31.
pub(crate) fn device_id(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("a device id has 1 to 32 of the characters A-Z a-z 0-9 . _ -".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(rate("-1").is_err() && rate("NaN").is_err() && rate("0").is_ok() && rate("0.5").is_ok());
        assert!(topic("a/#").is_err() && topic("").is_err() && topic("rtr/iot/trafficdata").is_ok());
        assert!(device_id("a:b").is_err() && device_id(&"x".repeat(33)).is_err() && device_id("RTRPIIOT").is_ok());
    }
}
