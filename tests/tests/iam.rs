//! The template's roles under an IAM that is enforced: they suffice for nodes, and no statement in them is idle.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use speedtrap_tests::iam::{Iam, RoleClients, Statement, profile};
use speedtrap_tests::node::Node;
use speedtrap_tests::oracle::Expected;
use speedtrap_tests::sandbox::Sandbox;

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
            let secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:rtr-iot/warehouse-AbCdEf";
            let may = iam.may(&clients.role_arn, "secretsmanager:GetSecretValue", secret)?;
            (!may).then(|| "AccessDenied".to_owned())
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

async fn is_denied(statement: &Statement, clients: &RoleClients, iam: &Iam) -> Result<bool> {
    let code = match statement.policy.as_str() {
        "NodePolicy" => call_of_node(&statement.sid, clients).await?,
        policy => call_of_lane(policy, &statement.sid, clients, iam).await?,
    };
    ensure!(code.as_deref() != Some("no answer"), "{}.{}: the call got no answer", statement.policy, statement.sid);
    Ok(code.is_some_and(|code| matches!(code.as_str(), "AccessDenied" | "AccessDeniedException" | "AuthorizationError")))
}

#[tokio::test]
async fn a_role_that_lacks_any_one_statement_is_refused_the_call_that_needs_it() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let iam = Iam::of(&sandbox.endpoints);
    let outputs = iam.outputs()?;
    let mut faults = Vec::new();
    let mut checked = BTreeSet::new();
    for (role, policy) in ROLES {
        let arn = outputs.get(role).with_context(|| format!("the stack names no {role}"))?;
        let all = iam.statements(arn)?;
        let whole = iam.clients(arn).await?;
        for statement in all.iter().filter(|statement| statement.policy == policy) {
            let name = format!("{policy}.{}", statement.sid);
            if is_denied(statement, &whole, &iam).await? {
                faults.push(format!("{name}: refused although the role has it"));
            }
            let others: Vec<&Statement> =
                all.iter().filter(|other| (&other.policy, &other.sid) != (&statement.policy, &statement.sid)).collect();
            let lacking = iam.make_role(&format!("without-{policy}-{}", statement.sid), &others)?;
            if !is_denied(statement, &iam.clients(&lacking).await?, &iam).await? {
                faults.push(format!("{name}: not refused although the role lacks it"));
            }
            checked.insert(name);
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(checked.len() >= 28, "some statements were not looked at: {checked:?}");
    println!("figures: {} statements of 7 policies, each refused one call when it alone is missing", checked.len());
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
