//! Cloud and warehouse together, and the file that tells any client where they are.

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::{
    cloud::{self, Cloud, Device, Roles},
    install,
    process::{Launcher, stop_all},
    run_folder::RunFolder,
    state::write_private_json,
    warehouse::Warehouse,
};

/// How long cloud and warehouse may take to stop before they are killed.
const STOP_LIMIT: Duration = Duration::from_millis(2500);

pub(crate) struct Stack {
    pub(crate) cloud: Cloud,
    pub(crate) warehouse: Warehouse,
    pub(crate) device: Device,
    pub(crate) roles: Roles,
}

/// The contents of endpoints.json. The credentials may read and write everything.
#[derive(Serialize)]
pub(crate) struct Endpoints<'a> {
    aws_endpoint_url: &'a str,
    /// Addresses of services that differ from `aws_endpoint_url`: none here.
    services: serde_json::Map<String, serde_json::Value>,
    region: &'a str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    sms_messages_url: String,
    warehouse_url: String,
    mqtt: Mqtt<'a>,
    dashboard_urls: &'a [String],
    node_pids: &'a [u32],
    cloud_pid: u32,
    postgres_pid: u32,
}

#[derive(Serialize)]
struct Mqtt<'a> {
    host: &'a str,
    port: u16,
    ca: &'a str,
    cert: &'a str,
    key: &'a str,
    client_id: &'a str,
    topic: &'a str,
}

impl Stack {
    pub(crate) fn start(launcher: &Launcher, folder: &RunFolder, shards: u32) -> Result<Self> {
        let python = install::cloud_python(launcher)?;
        let warehouse = Warehouse::start(launcher, folder, &python)?;
        let cloud = Cloud::start(launcher, folder, &python)?;
        let (device, roles) = cloud.provision(launcher, shards)?;
        Ok(Self { cloud, warehouse, device, roles })
    }

    pub(crate) fn write_endpoints(&self, path: &Path, dashboard_urls: &[String], node_pids: &[u32]) -> Result<()> {
        let Device { ca, cert, key, host, client_id, topic } = &self.device;
        let endpoints = Endpoints {
            aws_endpoint_url: &self.cloud.endpoint,
            services: serde_json::Map::new(),
            region: cloud::REGION,
            access_key_id: cloud::ACCESS_KEY_ID,
            secret_access_key: cloud::SECRET_ACCESS_KEY,
            sms_messages_url: format!("{}/_ministack/sns/sms-messages", self.cloud.endpoint),
            warehouse_url: self.warehouse.url(),
            mqtt: Mqtt { host, port: self.cloud.mqtt_port, ca, cert, key, client_id, topic },
            dashboard_urls,
            node_pids,
            cloud_pid: self.cloud.process.id(),
            postgres_pid: self.warehouse.process.id(),
        };
        write_private_json(path, &endpoints)
    }

    /// An error if cloud or warehouse have ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        self.cloud.process.check_running()?;
        self.warehouse.process.check_running()
    }

    pub(crate) fn stop(self) {
        stop_all(vec![self.cloud.process, self.warehouse.process], STOP_LIMIT);
    }
}
