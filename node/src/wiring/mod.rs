//! The only place where adapters meet ports.

mod clients;
mod cluster;
mod dashboard;
mod ingest;
mod resources;
mod trace;
mod warehouse;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use speedtrap_actors::adapters::{
    CachedDrivers, DriverCacheLimits, DynamoAlertLedger, DynamoDeadLetters, DynamoLeaseTable, DynamoStreamSource,
    DynamoViolationStore, FirehoseArchive, KinesisSource, KinesisViolationStream, LetterDesk, LetterPlaces, SnsAlertSender,
};
use speedtrap_actors::cluster::Application;
use speedtrap_actors::domain::SpeedMph;
use speedtrap_actors::flow::Backoff;
use speedtrap_actors::ingest::IngestSettings;
use speedtrap_actors::lane::{ArchiveStages, EnrichStages, LaneSettings, LeaseTiming, NotifyStages, Stages, TextRate};
use speedtrap_actors::observe::{CallLog, LaneStats, LeaseBoard};
use speedtrap_actors::ports::{DeadLetters, ShardSource, StartAt, ViolationStore};
use speedtrap_actors::wire::SmsTemplate;
use tokio::sync::Semaphore;

use crate::config::{NodeConfig, RoleName};
use crate::exit::{Exit, Stop};
pub(crate) use clients::{Clients, sdk_config};
pub(crate) use cluster::{ClusterParts, now_ms};
pub(crate) use dashboard::dashboard_parts;
pub(crate) use resources::{archive_bucket, chain, refusal};
pub(crate) use trace::{TraceTools, trace_tools};
pub(crate) use warehouse::{connections as warehouse_connections, directory as driver_directory, url as warehouse_url};

/// One try of a call; the connection within it has 2 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// All tries of a call.
const CALL_BUDGET: Duration = Duration::from_secs(15);
/// Claims are kept for 30 days: longer than any record can be read again.
const CLAIM_TTL: Duration = Duration::from_secs(30 * 86_400);
/// Most plates of one query to the warehouse.
const MOST_KEYS: usize = 512;

/// Everything that a node runs.
pub(crate) struct Wired {
    /// What runs, one entry a role.
    pub(crate) applications: Vec<Application>,
    /// The cache of drivers, if role enrich runs.
    pub(crate) drivers: Option<Arc<CachedDrivers>>,
    /// The lane of an MQTT broker, if one is configured.
    pub(crate) ingest: Option<IngestSettings>,
    /// The dead letters, for operators.
    pub(crate) letters: Arc<LetterDesk>,
    /// What makes the node one of several.
    pub(crate) cluster: Option<ClusterParts>,
    /// How its remote calls fare.
    pub(crate) calls: CallLog,
}

/// Finds what the node needs in AWS and joins it with the lanes.
///
/// # Errors
/// When something is missing, refused or unreachable. A warehouse that is down is none: enrich lanes wait for it.
pub(crate) async fn wire(config: &NodeConfig, start: &StartAt) -> Result<Wired, Stop> {
    // Things that need no network first, so that their faults are told at once.
    let template = SmsTemplate::parse(&config.notify.template).map_err(|error| bad("notify.template", &error))?;
    let clients = Clients::from_environment().await?;
    let found = resources::find(config, &clients).await?;
    let enriching = config.node.roles.contains(&RoleName::Enrich);
    let drivers = if enriching { Some(drivers(config, &clients).await?) } else { None };

    let bucket = match &config.archive.bucket {
        bucket if !bucket.is_empty() => bucket.clone(),
        _ => format!("rtr-iot-archive-{}", found.account()?),
    };
    let letters: Arc<dyn DeadLetters> = Arc::new(DynamoDeadLetters::new(
        &clients.dynamodb,
        &clients.s3,
        &config.dynamodb.dead_letters_table,
        &bucket,
        clients.limits("lane_end"),
    ));
    let desk = Arc::new(letter_desk(config, &clients, bucket));
    let mut applications = Vec::new();
    for role in &config.node.roles {
        let (name, source, stages) = match role {
            RoleName::Enrich => match &drivers {
                Some(drivers) => enrich(config, &clients, drivers)?,
                None => continue,
            },
            RoleName::Notify => notify(config, &clients, template.clone())?,
            RoleName::Archive => archive(config, &clients),
            RoleName::Errors => errors(config, &clients),
        };
        applications.push(Application {
            name: name.to_owned(),
            source,
            leases: Arc::new(DynamoLeaseTable::new(&clients.dynamodb, name, clients.lease_limits(lease_user(*role), config))),
            letters: Arc::clone(&letters),
            stages,
            settings: settings(config, *role),
            start: start.clone(),
            stats: LaneStats::default(),
            board: LeaseBoard::default(),
            timing: LeaseTiming {
                renew_every: config.lease.renew_every,
                expires_after: config.lease.expires_after,
                sync_every: config.lease.sync_every,
            },
        });
    }
    let ingest = ingest::settings(config, &clients, &letters)?;
    let cluster = cluster::parts(config, &clients).await?;
    Ok(Wired { applications, drivers, ingest, letters: desk, cluster, calls: clients.calls })
}

fn letter_desk(config: &NodeConfig, clients: &Clients, bucket: String) -> LetterDesk {
    let places = LetterPlaces {
        table: config.dynamodb.dead_letters_table.clone(),
        bucket,
        in_stream: config.kinesis.in_stream.clone(),
        archive: config.archive.delivery_stream.clone(),
    };
    LetterDesk::new(&clients.dynamodb, &clients.s3, &clients.kinesis, &clients.firehose, places, clients.limits("letter_desk"))
}

type Parts<'a> = (&'a str, Arc<dyn ShardSource>, Stages);

async fn drivers(config: &NodeConfig, clients: &Clients) -> Result<Arc<CachedDrivers>, Stop> {
    let directory = warehouse::directory(config, clients).await?;
    let lookup = &config.lookup;
    let limits = DriverCacheLimits {
        max_entries: lookup.max_entries,
        known_ttl: lookup.known_for,
        unknown_ttl: lookup.unknown_for,
        linger: lookup.batch_linger,
        most_keys: MOST_KEYS,
        most_queries: lookup.max_queries,
    };
    Ok(Arc::new(CachedDrivers::new(directory, limits)))
}

fn enrich<'a>(config: &'a NodeConfig, clients: &Clients, drivers: &Arc<CachedDrivers>) -> Result<Parts<'a>, Stop> {
    let limit = SpeedMph::new(config.rule.limit_mph).ok_or_else(|| bad("rule.limit_mph", &"is no speed"))?;
    let store = |table: &str, user| {
        Arc::new(DynamoViolationStore::new(&clients.dynamodb, table, clients.limits(user))) as Arc<dyn ViolationStore>
    };
    let raw = &config.persist.raw_table;
    let stages = Stages::Enrich(EnrichStages {
        limit,
        raw: (!raw.is_empty()).then(|| store(raw, "raw_persister")),
        drivers: Arc::clone(drivers),
        store: store(&config.dynamodb.speeding_table, "violation_persister"),
        stream: Arc::new(KinesisViolationStream::new(
            &clients.kinesis,
            &config.kinesis.out_stream,
            clients.limits("violation_publisher"),
        )),
    });
    Ok((&config.dynamodb.enrich_leases, kinesis(clients, &config.kinesis.in_stream, "enrich/shard_reader"), stages))
}

fn notify<'a>(config: &'a NodeConfig, clients: &Clients, template: SmsTemplate) -> Result<Parts<'a>, Stop> {
    let notify = &config.notify;
    let rate = NonZeroU32::new(notify.max_texts_per_second).ok_or_else(|| bad("notify.max_texts_per_second", &"is 0"))?;
    let stages = Stages::Notify(NotifyStages {
        ledger: Arc::new(DynamoAlertLedger::new(
            &clients.dynamodb,
            &config.dynamodb.alerts_table,
            CLAIM_TTL,
            clients.limits("owner_notifier"),
        )),
        sender: Arc::new(SnsAlertSender::new(&clients.sns, clients.limits("owner_notifier"))),
        in_flight: Arc::new(Semaphore::new(notify.in_flight)),
        rate: Arc::new(TextRate::per_second(rate)),
        template,
        claim_expiry: notify.claim_expiry,
    });
    Ok((&config.dynamodb.notify_leases, kinesis(clients, &config.kinesis.out_stream, "notify/shard_reader"), stages))
}

fn archive<'a>(config: &'a NodeConfig, clients: &Clients) -> Parts<'a> {
    let tables = &config.dynamodb;
    let source = DynamoStreamSource::new(
        &clients.dynamodb,
        &clients.dynamodb_streams,
        &tables.speeding_table,
        clients.limits("archive/shard_reader"),
    );
    let archive = FirehoseArchive::new(&clients.firehose, &config.archive.delivery_stream, clients.limits("archive_writer"));
    (&tables.archive_leases, Arc::new(source), Stages::Archive(ArchiveStages { archive: Arc::new(archive) }))
}

fn errors<'a>(config: &'a NodeConfig, clients: &Clients) -> Parts<'a> {
    (&config.dynamodb.errors_leases, kinesis(clients, &config.kinesis.error_stream, "errors/shard_reader"), Stages::Errors)
}

fn kinesis(clients: &Clients, stream: &str, user: &'static str) -> Arc<dyn ShardSource> {
    Arc::new(KinesisSource::new(&clients.kinesis, stream, clients.limits(user)))
}

fn settings(config: &NodeConfig, role: RoleName) -> LaneSettings {
    let lane = &config.lane;
    let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
    let (credit_events, batch_events) = match role {
        RoleName::Notify => (config.notify.credit_events, config.notify.batch_events),
        _ => (lane.credit_events, lane.batch_events),
    };
    LaneSettings {
        credit_events,
        credit_bytes: bytes(lane.credit_bytes),
        batch_events,
        batch_bytes: bytes(lane.batch_bytes),
        poll_interval: config.kinesis.poll_interval,
        read_limit: if role == RoleName::Archive { config.kinesis.read_limit.min(1_000) } else { config.kinesis.read_limit },
        checkpoint_interval: lane.checkpoint_interval,
        backoff: Backoff { first: lane.backoff_first, most: lane.backoff_most },
        stall_after: lane.stall_after,
        longest_call: longest_call(config),
    }
}

/// Storing a batch may take three rounds of calls, each with its whole budget; a query to the warehouse has its own timeouts.
fn longest_call(config: &NodeConfig) -> Duration {
    let query = config.warehouse.connect_timeout + config.warehouse.query_timeout + CALL_BUDGET;
    (3 * (CALL_TIMEOUT + CALL_BUDGET)).max(query)
}

/// Whom calls about leases are noted for.
const fn lease_user(role: RoleName) -> &'static str {
    match role {
        RoleName::Enrich => "enrich/lease",
        RoleName::Notify => "notify/lease",
        RoleName::Archive => "archive/lease",
        RoleName::Errors => "errors/lease",
    }
}

fn bad(key: &str, why: &dyn std::fmt::Display) -> Stop {
    Stop::new(Exit::BadConfig, format!("bad configuration: {key}: {why}"))
}
