//! Where a local cloud is, and clients for its services.

use std::path::PathBuf;

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use serde::Deserialize;
use tokio::process::Command;

/// The contents of endpoints.json.
#[derive(Clone, Debug, Deserialize)]
pub struct Endpoints {
    pub aws_endpoint_url: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub sms_messages_url: String,
    pub warehouse_url: String,
    pub mqtt: Mqtt,
    #[serde(default)]
    pub dashboard_urls: Vec<String>,
    #[serde(default)]
    pub node_pids: Vec<u32>,
    pub cloud_pid: u32,
    pub postgres_pid: u32,
}

/// Where and as whom a device publishes.
#[derive(Clone, Debug, Deserialize)]
pub struct Mqtt {
    pub host: String,
    pub port: u16,
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_id: String,
    pub topic: String,
}

/// One client a service.
pub struct Clients {
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub iot: aws_sdk_iot::Client,
    pub kinesis: aws_sdk_kinesis::Client,
    pub s3: aws_sdk_s3::Client,
    pub sns: aws_sdk_sns::Client,
}

impl Endpoints {
    /// Points a program at this cloud and at no other.
    pub fn aws_environment(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL", &self.aws_endpoint_url)
            .env("AWS_REGION", &self.region)
            .env("AWS_ACCESS_KEY_ID", &self.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_access_key)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true");
    }

    /// Makes the clients.
    pub async fn clients(&self) -> Clients {
        let credentials =
            aws_sdk_kinesis::config::Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "endpoints.json");
        let sdk: SdkConfig = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(&self.aws_endpoint_url)
            .region(Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .load()
            .await;
        // The local cloud has no host name for each bucket.
        let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
        Clients {
            dynamodb: aws_sdk_dynamodb::Client::new(&sdk),
            iot: aws_sdk_iot::Client::new(&sdk),
            kinesis: aws_sdk_kinesis::Client::new(&sdk),
            s3: aws_sdk_s3::Client::from_conf(s3),
            sns: aws_sdk_sns::Client::new(&sdk),
        }
    }
}

/// Gets a page and reads it as JSON.
///
/// # Errors
/// When it does not answer with JSON.
pub async fn get_json<T: serde::de::DeserializeOwned + Send + 'static>(url: String) -> Result<T> {
    tokio::task::spawn_blocking(move || get_json_now(&url)).await?
}

/// Gets a page as it stands.
///
/// # Errors
/// When it does not answer.
pub async fn get_text(url: String) -> Result<String> {
    let get = move || get_now(&url)?.body_mut().read_to_string().with_context(|| format!("{url} answers no text"));
    tokio::task::spawn_blocking(get).await?
}

/// Gets a page and reads it as JSON, where nothing can be awaited.
///
/// # Errors
/// When it does not answer with JSON.
pub fn get_json_now<T: serde::de::DeserializeOwned>(url: &str) -> Result<T> {
    let mut answer = get_now(url)?;
    // Tens of thousands of texts are longer than the library's own limit.
    answer.body_mut().with_config().limit(1 << 30).read_json().with_context(|| format!("{url} answers no JSON"))
}

fn get_now(url: &str) -> Result<ureq::http::Response<ureq::Body>> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(std::time::Duration::from_secs(60))).proxy(None).build().into();
    agent.get(url).call().with_context(|| format!("{url} does not answer"))
}
