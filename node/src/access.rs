//! An operator's own way to what flows and what is kept, for programs beside `speedtrap`: no node takes part.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use speedtrap_actors::adapters::{CallLimits, DriverRows, KinesisSource, TraceDesk};
use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::ports::{FailureKind, RemoteFailure};

use crate::audit::{Asked, Audit, Intent};
use crate::commands::load_for_node;
use crate::config::{self, Flags, NodeConfig};
use crate::exit::{Exit, Stop};
use crate::wiring::{self, Clients};

/// The configuration of the nodes, and clients for what it names.
pub struct Access {
    config: NodeConfig,
    clients: Clients,
}

/// The streams of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Readings as they come.
    In,
    /// Violations with their drivers.
    Out,
    /// What the IoT rule could not deliver.
    Errors,
}

/// Somebody looks at persons, and that is noted.
pub struct Reveal {
    audit: Audit,
    intent: Intent,
    path: PathBuf,
}

impl Access {
    /// Reads the nodes' configuration and makes the clients; nothing is called yet.
    ///
    /// # Errors
    /// When the configuration is bad, or no region is set.
    pub async fn new(file: Option<&Path>) -> Result<Self, Stop> {
        let config = load_for_node(file, Flags::default())?;
        Ok(Self { config, clients: Clients::from_environment().await? })
    }

    /// Where the clients call: named in messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.clients.place
    }

    /// A stream. Its calls are tried once: whoever reads beside the lanes has to wait longer than they do before it tries again.
    #[must_use]
    pub fn source(&self, stream: Stream) -> KinesisSource {
        let streams = &self.config.kinesis;
        let name = match stream {
            Stream::In => &streams.in_stream,
            Stream::Out => &streams.out_stream,
            Stream::Errors => &streams.error_stream,
        };
        let limits = self.clients.limits("sql");
        let once = RetryBudget { most_elapsed: Duration::ZERO, ..limits.budget };
        KinesisSource::new(&self.clients.kinesis, name, CallLimits { budget: once, ..limits })
    }

    /// The table of violations and the objects of the archive, read only.
    #[must_use]
    pub fn desk(&self) -> TraceDesk {
        let (tables, clients) = (&self.config.dynamodb, &self.clients);
        let (speeding, alerts) = (&tables.speeding_table, &tables.alerts_table);
        TraceDesk::new(&clients.dynamodb, &clients.kinesis, &clients.s3, speeding, alerts, clients.limits("sql"))
    }

    /// The bucket of the archive.
    ///
    /// # Errors
    /// When it is not set, and the account in its name cannot be found out.
    pub async fn archive_bucket(&self) -> Result<String, Stop> {
        wiring::archive_bucket(&self.config, &self.clients).await
    }

    /// The rows of the warehouse's table of drivers, with these columns.
    ///
    /// # Errors
    /// When it is not known where the warehouse is, or it does not answer.
    pub async fn driver_rows(&self, columns: &[&'static str]) -> Result<DriverRows, Stop> {
        let pool = wiring::warehouse_connections(&self.config, &self.clients, "speedtrap-sql").await?;
        let rows = DriverRows::open(&pool, columns, self.config.warehouse.query_timeout).await;
        rows.map_err(|failure| warehouse_stop(&failure))
    }

    /// Notes that somebody is about to look at persons. Nothing may be shown that could not be noted.
    ///
    /// # Errors
    /// When the audit log cannot be written.
    pub fn reveal(&self, what: &str, reason: &str) -> Result<Reveal, Stop> {
        let path = self.config.audit_file();
        let refused = |error: std::io::Error| {
            Stop::new(Exit::Refused, format!("nothing was shown, because the audit log {} cannot be written", path.display()))
                .why(error)
                .next("name a file that this user may write with dashboard.audit_file")
        };
        let audit = Audit::open(&self.config.node.name, &path).map_err(refused)?;
        let who = config::user();
        let asked = Asked { who: &who, role: "admin", from: "command", action: "reveal", target: what, reason, key: None };
        let intent = audit.intend(&asked).map_err(refused)?;
        Ok(Reveal { audit, intent, path })
    }
}

impl Reveal {
    /// Notes what became of it.
    pub fn end(self, outcome: Result<String, String>) {
        self.audit.conclude(self.intent, outcome);
    }

    /// The file that has it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A plate as it is shown where nobody gave a reason to see it.
#[must_use]
pub fn masked_plate(plate: &str) -> String {
    crate::api::masked_plate(plate)
}

/// A time as devices write it, in UTC.
#[must_use]
pub fn taken_at(text: &str) -> Option<SystemTime> {
    crate::trace::taken_at(text)
}

/// What a failed call to AWS means to whoever asked.
#[must_use]
pub fn remote_stop(what: &str, failure: &RemoteFailure, place: &str) -> Stop {
    let is_absent = failure.detail.contains("ResourceNotFoundException") || failure.detail.contains("NoSuchBucket");
    let exit = if failure.kind == FailureKind::Refused && is_absent { Exit::NotFound } else { exit_of(failure) };
    Stop::new(exit, format!("{what} ({place})"))
        .why(failure)
        .next("check AWS_ENDPOINT_URL, AWS_REGION, the credentials and what they may do, and the names in --config")
}

/// What a failed statement in the warehouse means.
#[must_use]
pub fn warehouse_stop(failure: &RemoteFailure) -> Stop {
    Stop::new(exit_of(failure), "the warehouse cannot be read").why(failure).next("look with `speedtrap doctor`")
}

fn exit_of(failure: &RemoteFailure) -> Exit {
    match failure.kind {
        FailureKind::Refused => Exit::Refused,
        _ => Exit::Unreachable,
    }
}
