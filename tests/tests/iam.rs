//! The templates' policies under an IAM that is enforced: they suffice for nodes, and no statement in them is idle.
//!
//! Every statement of both templates is named here. One that goes, comes or changes its name fails a test until it is checked.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use serde_json::json;
use speedtrap_tests::compute;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::iam::{Iam, RoleClients, STACK, Statement, profile, texts};
use speedtrap_tests::node::Node;
use speedtrap_tests::oracle::Expected;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{IN_STREAM, all_records};
use speedtrap_tests::{mqtt, templates};

const NODES: &str = "speedtrap-nodes";
const ARCHIVE: &str = "rtr-iot-archive-000000000000";
const DRIVERS: &str = "rtr-iot-drivers-000000000000";

/// What roles may do: each is needed by a call.
const PERMISSIONS: [&str; 39] = [
    "NodePolicy.NodeTable",
    "NodePolicy.DeadLetters",
    "NodePolicy.DeadLetterPayloads",
    "NodePolicy.RedriveRecords",
    "NodePolicy.RedriveLines",
    "EnrichPolicy.Leases",
    "EnrichPolicy.SeeWhetherKcl3UsesTheTable",
    "EnrichPolicy.ReadInStream",
    "EnrichPolicy.WriteOutStream",
    "EnrichPolicy.StoreViolations",
    "EnrichPolicy.WarehousePassword",
    "NotifyPolicy.Leases",
    "NotifyPolicy.ReadOutStream",
    "NotifyPolicy.Claims",
    "NotifyPolicy.Texts",
    "ArchivePolicy.Leases",
    "ArchivePolicy.FindStream",
    "ArchivePolicy.ReadTableStream",
    "ArchivePolicy.Deliver",
    "ErrorsPolicy.Leases",
    "ErrorsPolicy.ReadErrorStream",
    "IngestPolicy.Lease",
    "IngestPolicy.WriteInStream",
    "LoaderPolicy.Deliver",
    "LoaderPolicy.ReadBack",
    "LoaderPolicy.TellCopy",
    "LoaderPolicy.FindObjects",
    "LoaderPolicy.WarehousePassword",
    "FirehoseRole.WriteObjects",
    "FirehoseRole.FindBuckets",
    "RuleRole.PutRecords",
    "WarehouseCopyRole.ReadObjects",
    "WarehouseCopyRole.ListObjects",
    "NodeRole.FetchProgram",
    "NodeRole.ClusterSecret",
    "NodeRole.TellTheStack",
    "NodeRole.LeaveTheGroup",
    "NodeRole.WriteLogs",
    "NodeRole.Sessions",
];
/// Who may take roles on: without it nobody can.
const TRUST: [(&str, &str); 9] = [
    (STACK, "AllLanesRole.sts:AssumeRole"),
    (STACK, "EnrichRole.sts:AssumeRole"),
    (STACK, "NotifyRole.sts:AssumeRole"),
    (STACK, "ArchiveRole.sts:AssumeRole"),
    (STACK, "ErrorsRole.sts:AssumeRole"),
    (STACK, "IngestRole.sts:AssumeRole"),
    (STACK, "LoaderRole.sts:AssumeRole"),
    (STACK, "WarehouseCopyRole.sts:AssumeRole"),
    (NODES, "NodeRole.Instances"),
];
/// The device's, the rule's, the buckets'.
const AROUND: [&str; 5] = [
    "RuleRole.sts:AssumeRole",
    "DevicePolicy.iot:Connect",
    "DevicePolicy.iot:Publish",
    "ArchiveBucketPolicy.OnlyTls",
    "DriversBucketPolicy.OnlyTls",
];
/// The local cloud's Firehose writes without taking its role on.
const BEYOND_THE_LOCAL_CLOUD: [&str; 1] = ["FirehoseRole.sts:AssumeRole"];

/// The narrowest role that holds each policy, so that no other policy of the role allows the same.
const ROLES: [(&str, &str); 7] = [
    ("ErrorsRoleArn", "NodePolicy"),
    ("EnrichRoleArn", "EnrichPolicy"),
    ("NotifyRoleArn", "NotifyPolicy"),
    ("ArchiveRoleArn", "ArchivePolicy"),
    ("ErrorsRoleArn", "ErrorsPolicy"),
    ("IngestRoleArn", "IngestPolicy"),
    ("LoaderRoleArn", "LoaderPolicy"),
];

/// The code of the error that a call ended with.
fn code<T, E: ProvideErrorMetadata>(answer: Result<T, SdkError<E>>) -> Option<String> {
    let error = answer.err()?;
    // A call that did not get an answer tells nothing of permissions.
    Some(error.code().map_or_else(|| "no answer".to_owned(), str::to_owned))
}

async fn scan(clients: &RoleClients, table: &str) -> Option<String> {
    code(clients.dynamodb.scan().table_name(table).limit(1).send().await)
}

async fn read_shards(clients: &RoleClients, stream: &str) -> Option<String> {
    code(clients.kinesis.list_shards().stream_name(stream).send().await)
}

async fn put_records(clients: &RoleClients, stream: &str) -> Option<String> {
    let entry = PutRecordsRequestEntry::builder().data(Blob::new("{}")).partition_key("iam").build().expect("all is set");
    code(clients.kinesis.put_records().stream_name(stream).records(entry).send().await)
}

async fn put_object(clients: &RoleClients, bucket: &str, key: &str) -> Option<String> {
    code(clients.s3.put_object().bucket(bucket).key(key).send().await)
}

async fn deliver(clients: &RoleClients, stream: &str) -> Option<String> {
    let record = aws_sdk_firehose::types::Record::builder().data(aws_sdk_firehose::primitives::Blob::new("{}\n"));
    let record = record.build().expect("all is set");
    code(clients.firehose.put_record_batch().delivery_stream_name(stream).records(record).send().await)
}

/// The one call that needs a statement of a node's policies.
async fn call_of_node(sid: &str, clients: &RoleClients) -> Result<Option<String>> {
    Ok(match sid {
        "NodeTable" => scan(clients, "rtr-iot-nodes").await,
        "DeadLetters" => scan(clients, "rtr-iot-dead-letters").await,
        "DeadLetterPayloads" => put_object(clients, "rtr-iot-archive-000000000000", "dead-letters/iam").await,
        "RedriveRecords" => {
            let request = clients.kinesis.put_record().stream_name("rtr-iot-kinesis-stream").partition_key("iam");
            code(request.data(Blob::new("{}")).send().await)
        }
        "RedriveLines" => {
            let record = aws_sdk_firehose::types::Record::builder().data(aws_sdk_firehose::primitives::Blob::new("{}\n"));
            let request = clients.firehose.put_record().delivery_stream_name("rtr-iot-dynamodb-stream");
            code(request.record(record.build().expect("all is set")).send().await)
        }
        other => bail!("NodePolicy.{other} has no check"),
    })
}

/// The one call that needs a statement of a lane's or the loader's policy.
async fn call_of_lane(policy: &str, sid: &str, clients: &RoleClients, iam: &Iam) -> Result<Option<String>> {
    Ok(match (policy, sid) {
        ("EnrichPolicy", "Leases") => scan(clients, "IotFastCarSensor").await,
        ("EnrichPolicy", "SeeWhetherKcl3UsesTheTable") => {
            code(clients.dynamodb.describe_table().table_name("IotFastCarSensor-CoordinatorState").send().await)
        }
        ("EnrichPolicy", "ReadInStream") => read_shards(clients, "rtr-iot-kinesis-stream").await,
        ("EnrichPolicy", "WriteOutStream") => put_records(clients, "rtr-iot-kinesis-out-stream").await,
        ("EnrichPolicy", "StoreViolations") => {
            let text = |text: &str| AttributeValue::S(text.to_owned());
            let request = clients.dynamodb.put_item().table_name("rtr-iot-speeding");
            code(request.item("licensePlate", text("IAM")).item("eventId", text("iam")).send().await)
        }
        ("EnrichPolicy" | "LoaderPolicy", "WarehousePassword") => {
            may(iam, clients, "secretsmanager:GetSecretValue", "secretsmanager", "secret:rtr-iot/warehouse-AbCdEf")?
        }
        ("NotifyPolicy", "Leases") => scan(clients, "rtr-iot-notify").await,
        ("NotifyPolicy", "ReadOutStream") => read_shards(clients, "rtr-iot-kinesis-out-stream").await,
        ("NotifyPolicy", "Claims") => {
            let request = clients.dynamodb.get_item().table_name("rtr-iot-alerts");
            code(request.key("eventId", AttributeValue::S("iam".to_owned())).send().await)
        }
        ("NotifyPolicy", "Texts") => code(clients.sns.publish().phone_number("+12015550100").message("iam").send().await),
        ("ArchivePolicy", "Leases") => scan(clients, "rtr-iot-archive").await,
        ("ArchivePolicy", "FindStream") => code(clients.dynamodb.describe_table().table_name("rtr-iot-speeding").send().await),
        ("ArchivePolicy", "ReadTableStream") => {
            let stream = iam.outputs()?.remove("SpeedingStreamArn").context("the stack names no table stream")?;
            code(clients.dynamodb_streams.describe_stream().stream_arn(stream).send().await)
        }
        ("ArchivePolicy", "Deliver") => deliver(clients, "rtr-iot-dynamodb-stream").await,
        ("ErrorsPolicy", "Leases") => scan(clients, "rtr-iot-errors").await,
        ("ErrorsPolicy", "ReadErrorStream") => read_shards(clients, "rtr-iot-kinesis-error-stream").await,
        ("IngestPolicy", "Lease") => {
            let request = clients.dynamodb.get_item().table_name("rtr-iot-ingest");
            code(request.key("leaseKey", AttributeValue::S("iam".to_owned())).send().await)
        }
        ("IngestPolicy", "WriteInStream") => put_records(clients, "rtr-iot-kinesis-stream").await,
        ("LoaderPolicy", "Deliver") => deliver(clients, "rtr-iot-drivers").await,
        ("LoaderPolicy", "ReadBack") => {
            code(clients.s3.get_object().bucket("rtr-iot-drivers-000000000000").key("drivers/iam").send().await)
        }
        ("LoaderPolicy", "TellCopy") => put_object(clients, "rtr-iot-drivers-000000000000", "manifests/iam").await,
        ("LoaderPolicy", "FindObjects") => code(clients.s3.list_objects_v2().bucket("rtr-iot-drivers-000000000000").send().await),
        (policy, sid) => bail!("{policy}.{sid} has no check"),
    })
}

/// What IAM itself says, for services that these tests have no client of, or whose resources the local cloud writes otherwise.
fn may(iam: &Iam, clients: &RoleClients, action: &str, service: &str, resource: &str) -> Result<Option<String>> {
    let may = iam.may(clients, action, &format!("arn:aws:{service}:us-east-1:000000000000:{resource}"))?;
    Ok((!may).then(|| "AccessDenied".to_owned()))
}

/// The one call that needs a statement of a role that a service of AWS takes on, or a machine.
async fn call_of_service(role: &str, sid: &str, clients: &RoleClients, iam: &Iam) -> Result<Option<String>> {
    let list = async |bucket: &str| code(clients.s3.list_objects_v2().bucket(bucket).send().await);
    let get = async |bucket: &str, key: &str| code(clients.s3.get_object().bucket(bucket).key(key).send().await);
    Ok(match (role, sid) {
        ("FirehoseRole", "WriteObjects") => put_object(clients, ARCHIVE, "speeding/iam").await,
        ("FirehoseRole", "FindBuckets") => list(ARCHIVE).await,
        ("RuleRole", "PutRecords") => {
            let request = clients.kinesis.put_record().stream_name(IN_STREAM).partition_key("iam");
            code(request.data(Blob::new("{}")).send().await)
        }
        ("WarehouseCopyRole", "ReadObjects") => get(DRIVERS, "drivers/iam").await,
        ("WarehouseCopyRole", "ListObjects") => list(DRIVERS).await,
        ("NodeRole", "FetchProgram") => get("speedtrap-programs", "speedtrap.tar.gz").await,
        ("NodeRole", "ClusterSecret") => {
            may(iam, clients, "secretsmanager:GetSecretValue", "secretsmanager", "secret:rtr-iot/cluster-AbCdEf")?
        }
        ("NodeRole", "TellTheStack") => {
            let said = iam.ask("cloudformation", "DescribeStacks", &[("StackName", NODES)])?;
            let stack = texts(&said, "StackId").first().and_then(|id| id.splitn(6, ':').last()).context("no StackId")?;
            may(iam, clients, "cloudformation:SignalResource", "cloudformation", stack)?
        }
        ("NodeRole", "LeaveTheGroup") => {
            let group = format!("autoScalingGroup:1:autoScalingGroupName/{NODES}");
            may(iam, clients, "autoscaling:CompleteLifecycleAction", "autoscaling", &group)?
        }
        ("NodeRole", "WriteLogs") => {
            let stream = format!("log-group:/speedtrap/{NODES}:log-stream:i-1");
            may(iam, clients, "logs:PutLogEvents", "logs", &stream)?
        }
        ("NodeRole", "Sessions") => may(iam, clients, "ssmmessages:OpenDataChannel", "ssmmessages", "*")?,
        (role, sid) => bail!("{role}.{sid} has no check"),
    })
}

async fn is_denied(statement: &Statement, clients: &RoleClients, iam: &Iam) -> Result<bool> {
    let code = match statement.policy.as_str() {
        "NodePolicy" => call_of_node(&statement.sid, clients).await?,
        role if role.ends_with("Role") => call_of_service(role, &statement.sid, clients, iam).await?,
        policy => call_of_lane(policy, &statement.sid, clients, iam).await?,
    };
    ensure!(code.as_deref() != Some("no answer"), "{}.{}: the call got no answer", statement.policy, statement.sid);
    Ok(code.is_some_and(|code| matches!(code.as_str(), "AccessDenied" | "AccessDeniedException" | "AuthorizationError")))
}

#[test]
fn every_statement_of_both_templates_has_a_check() -> Result<()> {
    let mut found = templates::statements(&templates::read("speedtrap.yaml")?)?;
    found.append(&mut templates::statements(&templates::read("compute.yaml")?)?);
    let trust = TRUST.map(|(_, name)| name);
    let named: BTreeSet<String> =
        [&PERMISSIONS[..], &trust, &AROUND, &BEYOND_THE_LOCAL_CLOUD].concat().into_iter().map(str::to_owned).collect();
    let [new, gone] = [(&found, &named), (&named, &found)].map(|(one, other)| one.difference(other).collect::<Vec<_>>());
    ensure!(new.is_empty() && gone.is_empty(), "without a check: {new:?}; no longer there: {gone:?}");
    Ok(())
}

/// The narrowest sets of statements that hold each one, so that no other allows the same, with who is to have them.
fn sets(iam: &Iam) -> Result<Vec<(Vec<Statement>, String)>> {
    let outputs = iam.outputs()?;
    let mut all = Vec::new();
    for (role, policy) in ROLES {
        let arn = outputs.get(role).with_context(|| format!("the stack names no {role}"))?;
        all.push((iam.statements(arn)?, policy.to_owned()));
    }
    for (stack, role) in [(STACK, "FirehoseRole"), (STACK, "RuleRole"), (STACK, "WarehouseCopyRole"), (NODES, "NodeRole")] {
        all.push((iam.own_statements(&iam.physical(stack, role)?, role)?, role.to_owned()));
    }
    Ok(all)
}

#[tokio::test]
async fn a_role_that_lacks_any_one_statement_is_refused_the_call_that_needs_it() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iam = Iam::of(&sandbox.endpoints);
    compute::deploy(&iam, NODES, &[])?;
    sandbox.clients.s3.create_bucket().bucket("speedtrap-programs").send().await?;
    let (mut faults, mut checked) = (Vec::new(), BTreeSet::new());
    for (all, holder) in sets(&iam)? {
        let whole = iam.make_role(&format!("with-{holder}"), &all.iter().collect::<Vec<_>>())?;
        let whole = iam.clients(&whole).await?;
        for statement in all.iter().filter(|statement| statement.policy == holder) {
            let name = format!("{holder}.{}", statement.sid);
            if is_denied(statement, &whole, &iam).await? {
                faults.push(format!("{name}: refused although the role has it"));
            }
            let others: Vec<&Statement> =
                all.iter().filter(|other| (&other.policy, &other.sid) != (&statement.policy, &statement.sid)).collect();
            let lacking = iam.make_role(&format!("without-{holder}-{}", statement.sid), &others)?;
            if !is_denied(statement, &iam.clients(&lacking).await?, &iam).await? {
                faults.push(format!("{name}: not refused although the role lacks it"));
            }
            checked.insert(name);
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(checked == PERMISSIONS.map(str::to_owned).into(), "looked at {checked:?}");
    println!("figures: {} permissions of both templates, each refused one call when it alone is missing", checked.len());
    sandbox.end().await
}

const NOBODY: &str = r#"{"Version": "2012-10-17", "Statement": []}"#;

#[tokio::test]
async fn a_role_that_trusts_nobody_is_taken_on_by_nobody() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iam = Iam::of(&sandbox.endpoints);
    compute::deploy(&iam, NODES, &[])?;
    for (stack, statement) in TRUST {
        let role = iam.physical(stack, statement.split('.').next().unwrap_or_default())?;
        let arn = format!("arn:aws:iam::000000000000:role/{role}");
        ensure!(iam.clients(&arn).await.is_ok(), "{statement}: the role cannot be taken on as it is");
        ensure!(iam.trust(&role)?.matches("sts:AssumeRole").count() == 1, "{statement} is not the only one");
        iam.set_trust(&role, NOBODY)?;
        ensure!(iam.clients(&arn).await.is_err(), "{statement}: the role is taken on without it");
    }

    // The topic rule takes its role on for each message.
    let arrived = async || anyhow::Ok(all_records(&sandbox.clients.kinesis, IN_STREAM).await?.len());
    let reading = br#"{"licensePlate":"IAM-1"}"#.to_vec();
    let role = iam.physical(STACK, "RuleRole")?;
    let as_it_was = iam.trust(&role)?;
    iam.set_trust(&role, NOBODY)?;
    mqtt::publish(&sandbox.endpoints.mqtt, std::slice::from_ref(&reading)).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(arrived().await? == 0, "RuleRole.sts:AssumeRole: the rule put a record without it");
    iam.set_trust(&role, &as_it_was)?;
    mqtt::publish(&sandbox.endpoints.mqtt, &[reading]).await?;
    eventually("the rule puts records", Duration::from_secs(20), || async {
        ensure!(arrived().await? == 1, "{} records", arrived().await?);
        Ok(())
    })
    .await?;
    sandbox.end().await
}

#[tokio::test]
async fn a_device_connects_and_publishes_by_one_statement_each() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iot = &sandbox.clients.iot;
    let document = iot.get_policy().policy_name("rtr-iot-device").send().await?.policy_document.context("no document")?;
    let document: serde_json::Value = serde_json::from_str(&document)?;
    let targets = iot.list_targets_for_policy().policy_name("rtr-iot-device").send().await?.targets.unwrap_or_default();
    let [certificate] = targets.as_slice() else { bail!("the policy is attached to {targets:?}") };
    let publish = async || mqtt::publish(&sandbox.endpoints.mqtt, &[b"{}".to_vec()]).await;
    publish().await.context("the device is refused as it is")?;
    iot.detach_policy().policy_name("rtr-iot-device").target(certificate).send().await?;
    let statements = document["Statement"].as_array().context("no statements")?;
    for (at, lacking) in statements.iter().enumerate() {
        let others: Vec<_> = statements.iter().filter(|other| *other != lacking).collect();
        let policy = format!("without-{at}");
        let text = json!({"Version": "2012-10-17", "Statement": others}).to_string();
        iot.create_policy().policy_name(&policy).policy_document(text).send().await?;
        iot.attach_policy().policy_name(&policy).target(certificate).send().await?;
        ensure!(publish().await.is_err(), "a device without {lacking} has published");
        iot.detach_policy().policy_name(&policy).target(certificate).send().await?;
    }
    let actions: BTreeSet<_> = statements.iter().filter_map(|statement| statement["Action"].as_str()).collect();
    ensure!(actions == ["iot:Connect", "iot:Publish"].into(), "{actions:?}");
    sandbox.end().await
}

#[tokio::test]
async fn buckets_refuse_calls_without_tls_by_their_policies() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iam = Iam::of(&sandbox.endpoints);
    let firehose = iam.own_statements(&iam.physical(STACK, "FirehoseRole")?, "FirehoseRole")?;
    let clients = iam.clients(&iam.make_role("writes-objects", &firehose.iter().collect::<Vec<_>>())?).await?;
    let list = async |bucket: &str| code(clients.s3.list_objects_v2().bucket(bucket).send().await);
    let required = [("Parameters.member.1.ParameterKey", "RequireTls"), ("Parameters.member.1.ParameterValue", "true")];
    let update = [("StackName", STACK), ("UsePreviousTemplate", "true"), ("Capabilities.member.1", "CAPABILITY_NAMED_IAM")];
    for bucket in [ARCHIVE, DRIVERS] {
        ensure!(list(bucket).await.is_none(), "{bucket} refuses calls as it is");
    }
    iam.ask("cloudformation", "UpdateStack", &[&update[..], &required].concat())?;
    for bucket in [ARCHIVE, DRIVERS] {
        // The local cloud speaks plain HTTP.
        eventually("it is refused", Duration::from_secs(20), || async {
            ensure!(list(bucket).await.as_deref() == Some("AccessDenied"), "{bucket} takes calls without TLS");
            Ok(())
        })
        .await?;
        sandbox.clients.s3.delete_bucket_policy().bucket(bucket).send().await?;
        ensure!(list(bucket).await.is_none(), "{bucket} refuses calls for another reason than its policy");
    }
    sandbox.end().await
}

#[tokio::test]
async fn nodes_with_the_role_of_their_lanes_and_nothing_more_do_all_the_work() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let (drivers, readings) = sandbox.make_files(&["--rows", "200"], &["--rows", "400", "--seed", "7"]).await?;
    let expected = Expected::of(&drivers, &readings)?;
    sandbox.load(&drivers).await?;
    let outputs = Iam::of(&sandbox.endpoints).outputs()?;
    let mut nodes = Vec::new();
    for (role, output) in
        [("enrich", "EnrichRoleArn"), ("notify", "NotifyRoleArn"), ("archive", "ArchiveRoleArn"), ("errors", "ErrorsRoleArn")]
    {
        let arn = outputs.get(output).with_context(|| format!("the stack names no {output}"))?;
        let config = profile(&sandbox.endpoints, sandbox.folder(), role, arn)?;
        let as_role = |command: &mut tokio::process::Command| {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
            command.env("AWS_CONFIG_FILE", config).env("SPEEDTRAP_NODE__ROLES", role);
        };
        nodes.push(Node::start_with(&sandbox.endpoints, sandbox.folder(), role, as_role).await?);
    }
    sandbox.publish(&readings, 0).await?;
    sandbox.reconciled(&expected, Duration::from_secs(120)).await?;
    for node in nodes {
        let log = node.process.log();
        let refused: Vec<_> =
            log.lines().filter(|line| line.contains("AccessDenied") || line.contains("may not be described")).collect();
        ensure!(refused.is_empty(), "{}", refused.join("\n"));
        node.stop().await?;
    }
    sandbox.end().await
}
