//! `plan`: what the warehouse lacks, and the DDL that would mend it. Nothing is executed.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::CliError;
use super::output::print;
use crate::config::{AwsEnvironment, LoaderConfig};
use crate::fault::Remote;
use crate::load::warehouse;
use crate::ports::Warehouse as _;

pub(super) const EXAMPLES: &str = "\
Examples:
  speedtrap-loader plan
  speedtrap-loader plan --json | jq -r '.ddl[]'

Exit codes:
  0 nothing to do    3 there are differences    69 unreachable    78 bad configuration";

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Print one JSON object to stdout.
    #[arg(long)]
    json: bool,
    /// TOML file; the environment goes over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl PlanArgs {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let config = LoaderConfig::read(self.config.as_deref(), std::env::vars())?;
        config.validate(&AwsEnvironment::read())?;
        let warehouse = warehouse(&config)?;
        let plan = warehouse.plan().await.map_err(|error| Remote::Warehouse.fault(error))?;
        let ddl: Vec<&str> = plan.ddl().collect();
        let answer = json!({
            "warehouse": plan.warehouse,
            "fits": plan.differences.is_empty(),
            "differences": plan.differences,
            "ddl": ddl,
        });
        print(&answer, self.json, plan.text())?;
        Ok(if plan.differences.is_empty() { 0 } else { 3 })
    }
}
