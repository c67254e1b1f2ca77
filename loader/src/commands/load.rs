//! `load`: brings files into the warehouse, one after the other.

use std::path::PathBuf;

use clap::Args;
use tracing::error;

use super::CliError;
use super::interruption::{interruption, wait_for};
use super::output::{print, shown};
use crate::aws;
use crate::config::{AwsEnvironment, ConfigError, LoaderConfig};
use crate::fault::LoadFault;
use crate::load::Loader;
use crate::progress::Progress;

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// CSV files with the header first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object a file to stdout.
    #[arg(long)]
    json: bool,
    /// A node to tell of the load; several are tried in order.
    #[arg(long, value_name = "URL")]
    node_url: Vec<String>,
    /// Folder for rejected rows [default: rejects]
    #[arg(long, value_name = "DIR")]
    rejects_dir: Option<PathBuf>,
    /// TOML file; the environment and flags go over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl LoadArgs {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let aws = AwsEnvironment::read();
        let mut config = LoaderConfig::read(self.config.as_deref(), std::env::vars())?;
        config.node_urls.extend(self.node_url);
        config.rejects_dir = self.rejects_dir.unwrap_or(config.rejects_dir);
        config.validate(&aws)?;
        if let Some(missing) = self.files.iter().find(|file| !file.exists()) {
            return Err(LoadFault::FileMissing { path: missing.clone() }.into());
        }
        let sdk = aws::sdk_config(config.firehose.call_timeout).await;
        if sdk.region().is_none() {
            return Err(ConfigError::Unreadable("no AWS region: set AWS_REGION".to_owned()).into());
        }
        let loader = Loader::new(config, &aws, &sdk)?;
        let interrupted = interruption();
        let (mut worst, mut failure) = (0, None);
        for file in &self.files {
            let progress = Progress::default();
            let load = loader.load(file, &progress, wait_for(interrupted.clone()));
            let result = shown(load, &progress, &file.display().to_string()).await;
            match result {
                Ok(report) => {
                    worst = worst.max(report.exit_code());
                    print(&report, self.json, report.summary())?;
                }
                // The files behind it may be good; remote sides that are gone stay gone.
                Err(fault) if matches!(fault.exit_code(), 1 | 4) && self.files.len() > 1 => {
                    error!("{fault}");
                    failure.get_or_insert(fault);
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        failure.map_or(Ok(worst), |fault| Err(fault.into()))
    }
}
