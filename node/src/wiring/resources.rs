//! Looks for the streams and tables that the node was told to use, so that a wrong name is told at the start and by name.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::clients::Clients;
use crate::config::{NodeConfig, RoleName};
use crate::exit::{Exit, Stop};

/// What was learnt on the way.
#[derive(Debug, Default)]
pub(super) struct Found {
    account: Option<String>,
}

/// What one look came to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// It is there.
    There,
    /// It is not.
    Missing(String),
    /// We may not look; whether it is there shows when it is used.
    Unseen,
}

impl Found {
    /// Takes the account from the name of something found. Which of them a role may describe differs, so the first one counts.
    fn learn(&mut self, arn: Option<&str>) {
        if self.account.is_none() {
            self.account = arn.and_then(account_of);
        }
    }

    /// The AWS account that the streams and tables belong to.
    pub(super) fn account(&self) -> Result<&str, Stop> {
        self.account.as_deref().ok_or_else(|| {
            Stop::new(Exit::BadConfig, "bad configuration: archive.bucket is not set and the account in its name is not known")
                .why("no stream and no table could be described")
                .next("set archive.bucket, or allow kinesis:DescribeStreamSummary or dynamodb:DescribeTable")
        })
    }
}

/// Looks for everything that the roles use.
pub(super) async fn find(config: &NodeConfig, clients: &Clients) -> Result<Found, Stop> {
    let mut found = Found::default();
    let mut missing = BTreeSet::new();
    let mut note = |look: Look| {
        if let Look::Missing(what) = look {
            missing.insert(what);
        }
    };
    let letters = clients.dynamodb.describe_table().table_name(&config.dynamodb.dead_letters_table).send().await;
    found.learn(letters.as_ref().ok().and_then(|answer| answer.table()?.table_arn()));
    note(judge("table", &config.dynamodb.dead_letters_table, letters.map(drop), clients)?);
    for name in streams(config) {
        let answer = clients.kinesis.describe_stream_summary().stream_name(name).send().await;
        found.learn(answer.as_ref().ok().and_then(|answer| Some(answer.stream_description_summary()?.stream_arn())));
        note(judge("stream", name, answer.map(drop), clients)?);
    }
    for name in tables(config) {
        let answer = clients.dynamodb.describe_table().table_name(name).send().await;
        found.learn(answer.as_ref().ok().and_then(|answer| answer.table()?.table_arn()));
        let feeds_archive = name == config.dynamodb.speeding_table && config.node.roles.contains(&RoleName::Archive);
        let no_stream =
            answer.as_ref().is_ok_and(|answer| answer.table().is_some_and(|table| table.latest_stream_arn().is_none()));
        if feeds_archive && no_stream {
            note(Look::Missing(format!("the stream of table `{name}`")));
        }
        note(judge("table", name, answer.map(drop), clients)?);
    }
    if config.node.roles.contains(&RoleName::Archive) {
        let name = &config.archive.delivery_stream;
        let answer = clients.firehose.describe_delivery_stream().delivery_stream_name(name).send().await;
        note(judge("delivery stream", name, answer.map(drop), clients)?);
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let names: Vec<_> = missing.into_iter().collect();
    Err(Stop::new(Exit::NotFound, format!("missing in AWS: {}", names.join(", ")))
        .why(format!("AWS knows no such names in {}", clients.place))
        .next("create them from deploy/aws/speedtrap.yaml, or correct the names, the region or the endpoint"))
}

fn streams(config: &NodeConfig) -> BTreeSet<&str> {
    let of_role = |role: &RoleName| match role {
        RoleName::Enrich => vec![config.kinesis.in_stream.as_str(), config.kinesis.out_stream.as_str()],
        RoleName::Notify => vec![config.kinesis.out_stream.as_str()],
        RoleName::Archive => vec![],
        RoleName::Errors => vec![config.kinesis.error_stream.as_str()],
    };
    let ingest = config.ingest.is_on().then_some(config.kinesis.in_stream.as_str());
    config.node.roles.iter().flat_map(of_role).chain(ingest).collect()
}

fn tables(config: &NodeConfig) -> BTreeSet<&str> {
    let of_role = |role: &RoleName| match role {
        RoleName::Enrich => vec![config.dynamodb.speeding_table.as_str(), config.persist.raw_table.as_str()],
        RoleName::Notify => vec![config.dynamodb.alerts_table.as_str()],
        RoleName::Archive => vec![config.dynamodb.speeding_table.as_str()],
        RoleName::Errors => vec![],
    };
    config.node.roles.iter().flat_map(of_role).filter(|name| !name.is_empty()).collect()
}

/// Reads the answer of a describing call.
fn judge<E, R>(kind: &str, name: &str, answer: Result<(), SdkError<E, R>>, clients: &Clients) -> Result<Look, Stop>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    let Err(error) = answer else { return Ok(Look::There) };
    match error.code() {
        Some("ResourceNotFoundException") => return Ok(Look::Missing(format!("{kind} `{name}`"))),
        Some("AccessDeniedException" | "AccessDenied") => {
            tracing::info!(kind, name, "may not be described; whether it exists will show when it is used");
            return Ok(Look::Unseen);
        }
        _ => {}
    }
    Err(refusal(&format!("cannot look for {kind} `{name}`"), &error, &clients.place))
}

/// Says why a call at the start did not succeed.
pub(crate) fn refusal<E, R>(what: &str, error: &SdkError<E, R>, place: &str) -> Stop
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), message) => {
            let refused = !code.contains("Throttl") && !code.contains("Internal") && !code.contains("Unavailable");
            Stop::new(if refused { Exit::Refused } else { Exit::Unreachable }, format!("{what} ({place})"))
                .why(format!("AWS answered {code}: {}", message.unwrap_or("nothing more")))
                .next("check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID, the role of this machine), and what they may do")
        }
        (None, _) => {
            let why = chain(error);
            if why.to_ascii_lowercase().contains("credential") {
                return Stop::new(Exit::Refused, format!("{what} ({place})")).why(why).next(
                    "give credentials: AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of this machine",
                );
            }
            Stop::new(Exit::Unreachable, format!("{what} ({place})"))
                .why(why)
                .next("check AWS_ENDPOINT_URL, AWS_REGION and the network")
        }
    }
}

/// What an error says, from its outermost to its innermost cause.
pub(crate) fn chain<E: Error + 'static, R: fmt::Debug + 'static>(error: &SdkError<E, R>) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(inner) = source {
        parts.push(inner.to_string());
        source = inner.source();
    }
    parts.dedup();
    parts.join(": ")
}

/// The bucket of the archive, also where its name is left to the account.
///
/// # Errors
/// When it is not set, and the account cannot be found out.
pub(crate) async fn archive_bucket(config: &NodeConfig, clients: &Clients) -> Result<String, Stop> {
    if !config.archive.bucket.is_empty() {
        return Ok(config.archive.bucket.clone());
    }
    let table = &config.dynamodb.dead_letters_table;
    let answer = clients.dynamodb.describe_table().table_name(table).send().await;
    let answer = answer.map_err(|error| refusal(&format!("cannot look at table `{table}`"), &error, &clients.place))?;
    let mut found = Found::default();
    found.learn(answer.table().and_then(|table| table.table_arn()));
    Ok(format!("rtr-iot-archive-{}", found.account()?))
}

fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_stands_in_the_arn() {
        assert_eq!(account_of("arn:aws:dynamodb:us-east-1:123456789012:table/x").as_deref(), Some("123456789012"));
        assert_eq!(account_of("arn:aws:s3:::bucket"), None);
        assert_eq!(account_of("nonsense"), None);
    }

    #[test]
    fn only_what_the_roles_use_is_looked_for() {
        let mut config = NodeConfig::default();
        config.node.roles = vec![RoleName::Notify];
        assert_eq!(streams(&config), BTreeSet::from(["rtr-iot-kinesis-out-stream"]));
        assert_eq!(tables(&config), BTreeSet::from(["rtr-iot-alerts"]));
        config.node.roles = vec![RoleName::Enrich];
        config.persist.raw_table = "rtr-iot-raw".into();
        assert_eq!(tables(&config), BTreeSet::from(["rtr-iot-raw", "rtr-iot-speeding"]));
    }
}
