//! The clients of AWS, all made from one configuration of the SDK's own chain.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use speedtrap_actors::adapters::CallLimits;
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::CallLog;

use crate::config::{self, NodeConfig};
use crate::exit::{Exit, Stop};

/// One client a service.
pub(crate) struct Clients {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) dynamodb_streams: aws_sdk_dynamodbstreams::Client,
    pub(crate) firehose: aws_sdk_firehose::Client,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
    pub(crate) sns: aws_sdk_sns::Client,
    /// Where they call: named in messages.
    pub(crate) place: String,
    /// How all calls fare.
    pub(super) calls: CallLog,
}

impl Clients {
    /// Makes them; nothing is called yet but the chain of credentials.
    ///
    /// # Errors
    /// When no region is set.
    pub(crate) async fn from_environment() -> Result<Self, Stop> {
        let (sdk, place) = sdk_config().await?;
        Ok(Self::new(&sdk, place))
    }

    /// Makes them from a configuration.
    pub(crate) fn new(sdk: &SdkConfig, place: String) -> Self {
        // A local cloud has no host name for each bucket.
        let path_style = config::has_own_aws_endpoint();
        let s3 = aws_sdk_s3::config::Builder::from(sdk).force_path_style(path_style).build();
        Self {
            dynamodb: aws_sdk_dynamodb::Client::new(sdk),
            dynamodb_streams: aws_sdk_dynamodbstreams::Client::new(sdk),
            firehose: aws_sdk_firehose::Client::new(sdk),
            kinesis: aws_sdk_kinesis::Client::new(sdk),
            s3: aws_sdk_s3::Client::from_conf(s3),
            secrets: aws_sdk_secretsmanager::Client::new(sdk),
            // Its adapter switches retries off: a repeated Publish is a repeated text.
            sns: aws_sdk_sns::Client::new(sdk),
            place,
            calls: CallLog::default(),
        }
    }

    /// The limits of a call, and who it is noted for.
    pub(crate) fn limits(&self, user: &'static str) -> CallLimits {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(2) };
        let budget = RetryBudget { backoff, most_elapsed: super::CALL_BUDGET };
        CallLimits { timeout: super::CALL_TIMEOUT, budget, calls: self.calls.of(user) }
    }

    /// Those of a call about leases: a renewal must end, or have failed, well before the lease expires.
    pub(super) fn lease_limits(&self, user: &'static str, config: &NodeConfig) -> CallLimits {
        let limits = self.limits(user);
        let timeout = (config.lease.expires_after / 4).min(limits.timeout);
        CallLimits { timeout, budget: RetryBudget { most_elapsed: timeout, ..limits.budget }, ..limits }
    }
}

/// The SDK's configuration from its own chain, and the words for where it leads.
///
/// # Errors
/// When no region is set.
pub(crate) async fn sdk_config() -> Result<(SdkConfig, String), Stop> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(super::CALL_TIMEOUT)
        .operation_timeout(super::CALL_BUDGET)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
    if let Ok(name) = AppName::new("speedtrap") {
        loader = loader.app_name(name);
    }
    let sdk = loader.load().await;
    let Some(region) = sdk.region().map(ToString::to_string) else {
        return Err(Stop::new(Exit::BadConfig, "no AWS region is set")
            .next("set AWS_REGION, or a region in the profile that AWS_PROFILE names"));
    };
    let place = match sdk.endpoint_url() {
        Some(url) => format!("region {region}, {url}"),
        None => format!("region {region}"),
    };
    Ok((sdk, place))
}
