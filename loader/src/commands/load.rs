//! `load`: brings files into the warehouse, one after the other.

use std::path::PathBuf;

use clap::Args;
use tracing::error;

use super::CliError;
use super::dry_run::dry_run;
use super::interruption::{interruption, wait_for};
use super::output::{print, shown};
use crate::aws;
use crate::config::{AwsEnvironment, ConfigError, LoaderConfig};
use crate::fault::LoadFault;
use crate::load::Loader;
use crate::load_file::Source;
use crate::progress::Progress;
use crate::warehouse::OnDrift;

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// CSV files, or patterns such as 'in/*.csv', with the header first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone.
    #[arg(required = true, value_name = "FILE|GLOB")]
    files: Vec<String>,
    /// Print one JSON object a file to stdout.
    #[arg(long)]
    json: bool,
    /// A node to tell of the load; several are tried in order.
    #[arg(long, value_name = "URL")]
    node_url: Vec<String>,
    /// File with the token that the node knows the loader by, an operator's
    #[arg(long, value_name = "FILE")]
    node_token_file: Option<PathBuf>,
    /// PEM file with the authorities that signed the nodes' certificates, for https addresses [default: those of the system]
    #[arg(long, value_name = "FILE")]
    node_ca_file: Option<PathBuf>,
    /// Folder for rejected rows [default: rejects]
    #[arg(long, value_name = "DIR")]
    rejects_dir: Option<PathBuf>,
    /// Folder of what is known of loads [default: speedtrap-loader under $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What the files must look like [default: the built-in contract, see `check --print-contract`]
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// What to do where the warehouse's table differs from what is loaded; `plan` shows how it differs [default: freeze]
    #[arg(long, value_name = "WHAT", value_enum)]
    on_drift: Option<OnDrift>,
    /// Say what a load would do, and change nothing: PostgreSQL rolls it back, Redshift checks the rows with COPY … NOLOAD.
    #[arg(long)]
    dry_run: bool,
    /// TOML file; the environment and flags go over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl LoadArgs {
    pub(super) async fn run(self, source: Source) -> Result<u8, CliError> {
        let aws = AwsEnvironment::read();
        let mut config = LoaderConfig::read(self.config.as_deref(), std::env::vars())?;
        config.node_urls.extend(self.node_url);
        config.node_token_file = self.node_token_file.or(config.node_token_file);
        config.node_ca_file = self.node_ca_file.or(config.node_ca_file);
        config.rejects_dir = self.rejects_dir.unwrap_or(config.rejects_dir);
        config.state_dir = self.state_dir.or(config.state_dir);
        config.contract = self.contract.or(config.contract);
        config.warehouse.on_drift = self.on_drift.unwrap_or(config.warehouse.on_drift);
        config.validate(&aws)?;
        let files = found(&self.files)?;
        let sdk = aws::sdk_config(config.firehose.call_timeout).await;
        if sdk.region().is_none() {
            return Err(ConfigError::Unreadable("no AWS region: set AWS_REGION".to_owned()).into());
        }
        let interrupted = interruption();
        if self.dry_run {
            let mut worst = 0;
            for file in &files {
                worst = worst.max(tokio::select! {
                    code = dry_run(&config, &aws, &sdk, (source, file), self.json) => code?,
                    () = wait_for(interrupted.clone()) => return Err(LoadFault::Interrupted.into()),
                });
            }
            return Ok(worst);
        }
        let loader = Loader::new(config, &aws, &sdk)?;
        let (mut worst, mut failure) = (0, None);
        loader.settle_earlier_loads().await;
        for file in &files {
            let progress = Progress::default();
            let load = loader.load_from(source, file, &progress, wait_for(interrupted.clone()));
            let result = shown(load, &progress, &file.display().to_string()).await;
            match result {
                Ok(report) => {
                    worst = worst.max(report.exit_code());
                    print(&report, self.json, report.summary())?;
                }
                // The files behind it may be good; remote sides that are gone stay gone.
                Err(fault) if matches!(fault.exit_code(), 1 | 4 | 5) && files.len() > 1 => {
                    error!("{fault}");
                    failure.get_or_insert(fault);
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        failure.map_or(Ok(worst), |fault| Err(fault.into()))
    }
}

/// The files that are meant: each one as it stands if it exists, or else what matches it as a pattern, in order of name.
fn found(wanted: &[String]) -> Result<Vec<PathBuf>, LoadFault> {
    let mut files = Vec::new();
    for wanted in wanted {
        let path = PathBuf::from(wanted);
        if path.exists() {
            files.push(path);
            continue;
        }
        let before = files.len();
        // What is no pattern is a file that does not exist.
        files.extend(glob::glob(wanted).into_iter().flatten().flatten().filter(|path| path.is_file()));
        if files.len() == before {
            return Err(LoadFault::FileMissing { path });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_gives_its_files_and_a_name_with_brackets_is_a_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "a.txt", "[x].csv"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let names = |wanted: &[&str]| {
            let files = found(&wanted.iter().map(|name| at(name)).collect::<Vec<_>>())?;
            Ok::<_, LoadFault>(
                files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(names(&["*.csv"]).unwrap(), ["[x].csv", "a.csv", "b.csv"]);
        assert_eq!(names(&["[x].csv", "a.txt"]).unwrap(), ["[x].csv", "a.txt"]);
        assert_eq!(names(&["*.json"]).unwrap_err().exit_code(), 4);
    }
}
