//! The compute part's stack in a local cloud.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::iam::{Iam, texts};
use crate::templates;

/// An alarm as the cloud has it: what it watches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    pub namespace: String,
    pub metric: String,
    pub dimensions: BTreeSet<(String, String)>,
    /// Topics and policies that it tells.
    pub actions: BTreeSet<String>,
}

/// Stores what the stack's nodes know each other by; gives its ARN.
///
/// # Errors
/// When it cannot be stored.
pub fn cluster_secret(iam: &Iam, text: &str) -> Result<String> {
    let body = json!({"Name": "rtr-iot/cluster", "SecretString": text});
    let made = iam.ask_json("secretsmanager", "secretsmanager.CreateSecret", &body)?;
    made["ARN"].as_str().map(str::to_owned).context("the secret has no ARN")
}

/// Deploys the compute part over the data part, with what has no default set to something, and these parameters.
///
/// # Errors
/// When the stack does not come out.
pub fn deploy(iam: &Iam, stack: &str, parameters: &[(&str, &str)]) -> Result<()> {
    let needed = [
        ("Vpc", "vpc-1"),
        ("Subnets", "subnet-1,subnet-2"),
        ("ProgramUri", "s3://speedtrap-programs/speedtrap.tar.gz"),
        ("ProgramSha256", "0000000000000000000000000000000000000000000000000000000000000000"),
        ("WarehouseHost", "warehouse.example"),
        ("ClusterSecretArn", "arn:aws:secretsmanager:us-east-1:000000000000:secret:rtr-iot/cluster-AbCdEf"),
    ];
    let others = needed.iter().filter(|(name, _)| !parameters.iter().any(|(given, _)| given == name));
    let names: Vec<_> = others.chain(parameters).collect();
    let numbered = names.iter().enumerate().flat_map(|(at, (name, value))| {
        let key = |part: &str| format!("Parameters.member.{}.{part}", at + 1);
        [(key("ParameterKey"), *name), (key("ParameterValue"), *value)]
    });
    let numbered: Vec<_> = numbered.collect();
    let body = templates::read("compute.yaml")?;
    let fixed = [("StackName", stack), ("TemplateBody", body.as_str()), ("Capabilities.member.1", "CAPABILITY_NAMED_IAM")];
    let asked: Vec<_> = fixed.into_iter().chain(numbered.iter().map(|(key, value)| (key.as_str(), *value))).collect();
    iam.ask("cloudformation", "CreateStack", &asked)?;
    for _ in 0..100 {
        let said = iam.ask("cloudformation", "DescribeStacks", &[("StackName", stack)])?;
        match texts(&said, "StackStatus").first() {
            Some(&"CREATE_COMPLETE") => return Ok(()),
            Some(&"CREATE_IN_PROGRESS") => std::thread::sleep(std::time::Duration::from_millis(100)),
            _ => bail!("{stack}: {said}"),
        }
    }
    bail!("{stack} was not deployed in time")
}

/// The resources of a stack that were made.
///
/// # Errors
/// When it cannot be asked, or one failed.
pub fn resources(iam: &Iam, stack: &str) -> Result<BTreeSet<String>> {
    let said = iam.ask("cloudformation", "DescribeStackResources", &[("StackName", stack)])?;
    let statuses: BTreeSet<_> = texts(&said, "ResourceStatus").into_iter().collect();
    ensure!(statuses == BTreeSet::from(["CREATE_COMPLETE"]), "{said}");
    Ok(texts(&said, "LogicalResourceId").into_iter().map(str::to_owned).collect())
}

/// The managed policies of the stack's role, by their names in the template of the data part.
///
/// # Errors
/// When they cannot be read.
pub fn policies(iam: &Iam, stack: &str) -> Result<BTreeSet<String>> {
    let role = iam.physical(stack, "NodeRole")?;
    let said = iam.ask("iam", "ListAttachedRolePolicies", &[("RoleName", &role)])?;
    Ok(texts(&said, "PolicyName").iter().filter_map(|name| name.split('-').nth(1)).map(str::to_owned).collect())
}

/// The alarms that the stack made.
///
/// # Errors
/// When they cannot be read.
pub fn alarms(iam: &Iam, stack: &str) -> Result<BTreeSet<Alarm>> {
    let asked = json!({"AlarmNamePrefix": format!("{stack}-")});
    let said = iam.ask_json("monitoring", "GraniteServiceVersion20100801.DescribeAlarms", &asked)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let alarm = |alarm: &Value| Alarm {
        namespace: text(&alarm["Namespace"]),
        metric: text(&alarm["MetricName"]),
        dimensions: list(&alarm["Dimensions"]).iter().map(|one| (text(&one["Name"]), text(&one["Value"]))).collect(),
        actions: list(&alarm["AlarmActions"]).iter().map(text).collect(),
    };
    let all: BTreeSet<_> = list(&said["MetricAlarms"]).iter().map(alarm).collect();
    ensure!(!all.is_empty(), "no alarms in {said}");
    Ok(all)
}

/// What a machine of the stack would run when it starts.
///
/// # Errors
/// When there is none.
pub fn user_data(iam: &Iam, stack: &str) -> Result<String> {
    let template = iam.physical(stack, "NodeTemplate")?;
    let said = iam.ask("ec2", "DescribeLaunchTemplateVersions", &[("LaunchTemplateId", &template)])?;
    let data = texts(&said, "userData").first().copied().context("the launch template has no user data")?;
    Ok(String::from_utf8(BASE64_STANDARD.decode(data)?)?)
}
