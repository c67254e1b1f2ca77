//! Everything that a node needs in a local cloud, under names of its own, and the doctor who looks at it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::TimeToLiveSpecification;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::NoTls;

use crate::commands::{self, Ended};
use crate::ports_cloud::{Cloud, ENDPOINTS, unique};
use crate::{endpoints, programs};

/// Streams, tables and a configuration that names them.
pub struct Clinic {
    pub cloud: Cloud,
    pub endpoints: endpoints::Endpoints,
    pub folder: TempDir,
    /// Key by key, as `section.key = value` in TOML.
    settings: Vec<(String, String)>,
}

/// What the doctor said.
pub struct Visit {
    pub ended: Ended,
    pub report: Value,
}

impl Clinic {
    /// A healthy one.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn healthy() -> Result<Self> {
        let cloud = Cloud::from_runner()?;
        let clinic = Self::of_template(cloud)?;
        let cloud = &clinic.cloud;
        let alerts = cloud.table(&["eventId"]).await?;
        keep_for_a_while(cloud, &alerts).await?;
        let (bucket, delivery) = cloud.delivery_stream().await?;
        a_driver(&cloud.endpoints.warehouse_url).await?;
        let names = [
            ("kinesis.in_stream", cloud.stream(2).await?),
            ("kinesis.out_stream", cloud.stream(1).await?),
            ("kinesis.error_stream", cloud.stream(1).await?),
            ("dynamodb.speeding_table", cloud.table(&["licensePlate", "eventId"]).await?),
            ("dynamodb.alerts_table", alerts),
            ("dynamodb.dead_letters_table", cloud.table(&["letterId"]).await?),
            ("dynamodb.nodes_table", unique("nodes")),
            ("dynamodb.enrich_leases", cloud.table(&["leaseKey"]).await?),
            ("dynamodb.notify_leases", unique("leases")),
            ("dynamodb.archive_leases", unique("leases")),
            ("dynamodb.errors_leases", unique("leases")),
            ("archive.delivery_stream", delivery),
            ("archive.bucket", bucket),
        ];
        let mut clinic = clinic;
        for (key, name) in names {
            clinic = clinic.with(key, &name);
        }
        Ok(clinic)
    }

    /// One with the names of the template.
    ///
    /// # Errors
    /// When the runner named no cloud.
    pub fn of_template(cloud: Cloud) -> Result<Self> {
        let file = std::env::var(ENDPOINTS).with_context(|| format!("{ENDPOINTS} is not set"))?;
        let endpoints: endpoints::Endpoints = serde_json::from_str(&fs::read_to_string(file)?)?;
        let folder = tempfile::tempdir()?;
        let audit = folder.path().join("audit.ndjson").display().to_string();
        let clinic = Self { cloud, endpoints, folder, settings: Vec::new() };
        Ok(clinic.with("dashboard.listen", "127.0.0.1:0").with("dashboard.audit_file", &audit))
    }

    /// The same with one setting changed.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(set, _)| set != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What is set for a key.
    ///
    /// # Errors
    /// When nothing is.
    pub fn name(&self, key: &str) -> Result<&str> {
        let set = self.settings.iter().find(|(set, _)| set == key);
        set.map(|(_, name)| name.as_str()).with_context(|| format!("{key} is not set"))
    }

    /// Where a file of this name lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has the doctor look.
    ///
    /// # Errors
    /// When the doctor does not come to a report.
    pub async fn visit(&self) -> Result<Visit> {
        self.visit_with(|_| ()).await
    }

    /// The same, with changes to the doctor's environment.
    ///
    /// # Errors
    /// When the doctor does not come to a report.
    pub async fn visit_with(&self, change: impl FnOnce(&mut Command)) -> Result<Visit> {
        let mut command = self.command()?;
        command.arg("--json");
        change(&mut command);
        let ended = commands::run(command).await?;
        let report = ended.json()?;
        Ok(Visit { ended, report })
    }

    /// The doctor's command, for people.
    ///
    /// # Errors
    /// When it is not built.
    pub fn command(&self) -> Result<Command> {
        let config = self.path("speedtrap.toml");
        fs::write(&config, self.toml())?;
        let mut command = programs::command("speedtrap")?;
        self.endpoints.aws_environment(&mut command);
        command.env("SPEEDTRAP_WAREHOUSE__URL", &self.endpoints.warehouse_url);
        command.arg("doctor").arg("--config").arg(config);
        Ok(command)
    }

    fn toml(&self) -> String {
        // Dotted keys need no sections; every value here is a text.
        self.settings.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect()
    }
}

impl fmt::Debug for Visit {
    /// Only what is not ok.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.report["lines"].as_array().into_iter().flatten().filter(|line| line["verdict"] != "ok");
        f.debug_list().entry(&self.ended.err).entries(lines.map(Value::to_string)).finish()
    }
}

impl Visit {
    /// The ids of the lines with this verdict.
    #[must_use]
    pub fn ids(&self, verdict: &str) -> Vec<&str> {
        let lines = self.report["lines"].as_array().into_iter().flatten();
        lines.filter(|line| line["verdict"] == verdict).filter_map(|line| line["id"].as_str()).collect()
    }

    /// What was seen, and what to do next, of the line with this id.
    ///
    /// # Errors
    /// When there is no such line.
    pub fn line(&self, id: &str) -> Result<(&str, &str)> {
        let mut lines = self.report["lines"].as_array().into_iter().flatten();
        let line = lines.find(|line| line["id"] == id).with_context(|| format!("no line {id}: {self:?}"))?;
        Ok((line["seen"].as_str().unwrap_or_default(), line["next"].as_str().unwrap_or_default()))
    }

    /// One line has this verdict, says this and advises that; no other line failed.
    ///
    /// # Errors
    /// When it is not so.
    pub fn found(&self, verdict: &str, id: &str, seen: &str, next: &str) -> Result<()> {
        let (has_seen, has_next) = self.line(id)?;
        ensure!(self.ids(verdict) == [id], "{verdict}: {self:?}, but {id}: {has_seen}");
        ensure!(verdict == "fail" || self.ids("fail").is_empty(), "also failed: {:?}", self.ids("fail"));
        ensure!(has_seen.contains(seen), "`{has_seen}` does not say `{seen}`");
        ensure!(has_next.contains(next), "`{has_next}` does not advise `{next}`");
        let code = if verdict == "fail" { 3 } else { 0 };
        ensure!(self.ended.code == Some(code), "exit code {:?}", self.ended.code);
        Ok(())
    }
}

async fn keep_for_a_while(cloud: &Cloud, table: &str) -> Result<()> {
    let setting = TimeToLiveSpecification::builder().attribute_name("expiresAt").enabled(true).build()?;
    cloud.dynamodb.update_time_to_live().table_name(table).time_to_live_specification(setting).send().await?;
    Ok(())
}

/// A driver whose plate no test uses.
async fn a_driver(warehouse_url: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(warehouse_url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(include_str!("../../data/schema/warehouse.sql")).await?;
    let plate = unique("DOCTOR");
    client.execute("INSERT INTO public.rtr_iot_driver_data (licenseplate) VALUES ($1)", &[&plate]).await?;
    drop(client);
    connection.await??;
    Ok(())
}

/// Credentials of a user who may do what a policy says and what these managed policies of the template say.
///
/// # Errors
/// When the cloud refuses. It is asked by its own Python, since nothing here speaks to IAM.
pub async fn user(endpoints: &endpoints::Endpoints, policy: &Value, managed: &[&str]) -> Result<(String, String)> {
    let line = fs::read(format!("/proc/{}/cmdline", endpoints.cloud_pid)).context("the local cloud is gone")?;
    let python = line.split(|byte| *byte == 0).next().context("a process has a name")?;
    let mut command = Command::new(Path::new(std::str::from_utf8(python)?));
    command.args(["-c", include_str!("make_user.py"), &unique("doctor"), &policy.to_string(), &managed.join(",")]);
    endpoints.aws_environment(&mut command);
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0), "no user was made: {ended:?}");
    let made = ended.json()?;
    let text = |key: &str| made[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    Ok((text("id")?, text("secret")?))
}
