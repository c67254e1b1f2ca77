//! What it takes to look back at single events: the operator's own way to the streams, tables and archive.

use std::sync::Arc;
use std::time::Duration;

use speedtrap_actors::adapters::{CallLimits, KinesisSource, LetterDesk, StreamReach, TraceDesk};
use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::ports::{DriverDirectory, FailureKind, RemoteFailure};

use super::clients::Clients;
use super::{letter_desk, warehouse};
use crate::config::NodeConfig;
use crate::exit::{Exit, Stop};

/// Somebody waits at a terminal, and can ask again.
const MOST_PATIENCE: Duration = Duration::from_secs(6);

/// The ways to what is left of an event.
pub(crate) struct TraceTools {
    pub(crate) desk: TraceDesk,
    pub(crate) letters: LetterDesk,
    pub(crate) in_stream: KinesisSource,
    pub(crate) out_stream: KinesisSource,
    /// How far back the in-stream and the out-stream go.
    pub(crate) reach: [Result<StreamReach, RemoteFailure>; 2],
    /// Where the archive is; `None` if that cannot be told.
    pub(crate) bucket: Option<String>,
    /// The registered drivers, or why they cannot be asked.
    pub(crate) drivers: Result<Arc<dyn DriverDirectory>, String>,
    /// Where all that is: named in messages.
    pub(crate) place: String,
}

/// Makes them. Nothing has to be there but a region; what cannot be reached is told where it is missed.
///
/// # Errors
/// When no region is set, or nothing answers.
pub(crate) async fn trace_tools(config: &NodeConfig) -> Result<TraceTools, Stop> {
    let clients = Clients::from_environment().await?;
    let limits = clients.limits("trace");
    let limits = CallLimits { budget: RetryBudget { most_elapsed: MOST_PATIENCE, ..limits.budget }, ..limits };
    let (tables, streams) = (&config.dynamodb, &config.kinesis);
    let desk = TraceDesk::new(
        &clients.dynamodb,
        &clients.kinesis,
        &clients.s3,
        &tables.speeding_table,
        &tables.alerts_table,
        limits.clone(),
    );
    let (in_reach, out_reach) = tokio::join!(desk.reach(&streams.in_stream), desk.reach(&streams.out_stream));
    if let (Err(failure), Err(_)) = (&in_reach, &out_reach)
        && failure.kind != FailureKind::Refused
    {
        return Err(Stop::new(Exit::Unreachable, format!("the streams cannot be reached ({})", clients.place))
            .why(failure)
            .next("check AWS_ENDPOINT_URL, AWS_REGION and the network"));
    }
    let account = [&in_reach, &out_reach].into_iter().find_map(|reach| reach.as_ref().ok()?.account.clone());
    let bucket = match &config.archive.bucket {
        named if !named.is_empty() => Some(named.clone()),
        _ => account.map(|account| format!("rtr-iot-archive-{account}")),
    };
    let drivers = warehouse::directory(config, &clients).await;
    Ok(TraceTools {
        desk,
        letters: letter_desk(config, &clients, bucket.clone().unwrap_or_default()),
        in_stream: KinesisSource::new(&clients.kinesis, &streams.in_stream, limits.clone()),
        out_stream: KinesisSource::new(&clients.kinesis, &streams.out_stream, limits),
        reach: [in_reach, out_reach],
        bucket,
        drivers: drivers.map_err(|stop| stop.what),
        place: clients.place,
    })
}
