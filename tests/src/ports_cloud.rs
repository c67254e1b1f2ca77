//! Clients, and things to make, in the local cloud that the test runner started.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType,
};
use aws_sdk_firehose::types::{BufferingHints, ExtendedS3DestinationConfiguration};
use serde::Deserialize;
use speedtrap_actors::adapters::CallLimits;
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::Calls;

/// Where the runner says what it started.
pub const ENDPOINTS: &str = "SPEEDTRAP_TEST_ENDPOINTS";

/// What the file of [`ENDPOINTS`] holds.
#[derive(Debug, Clone, Deserialize)]
pub struct Endpoints {
    pub aws_endpoint_url: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub warehouse_url: String,
    pub sms_messages_url: String,
}

/// The local cloud.
pub struct Cloud {
    pub endpoints: Endpoints,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub dynamodb_streams: aws_sdk_dynamodbstreams::Client,
    pub firehose: aws_sdk_firehose::Client,
    pub s3: aws_sdk_s3::Client,
    pub sns: aws_sdk_sns::Client,
}

/// Limits that fit a cloud on this machine.
pub const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(10),
    budget: RetryBudget {
        backoff: Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1) },
        most_elapsed: Duration::from_secs(20),
    },
    calls: Calls::unwatched(),
};

/// A name that no other test of this cloud uses.
#[must_use]
pub fn unique(name: &str) -> String {
    static N: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed))
}

impl Cloud {
    /// Reads where the cloud is.
    ///
    /// # Errors
    /// When the runner did not say so.
    pub fn from_runner() -> Result<Self> {
        let path = std::env::var(ENDPOINTS).with_context(|| {
            format!("{ENDPOINTS} is not set: start these tests by tests/run, or name the endpoints.json of a local cloud")
        })?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {ENDPOINTS}=`{path}`"))?;
        let endpoints: Endpoints = serde_json::from_str(&text).with_context(|| format!("`{path}` is no endpoints.json"))?;
        Ok(Self::at(&endpoints.aws_endpoint_url.clone(), endpoints))
    }

    /// Clients of another address, with everything else alike.
    #[must_use]
    pub fn at(aws_endpoint_url: &str, endpoints: Endpoints) -> Self {
        let credentials = aws_sdk_kinesis::config::Credentials::new(
            &endpoints.access_key_id,
            &endpoints.secret_access_key,
            None,
            None,
            "endpoints.json",
        );
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(endpoints.region.clone()))
            .endpoint_url(aws_endpoint_url)
            .credentials_provider(aws_sdk_kinesis::config::SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::standard())
            .build();
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        Self {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            dynamodb_streams: aws_sdk_dynamodbstreams::Client::new(&config),
            firehose: aws_sdk_firehose::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            sns: aws_sdk_sns::Client::new(&config),
            endpoints,
        }
    }

    /// Makes a stream and returns its name.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn stream(&self, n_shards: i32) -> Result<String> {
        let name = unique("stream");
        self.kinesis.create_stream().stream_name(&name).shard_count(n_shards).send().await?;
        while self.kinesis.list_shards().stream_name(&name).send().await.map_or(true, |answer| answer.shards().is_empty()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(name)
    }

    /// Makes a table with these text keys, and a stream of its new images, and returns its name.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn table(&self, keys: &[&str]) -> Result<String> {
        let name = unique("table");
        self.table_named(&name, keys).await?;
        Ok(name)
    }

    /// The same, with a name of the caller's.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn table_named(&self, name: &str, keys: &[&str]) -> Result<()> {
        let mut request = self.dynamodb.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
        for (key, kind) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
            request = request
                .key_schema(KeySchemaElement::builder().attribute_name(*key).key_type(kind).build()?)
                .attribute_definitions(
                    AttributeDefinition::builder().attribute_name(*key).attribute_type(ScalarAttributeType::S).build()?,
                );
        }
        let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewImage).build()?;
        request.stream_specification(stream).send().await?;
        Ok(())
    }

    /// All items of a table.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn items(&self, table: &str) -> Result<Vec<std::collections::HashMap<String, AttributeValue>>> {
        Ok(self
            .dynamodb
            .scan()
            .table_name(table)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send()
            .collect::<Result<_, _>>()
            .await?)
    }

    /// Makes a bucket and a delivery stream into it, and returns both names.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn delivery_stream(&self) -> Result<(String, String)> {
        let (bucket, name) = (unique("bucket"), unique("delivery"));
        self.s3.create_bucket().bucket(&bucket).send().await?;
        let destination = ExtendedS3DestinationConfiguration::builder()
            .role_arn("arn:aws:iam::000000000000:role/firehose")
            .bucket_arn(format!("arn:aws:s3:::{bucket}"))
            .prefix("speeding/")
            .buffering_hints(BufferingHints::builder().size_in_mbs(1).interval_in_seconds(1).build())
            .build()?;
        self.firehose
            .create_delivery_stream()
            .delivery_stream_name(&name)
            .extended_s3_destination_configuration(destination)
            .send()
            .await?;
        Ok((bucket, name))
    }

    /// The bytes of all objects of a bucket, one after the other.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn objects(&self, bucket: &str) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for object in self.s3.list_objects_v2().bucket(bucket).send().await?.contents() {
            let key = object.key().context("an object has a key")?;
            let body = self.s3.get_object().bucket(bucket).key(key).send().await?.body.collect().await?;
            all.extend_from_slice(&body.into_bytes());
        }
        Ok(all)
    }
}
