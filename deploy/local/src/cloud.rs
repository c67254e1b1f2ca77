//! The local AWS: starting it, creating everything in it from the CloudFormation template, auditing it from outside.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{
    interrupt,
    process::{Launcher, Output, Process, Spec},
    report::Audit,
    run_folder::RunFolder,
    say::Step,
    stop::{Code, Stop},
};

pub(crate) const REGION: &str = "us-east-1";
/// The local cloud's root user; it listens on loopback only.
pub(crate) const ACCESS_KEY_ID: &str = "test";
pub(crate) const SECRET_ACCESS_KEY: &str = "test";

/// Share of a delivery stream's 60 s that really passes here: one second.
const FIREHOSE_SCALE: &str = "0.0167";
const START_LIMIT: Duration = Duration::from_secs(60);
const PROVISION_LIMIT: Duration = Duration::from_secs(120);
const AUDIT_LIMIT: Duration = Duration::from_secs(300);

const TEMPLATE: &str = include_str!("../../aws/speedtrap.yaml");
const SCRIPTS: [(&str, &str); 11] = [
    ("cloud.py", include_str!("../cloud/cloud.py")),
    ("kinesis_patch.py", include_str!("../cloud/kinesis_patch.py")),
    ("dynamodb_patch.py", include_str!("../cloud/dynamodb_patch.py")),
    ("firehose_patch.py", include_str!("../cloud/firehose_patch.py")),
    ("iam_patch.py", include_str!("../cloud/iam_patch.py")),
    ("iot_patch.py", include_str!("../cloud/iot_patch.py")),
    ("mqtt_patch.py", include_str!("../cloud/mqtt_patch.py")),
    ("sns_patch.py", include_str!("../cloud/sns_patch.py")),
    ("provision.py", include_str!("../cloud/provision.py")),
    ("input_grammar.py", include_str!("../cloud/input_grammar.py")),
    ("audit.py", include_str!("../cloud/audit.py")),
];

pub(crate) struct Cloud {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
    pub(crate) mqtt_port: u16,
    python: PathBuf,
    scripts: PathBuf,
    keys: PathBuf,
}

#[derive(Deserialize)]
struct Ready {
    endpoint: String,
    mqtt_port: u16,
}

/// What a device needs to connect, as provision.py prints it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) host: String,
    pub(crate) client_id: String,
    pub(crate) topic: String,
}

/// The template's roles for nodes that run all lanes, and for the loader.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Roles {
    #[serde(rename = "NodeRoleArn")]
    pub(crate) node: String,
    #[serde(rename = "LoaderRoleArn")]
    pub(crate) loader: String,
}

#[derive(Deserialize)]
struct Provisioned {
    resources: usize,
    missing: Vec<Missing>,
    device: Device,
    outputs: Roles,
}

#[derive(Deserialize)]
struct Missing {
    resource: String,
    #[serde(rename = "type")]
    kind: String,
    why: String,
}

impl Cloud {
    pub(crate) fn start(launcher: &Launcher, folder: &RunFolder, python: &Path) -> Result<Self> {
        let step = Step::start("starting the local cloud");
        let scripts = folder.private("cloud")?;
        for (name, text) in SCRIPTS {
            fs::write(scripts.join(name), text).with_context(|| format!("failed to write {name}"))?;
        }
        fs::write(scripts.join("speedtrap.yaml"), TEMPLATE).context("failed to write the template")?;

        let mut command = script_command(python, &scripts, "cloud.py", None);
        command.arg("--dir").arg(folder.private("cloud-data")?);
        // Certificates, device policies and the rule's role are really checked.
        command.env("AUTH", "true");
        if std::env::var_os("LOCAL_FIREHOSE_SCALE").is_none() {
            command.env("LOCAL_FIREHOSE_SCALE", FIREHOSE_SCALE);
        }
        let mut process = launcher.spawn(Spec::new("cloud", command).output(Output::Capture))?;
        let until = Instant::now() + START_LIMIT;
        let ready = loop {
            // A partly written line does not parse and is looked at again.
            if let Ok(ready) = serde_json::from_str::<Ready>(&process.printed()) {
                break ready;
            }
            process.check_running().context("the local cloud did not start")?;
            if Instant::now() > until {
                let message = format!("the local cloud was not ready within {} s\n{}", START_LIMIT.as_secs(), process.log_tail());
                return Err(Stop::error(Code::TimedOut, message));
            }
            interrupt::pause(Duration::from_millis(20))?;
        };
        step.done(&ready.endpoint);
        let keys = folder.private("keys")?;
        Ok(Self { process, endpoint: ready.endpoint, mqtt_port: ready.mqtt_port, python: python.to_owned(), scripts, keys })
    }

    /// Creates the stack and the device's certificate. Says which resources did not come out, and why.
    pub(crate) fn provision(&self, launcher: &Launcher, shards: u32) -> Result<(Device, Roles)> {
        let step = Step::start("creating everything from deploy/aws/speedtrap.yaml");
        let mut command = self.script("provision.py");
        command.arg("--template").arg(self.scripts.join("speedtrap.yaml")).arg("--keys").arg(&self.keys);
        command.arg("--parameter").arg(format!("ShardCount={shards}"));
        let finished = launcher.run(Spec::new("provision", command).output(Output::Capture), PROVISION_LIMIT, || Ok(()))?;
        let provisioned: Provisioned =
            serde_json::from_str(&finished.accept(&[0])?.stdout()?).context("provision.py printed something unexpected")?;
        step.done(&format!("{} resources", provisioned.resources));
        for Missing { resource, kind, why } in &provisioned.missing {
            eprintln!("warning: the local cloud has no {resource} ({kind}): {why}");
        }
        Ok((provisioned.device, provisioned.outputs))
    }

    /// Counts what arrived where.
    pub(crate) fn audit(&self, launcher: &Launcher, plates: &Path) -> Result<Audit> {
        let mut command = self.script("audit.py");
        command.arg("--plates").arg(plates);
        let finished = launcher.run(Spec::new("audit", command).output(Output::Capture), AUDIT_LIMIT, || Ok(()))?;
        serde_json::from_str(&finished.accept(&[0])?.stdout()?).context("audit.py printed something unexpected")
    }

    fn script(&self, name: &str) -> Command {
        let mut command = script_command(&self.python, &self.scripts, name, Some(&self.endpoint));
        command.arg("--endpoint").arg(&self.endpoint);
        command
    }
}

fn script_command(python: &Path, scripts: &Path, name: &str, endpoint: Option<&str>) -> Command {
    let mut command = Command::new(python);
    command.arg("-B").arg(scripts.join(name)).env_remove("PYTHONPATH").env_remove("PYTHONHOME").env("PYTHONNOUSERSITE", "1");
    aws_environment(&mut command, endpoint);
    command
}

/// Lets a child call as a role of the template, so that the local cloud's IAM holds it to what it may do on AWS. The SDK takes the
/// role on by itself, and again before its session ends.
pub(crate) fn call_as(command: &mut Command, role_arn: &str, name: &str, folder: &Path) -> Result<()> {
    let profile = folder.join(format!("{name}.aws"));
    let text = format!(
        "[profile root]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n\n\
         [default]\nrole_arn = {role_arn}\nrole_session_name = {name}\nsource_profile = root\n"
    );
    fs::write(&profile, text).with_context(|| format!("failed to write `{}`", profile.display()))?;
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_CONFIG_FILE", profile);
    Ok(())
}

/// Points a child at the local cloud and at nothing else: whatever AWS settings the caller has must not leak in.
pub(crate) fn aws_environment(command: &mut Command, endpoint: Option<&str>) {
    let inherited: Vec<OsString> = std::env::vars_os().map(|(key, _)| key).collect();
    for key in inherited.iter().filter(|key| key.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(key);
    }
    command
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    if let Some(endpoint) = endpoint {
        command.env("AWS_ENDPOINT_URL", endpoint);
    }
}
