//! Firehose and its bucket on the AWS SDK. Endpoint, region and credentials are the SDK's own matter.

use std::error::Error;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_firehose::config::http::HttpResponse;
use aws_sdk_firehose::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_firehose::primitives::Blob;
use aws_sdk_firehose::types::Record;
use bytes::Bytes;
use tokio::io::AsyncBufRead;

use crate::ports::{Firehose, Listing, ObjectStore, PortError, PutOutcome};

/// A connection that is not there after this is tried again sooner than a slow answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the SDK's configuration. The loader repeats calls itself, within budgets of its own.
pub(crate) async fn sdk_config(call_timeout: Duration) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(call_timeout).build();
    let loader = aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled()).timeout_config(timeouts);
    loader.load().await
}

/// A delivery stream.
pub(crate) struct DeliveryStream {
    client: aws_sdk_firehose::Client,
    name: String,
}

impl DeliveryStream {
    pub(crate) fn new(sdk: &SdkConfig, name: &str) -> Self {
        Self { client: aws_sdk_firehose::Client::new(sdk), name: name.to_owned() }
    }
}

#[async_trait]
impl Firehose for DeliveryStream {
    async fn put(&self, records: &[Bytes]) -> Result<Vec<PutOutcome>, PortError> {
        let records: Result<Vec<Record>, _> =
            records.iter().map(|data| Record::builder().data(Blob::new(data.as_ref())).build()).collect();
        let records = records.map_err(|error| PortError::Refused(error.to_string()))?;
        let call = self.client.put_record_batch().delivery_stream_name(&self.name).set_records(Some(records));
        let answer = call.send().await.map_err(|error| port_error(&self.name, error))?;
        let outcome = |entry: &aws_sdk_firehose::types::PutRecordBatchResponseEntry| match entry.error_code() {
            Some(code) => PutOutcome::Failed(code.to_owned()),
            None => PutOutcome::Accepted,
        };
        Ok(answer.request_responses().iter().map(outcome).collect())
    }
}

/// The part of a bucket that the stream delivers to.
pub(crate) struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
    prefix: String,
}

impl Bucket {
    pub(crate) fn new(sdk: &SdkConfig, name: &str, prefix: &str, path_style: bool) -> Self {
        let config = aws_sdk_s3::config::Builder::from(sdk).force_path_style(path_style).build();
        Self { client: aws_sdk_s3::Client::from_conf(config), name: name.to_owned(), prefix: prefix.to_owned() }
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn list(&self, since: Option<SystemTime>) -> Result<Listing, PortError> {
        let mut pages = self.client.list_objects_v2().bucket(&self.name).prefix(&self.prefix).into_paginator().send();
        let mut listing = Listing::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| port_error(&self.name, error))?;
            for object in page.contents.into_iter().flatten() {
                let delivered = object.last_modified.and_then(|time| SystemTime::try_from(time).ok());
                listing.newest = listing.newest.max(delivered);
                // An object without a time may be a new one.
                if since.is_none_or(|since| delivered.is_none_or(|delivered| delivered >= since)) {
                    listing.keys.extend(object.key);
                }
            }
        }
        Ok(listing)
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, PortError> {
        let object = self.client.get_object().bucket(&self.name).key(key).send();
        let object = object.await.map_err(|error| port_error(&self.name, error))?;
        Ok(Box::new(object.body.into_async_read()))
    }

    async fn write(&self, key: &str, content: Vec<u8>) -> Result<(), PortError> {
        let put = self.client.put_object().bucket(&self.name).key(key).body(content.into()).send();
        put.await.map(drop).map_err(|error| port_error(&self.name, error))
    }

    async fn remove(&self, key: &str) -> Result<(), PortError> {
        let delete = self.client.delete_object().bucket(&self.name).key(key).send();
        delete.await.map(drop).map_err(|error| port_error(&self.name, error))
    }

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}

fn port_error<E>(resource: &str, error: SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let SdkError::ServiceError(answer) = &error {
        let status = answer.raw().status().as_u16();
        let code = answer.err().code().unwrap_or_default();
        let text = format!("`{resource}`: HTTP {status} {code}");
        return match code {
            "ServiceUnavailableException" | "ThrottlingException" | "LimitExceededException" | "SlowDown" => {
                PortError::Throttled(text)
            }
            _ if status == 429 => PortError::Throttled(text),
            _ if status >= 500 => PortError::Unavailable(text),
            // An emulator or proxy that answers something else than the service.
            _ if code.is_empty() => PortError::Refused(format!("{text} (is this an AWS endpoint?)")),
            _ => PortError::Refused(text),
        };
    }
    let text = DisplayErrorContext(&error).to_string();
    // The SDK appends its debug output, and a list of all sources of credentials it tried.
    let said = text.split(" (DispatchFailure").next().and_then(|text| text.split(" (TimeoutError").next());
    let text = format!("`{resource}`: {}", said.and_then(|text| text.lines().next()).unwrap_or_default());
    match error {
        SdkError::ConstructionFailure(_) => PortError::Refused(text),
        _ if text.contains("credential") => PortError::Refused(text),
        _ => PortError::Unavailable(text),
    }
}
