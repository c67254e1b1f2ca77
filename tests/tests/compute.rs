//! The compute part's stack, as far as a local cloud goes: it comes out whole, its user data installs a node, that node runs with the
//! stack's role, and writes what the stack's alarms read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use speedtrap_tests::certificates::certificates;
use speedtrap_tests::compute::{self, Alarm};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::iam::{Iam, profile};
use speedtrap_tests::node::status;
use speedtrap_tests::process::Process;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::{commands, mqtt, programs, templates};

const NODES: &str = "speedtrap-nodes";

#[tokio::test]
async fn the_stack_comes_out_whole_with_the_permissions_of_its_lanes() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iam = Iam::of(&sandbox.endpoints);
    let operators = iam.outputs()?.remove("OperatorTopicArn").context("the data part names no topic")?;
    let template = templates::read("compute.yaml")?;
    let wanted: BTreeSet<_> = templates::resources(&template)?.into_keys().map(str::to_owned).collect();

    compute::deploy(&iam, NODES, &[("IngestBroker", "broker.example:8883")])?;
    ensure!(compute::resources(&iam, NODES)? == wanted, "{:?} and not {wanted:?}", compute::resources(&iam, NODES)?);
    let every = ["Node", "Enrich", "Notify", "Archive", "Errors", "Ingest"];
    ensure!(compute::policies(&iam, NODES)? == every.map(|kind| format!("{kind}Policy")).into());
    let alarms = compute::alarms(&iam, NODES)?;
    ensure!(alarms.len() == template.matches("Type: AWS::CloudWatch::Alarm").count(), "{alarms:#?}");
    let (scaling, telling): (Vec<_>, Vec<_>) = alarms.iter().partition(|alarm| alarm.metric.starts_with("GetRecords."));
    ensure!(telling.iter().all(|alarm| alarm.actions == [operators.clone()].into()), "{telling:#?}");
    ensure!(scaling.len() == 1 && scaling[0].actions.iter().all(|action| action.contains(":scalingPolicy:")), "{scaling:#?}");
    println!("figures: compute.yaml: {} of {} resources, {} alarms", wanted.len(), wanted.len(), alarms.len());

    for (lanes, policy) in
        [("enrich", "EnrichPolicy"), ("notify", "NotifyPolicy"), ("archive", "ArchivePolicy"), ("errors", "ErrorsPolicy")]
    {
        let stack = format!("speedtrap-{lanes}");
        compute::deploy(&iam, &stack, &[("Lanes", lanes)])?;
        let found = compute::policies(&iam, &stack)?;
        ensure!(found == ["NodePolicy", policy].map(str::to_owned).into(), "{stack}: {found:?}");
    }

    // What README.md lists as missing; once the local cloud has it, more can be shown.
    let group = iam.ask("autoscaling", "DescribeAutoScalingGroups", &[("AutoScalingGroupNames.member.1", NODES)])?;
    ensure!(group.contains("<DesiredCapacity>2<") && !group.contains("<InstanceId>"), "machines came up: {group}");
    let hooks = iam.ask("autoscaling", "DescribeLifecycleHooks", &[("AutoScalingGroupName", NODES)])?;
    ensure!(!hooks.contains("<LifecycleHookName>"), "it has hooks of a group: {hooks}");
    sandbox.end().await
}

/// A folder that stands for the root of a machine, with stand-ins for what only a machine of EC2 has.
struct Machine {
    root: PathBuf,
    calls: PathBuf,
    port: u16,
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

impl Machine {
    fn new(root: PathBuf) -> Result<Self> {
        for folder in ["usr/local/bin", "etc/systemd/system", "etc/logrotate.d", "var/log", "run/speedtrap"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // The links' port is fixed on a machine; here others may run.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { calls: root.join("calls"), root, port })
    }

    /// The archive with program and units, as README.md has it packed; gives its hash.
    async fn pack(&self) -> Result<String> {
        let program = self.root.join("pack/speedtrap");
        script(&program, &format!("exec '{}' \"$@\"", programs::folder()?.join("speedtrap").display()))?;
        let mut command = tokio::process::Command::new("tar");
        let deploy = programs::workspace().join("deploy");
        command.arg("-czf").arg(self.root.join("archive")).arg("-C").arg(self.root.join("pack")).arg("speedtrap");
        command.arg("-C").arg(&deploy).arg("speedtrap.toml");
        command.arg("-C").arg(deploy.join("systemd")).args(["speedtrap.service", "speedtrap-leave.service", "speedtrap-leave"]);
        let ended = commands::run(command).await?;
        ensure!(ended.code == Some(0), "{ended:?}");
        let mut command = tokio::process::Command::new("sha256sum");
        command.arg(self.root.join("archive"));
        let said = commands::run(command).await?.out;
        Ok(said.split(' ').next().unwrap_or_default().to_owned())
    }

    /// Runs user data; gives what it called.
    async fn install(&self, user_data: &str, secret: &str) -> Result<String> {
        let (root, calls) = (self.root.display(), self.calls.display());
        fs::write(self.root.join("secret"), secret)?;
        let bin = self.root.join("bin");
        let note = format!("echo \"${{0##*/}} $*\" >> '{calls}'");
        script(
            &bin.join("curl"),
            "case \"$*\" in *api/token) echo token ;; *local-ipv4) echo 127.0.0.1 ;; *instance-id) echo i-1 ;; *) exit 22 ;; esac",
        )?;
        let aws = format!(
            "{note}\ncase \"$1\" in s3) cp '{root}/archive' \"$7\" ;; secretsmanager) cat '{root}/secret' ;; cloudformation) ;; *) exit 2 ;; esac"
        );
        script(&bin.join("aws"), &aws)?;
        script(&bin.join("dnf"), &note)?;
        script(
            &bin.join("systemctl"),
            &format!("{note}\ncase \"$1\" in enable) touch '{root}/run/speedtrap/ready.json' ;; esac"),
        )?;
        let agent = self.root.join("opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl");
        script(&agent, &format!("{note}\ncp agent.json '{root}/agent.json'"))?;
        let mut text =
            user_data.replace("0.0.0.0:7301", &format!("127.0.0.1:{}", self.port)).replace(":7301", &format!(":{}", self.port));
        for folder in ["/etc/", "/usr/local/", "/opt/", "/var/log/", "/run/"] {
            text = text.replace(folder, &format!("{root}{folder}"));
        }
        let file = self.root.join("user-data");
        fs::write(&file, text)?;
        let mut command = tokio::process::Command::new("bash");
        command.arg(&file).env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH")?)).env("TMPDIR", &self.root);
        let ended = commands::run(command).await?;
        ensure!(ended.code == Some(0), "the user data failed: {ended:?}");
        Ok(fs::read_to_string(&self.calls)?)
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("the user data left no {path}"))
    }

    /// The unit's command in its environment, with the permissions of the stack's role, and the local cloud instead of AWS.
    fn command_as(&self, sandbox: &Sandbox, iam: &Iam) -> Result<tokio::process::Command> {
        let mut command = self.unit_command()?;
        let endpoints = &sandbox.endpoints;
        endpoints.aws_environment(&mut command);
        let role = format!("arn:aws:iam::000000000000:role/{}", iam.physical(NODES, "NodeRole")?);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("AWS_CONFIG_FILE", profile(endpoints, sandbox.folder(), "node-1", &role)?);
        command.env("SPEEDTRAP_WAREHOUSE__URL", &endpoints.warehouse_url).env("SPEEDTRAP_DASHBOARD__LISTEN", "127.0.0.1:0");
        if self.ready_file().exists() {
            fs::remove_file(self.ready_file())?;
        }
        Ok(command)
    }

    fn ready_file(&self) -> PathBuf {
        self.root.join("run/speedtrap/ready.json")
    }

    /// Waits until the node is ready; gives its address.
    async fn ready(&self) -> Result<String> {
        eventually("the node is ready", Duration::from_secs(90), || async {
            let said: Value = serde_json::from_str(&fs::read_to_string(self.ready_file()).context("no ready file")?)?;
            said["dashboard_url"].as_str().map(str::to_owned).context("no dashboard_url")
        })
        .await
    }

    /// The unit's own command and environment, with the drop-in of the instance.
    fn unit_command(&self) -> Result<tokio::process::Command> {
        let unit = self.read("etc/systemd/system/speedtrap.service")?;
        let start =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/speedtrap ")).context("no ExecStart")?;
        let place = |folder: &str| format!("{}/{folder}/", self.root.display());
        let start = start.replace("/etc/", &place("etc")).replace("/run/", &place("run")).replace("%l", "node-1");
        let mut command = programs::command("speedtrap")?;
        command.args(start.split(' ')).env("STATE_DIRECTORY", &self.root);
        let credentials = self.root.join("etc/speedtrap").display().to_string();
        let drop_in = self.read("etc/systemd/system/speedtrap.service.d/instance.conf")?.replace("%d", &credentials);
        let set = drop_in.lines().filter_map(|line| line.strip_prefix("Environment="));
        let environment = self.read("etc/speedtrap/environment")?;
        for (key, value) in set.chain(environment.lines()).filter_map(|line| line.split_once('=')) {
            command.env(key, value);
        }
        ensure!(drop_in.contains("StandardOutput=append:") && drop_in.contains("StandardError=inherit"), "{drop_in}");
        Ok(command)
    }
}

/// What an object of the embedded metric format is by its specification; gives its metrics with their dimensions and values.
fn metrics_of(object: &Value, bytes: usize) -> Result<Vec<(Alarm, f64)>> {
    ensure!(bytes < 256 << 10, "{bytes} bytes are more than an event of a log may have");
    ensure!(object["_aws"]["Timestamp"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{object}");
    let mut all = Vec::new();
    for directive in object["_aws"]["CloudWatchMetrics"].as_array().context("no directives")? {
        let metrics = directive["Metrics"].as_array().context("no metrics")?;
        ensure!((1..=100).contains(&metrics.len()), "{} metrics", metrics.len());
        for set in directive["Dimensions"].as_array().context("no dimensions")? {
            let keys = set.as_array().context("a set of dimensions is a list")?;
            ensure!(keys.len() <= 9, "{keys:?}");
            let value = |key: &str| object[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
            let pair = |key: &Value| Some((key.as_str()?.to_owned(), value(key.as_str()?)?));
            let dimensions: BTreeSet<_> = keys.iter().filter_map(pair).collect();
            ensure!(dimensions.len() == keys.len(), "a dimension has no text: {object}");
            for metric in metrics {
                let name = metric["Name"].as_str().context("a metric has no name")?;
                ensure!(["Seconds", "Bytes", "Count"].map(Value::from).contains(&metric["Unit"]), "{metric}");
                let value = object[name].as_f64().with_context(|| format!("{name} is no number"))?;
                let namespace = directive["Namespace"].as_str().unwrap_or_default().to_owned();
                let dimensions = dimensions.clone();
                all.push((Alarm { namespace, metric: name.to_owned(), dimensions, actions: BTreeSet::new() }, value));
            }
        }
    }
    Ok(all)
}

/// Sums of all that was written; an object's line stands among lines of the log, which are JSON too.
fn written(log: &str) -> Result<BTreeMap<Alarm, f64>> {
    let mut sums = BTreeMap::new();
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).with_context(|| format!("a torn line: {line}"))?;
        if object.get("_aws").is_some() {
            for (metric, value) in metrics_of(&object, line.len())? {
                *sums.entry(metric).or_default() += value;
            }
        }
    }
    Ok(sums)
}

#[tokio::test]
async fn the_user_data_installs_a_node_that_writes_what_the_alarms_read() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iam = Iam::of(&sandbox.endpoints);
    let machine = Machine::new(sandbox.folder().join("machine"))?;
    let hash = machine.pack().await?;
    let parts: Vec<String> =
        certificates(sandbox.folder())?.iter().map(|(_, file)| fs::read_to_string(file)).collect::<Result<_, _>>()?;
    let secret =
        json!({"ca": parts[0], "cert": parts[1], "key": parts[2], "cookie": "0123456789abcdef0123456789abcdef"}).to_string();
    let secret_arn = compute::cluster_secret(&iam, &secret)?;
    // No broker is there: the node dials on, and counts none of its messages.
    compute::deploy(
        &iam,
        NODES,
        &[("ProgramSha256", &hash), ("ClusterSecretArn", &secret_arn), ("IngestBroker", "127.0.0.1:1")],
    )?;
    let calls = machine.install(&compute::user_data(&iam, NODES)?, &secret).await?;
    let in_order = ["aws s3 cp", "aws secretsmanager get-secret-value", "dnf install", "amazon-cloudwatch-agent-ctl"];
    let in_order =
        in_order.into_iter().chain(["systemctl daemon-reload", "systemctl enable --now", "aws cloudformation signal-resource"]);
    ensure!(calls.lines().zip(in_order).all(|(call, expected)| call.starts_with(expected)), "{calls}");
    ensure!(calls.ends_with("--status SUCCESS\n"), "{calls}");
    let agent: Value = serde_json::from_str(&machine.read("agent.json")?)?;
    let collected = &agent["logs"]["logs_collected"]["files"]["collect_list"][0];
    ensure!(collected["log_group_name"] == format!("/speedtrap/{NODES}"), "{agent}");
    ensure!(machine.read("etc/speedtrap/environment")?.contains("\nSPEEDTRAP_METRICS__EMBEDDED_EVERY=60s\n"));

    let mut command = machine.command_as(&sandbox, &iam)?;
    command.env("SPEEDTRAP_METRICS__EMBEDDED_EVERY", "1s");
    // The agent reads the file that the drop-in names.
    let log = PathBuf::from(collected["file_path"].as_str().context("the agent reads no file")?);
    let mut node = Process::start_appending("node-1", command, &log)?;
    let url = machine.ready().await.with_context(|| node.log_tail())?;

    let (drivers, readings) = sandbox.make_files(&["--rows", "50"], &["--rows", "200", "--seed", "7"]).await?;
    sandbox.load(&drivers).await?;
    sandbox.publish(&readings, 0).await?;
    mqtt::publish(&sandbox.endpoints.mqtt, &[br#"{"licensePlate":"BAD"}"#.to_vec()]).await?;
    let all = eventually("everything has ended", Duration::from_secs(60), || async {
        let status = status(&url).await?;
        ensure!(
            status.is_idle() && status.ended("enrich", "rejected") >= 1 && status.all_ended("enrich") >= 201,
            "{:?}",
            status.json()
        );
        Ok(status)
    })
    .await?;
    node.signal(libc::SIGTERM)?;
    let ended = node.ended(Duration::from_secs(45)).await?;
    ensure!(ended.code() == Some(0), "{ended}\n{}", node.log_tail());

    let text = node.log();
    let refused: Vec<_> = text.lines().filter(|line| line.contains("AccessDenied")).collect();
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    let sums = written(&text)?;
    for alarm in compute::alarms(&iam, NODES)?.iter().filter(|alarm| alarm.namespace == "Speedtrap") {
        let metric = Alarm { actions: BTreeSet::new(), ..alarm.clone() };
        ensure!(sums.contains_key(&metric), "an alarm reads what no node writes: {alarm:?}");
    }
    // What was added from line to line, the last one at the end among them, is all that there was.
    let of = |metric: &str, outcome: &str| {
        let dimensions = [("outcome".to_owned(), outcome.to_owned())].into();
        let metric = Alarm { namespace: "Speedtrap".into(), metric: metric.into(), dimensions, actions: BTreeSet::new() };
        sums.get(&metric).copied().unwrap_or_default()
    };
    for outcome in ["under_limit", "published", "rejected", "notified", "archived"] {
        let counted: u64 = ["enrich", "notify", "archive", "errors"].iter().map(|role| all.ended(role, outcome)).sum();
        let written = of("speedtrap_events_total", outcome);
        ensure!((written - counted as f64).abs() < 0.5, "{outcome}: {written} written, {counted} counted");
    }
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("\"_aws\"")).collect();
    let writes = lines.iter().filter(|line| line.contains("\"Dimensions\":[[]]")).count();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    println!(
        "figures: embedded metrics: {} metrics (a name with its dimensions), {} lines and {} bytes a write",
        sums.len(),
        lines.len() / writes,
        bytes / writes
    );

    // Without the setting nothing is written to standard output.
    let mut command = machine.command_as(&sandbox, &iam)?;
    command.env_remove("SPEEDTRAP_METRICS__EMBEDDED_EVERY");
    let mut silent = Process::start_with_output("silent", command, sandbox.folder())?;
    machine.ready().await.with_context(|| silent.log_tail())?;
    silent.signal(libc::SIGTERM)?;
    silent.ended(Duration::from_secs(45)).await?;
    let out = fs::read_to_string(sandbox.folder().join("silent.out"))?;
    ensure!(out.is_empty(), "off by default, and yet: {out}");
    sandbox.end().await
}
