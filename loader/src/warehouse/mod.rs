//! The warehouse, on Redshift or PostgreSQL; which one it is, the server is asked.
//!
//! ```text
//! objects of a load ─┬ redshift:   manifest, COPY by the server, its errors read back ─┐
//!                    └ postgresql: rows through the loader into COPY FROM STDIN ────────┴▶ stage ▶ one row a plate ▶ MERGE, ledger
//! ```
//!
//! All of it is one transaction. SQL stands in `loader/sql`; `schema` says what the tables must be like.

mod drift;
mod dry_run;
mod manifest;
mod merge;
mod postgresql;
mod redshift;
mod refused;
mod schema;
mod server;
mod session;
mod sql;

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use speedtrap_actors::adapters::{WarehouseError, WarehouseOptions, warehouse_pool};
use tokio::sync::mpsc;
use tracing::info;

pub(crate) use self::drift::prepare;
use self::merge::committed_of;
pub(crate) use self::refused::Quarantine;
use self::refused::RefusedRow;
use self::schema::{DRIVERS, LEDGER, Layout, TableColumn};
pub(crate) use self::schema::{OnDrift, SchemaPlan};
pub(crate) use self::server::Server;
use self::session::{Session, answered, pool_error, text};
use crate::config::WarehouseConfig;
use crate::fault::{LoadFault, Remote};
use crate::load_ledger::{Committed, LoadFacts};
use crate::ports::{BucketRows, PortError, Warehouse};
use crate::staged_objects;

/// Chunks of rows between bucket and warehouse.
const CHUNKS_IN_FLIGHT: usize = 4;

/// The warehouse behind a pool of connections.
pub(crate) struct SqlWarehouse {
    pool: Pool,
    statement_timeout: Duration,
    copy_as: CopyAs,
    on_drift: OnDrift,
}

/// As whom Redshift reads the bucket.
struct CopyAs {
    /// An ARN, or `default`.
    iam_role: String,
    region: Option<String>,
}

impl SqlWarehouse {
    /// Opens no connection yet.
    pub(crate) fn new(url: &str, config: &WarehouseConfig) -> Result<Self, WarehouseError> {
        let options = WarehouseOptions {
            application_name: "speedtrap-loader".to_owned(),
            max_connections: 2,
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            ca_file: config.ca_file.clone(),
        };
        Ok(Self {
            pool: warehouse_pool(url, &options)?,
            statement_timeout: config.statement_timeout,
            copy_as: CopyAs { iam_role: config.iam_role.clone(), region: config.region.clone() },
            on_drift: config.on_drift,
        })
    }

    async fn client(&self) -> Result<Object, PortError> {
        self.pool.get().await.map_err(pool_error)
    }

    async fn compare(&self, client: &Object) -> Result<SchemaPlan, PortError> {
        let version = answered(self.statement_timeout, client.query_typed(sql::VERSION, &[])).await?;
        let server = Server::parse(version.first().map_or("", |row| row.get(0)));
        let drivers = self.columns(client, DRIVERS).await?;
        let ledger = self.columns(client, LEDGER).await?;
        Ok(SchemaPlan::compare(server, &drivers, &ledger))
    }

    async fn columns(&self, client: &Object, table: &str) -> Result<Vec<TableColumn>, PortError> {
        let sql = sql::plain(sql::TABLE_COLUMNS);
        let rows = answered(self.statement_timeout, client.query_typed(&sql, &[text(&table)])).await?;
        let column = |row: &tokio_postgres::Row| TableColumn {
            name: row.get(0),
            data_type: row.get(1),
            width: row.get::<_, Option<i64>>(2).and_then(|width| u64::try_from(width).ok()),
        };
        Ok(rows.iter().map(column).collect())
    }

    async fn commit_on(&self, client: &mut Object, load: &LoadFacts, staged: &BucketRows<'_>) -> Result<Committed, LoadFault> {
        let warehouse = |error| Remote::Warehouse.fault(error);
        let plan = self.compare(client).await.map_err(warehouse)?;
        let layout = plan.layout(self.on_drift).ok_or_else(|| LoadFault::Drift { plan: plan.text() })?;
        let transaction = answered(self.statement_timeout, client.transaction()).await.map_err(warehouse)?;
        let session = Session { transaction: &transaction, timeout: self.statement_timeout };
        let refused = match plan.warehouse {
            // A snapshot is taken by the first statement that reads, so a lock that came later would show the ledger of before.
            // Nothing streams through the loader meanwhile, so it is not held for long.
            Server::Redshift => {
                if let Some(known) = merge::lock_and_find(&session, &load.load_id).await.map_err(warehouse)? {
                    return Ok(known);
                }
                redshift::stage(&session, layout, &self.copy_as, &load.load_id, load.sent, staged).await?
            }
            // Each statement sees what was committed before it, so the lock is taken last and nobody waits while rows stream.
            Server::Postgresql { .. } => {
                let refused = stage_through_here(&session, layout, &load.load_id, staged).await?;
                if let Some(known) = merge::lock_and_find(&session, &load.load_id).await.map_err(warehouse)? {
                    return Ok(known);
                }
                refused
            }
        };
        let n_staged = session.count(sql::COUNT_STAGED, &[text(&load.load_id)]).await.map_err(warehouse)?;
        if n_staged + refused.len() as u64 != load.sent {
            let (sent, refused) = (load.sent, refused.len());
            let counts = format!("of {sent} rows sent, {n_staged} were staged and {refused} refused with a reason");
            return Err(warehouse(PortError::Refused(counts)));
        }
        staged.quarantine.put_aside(&refused).await?;
        let merged = merge::merge(&session, plan.warehouse, layout, &load.load_id).await.map_err(warehouse)?.merged;
        let committed = Committed {
            rows: load.rows,
            merged,
            superseded: n_staged.saturating_sub(merged),
            rejected: load.rejected + refused.len() as u64,
        };
        merge::note_load(&session, load, committed).await.map_err(warehouse)?;
        answered(self.statement_timeout, transaction.commit()).await.map_err(warehouse)?;
        Ok(committed)
    }
}

/// Lets the rows of the objects pass through the loader.
async fn stage_through_here(
    session: &Session<'_>,
    layout: &Layout,
    load_id: &str,
    staged: &BucketRows<'_>,
) -> Result<Vec<RefusedRow>, LoadFault> {
    let (rows, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let copied = staged_objects::copy_rows(staged.objects, staged.keys, load_id, rows);
    let (copied, refused) = tokio::join!(copied, postgresql::stage(session, layout, load_id, received));
    copied?;
    refused.map_err(|error| Remote::Warehouse.fault(error))
}

#[async_trait]
impl Warehouse for SqlWarehouse {
    async fn plan(&self) -> Result<SchemaPlan, PortError> {
        let client = self.client().await?;
        self.compare(&client).await
    }

    async fn run_ddl(&self, plan: &SchemaPlan) -> Result<(), PortError> {
        let client = self.client().await?;
        for ddl in plan.ddl() {
            info!(ddl, "the schema is changed");
            // One by one and outside transactions, where Redshift does not widen columns.
            answered(self.statement_timeout, client.batch_execute(ddl)).await?;
        }
        Ok(())
    }

    async fn find_load(&self, load_id: &str) -> Result<Option<Committed>, PortError> {
        let client = self.client().await?;
        let sql = sql::plain(sql::FIND_LOAD);
        let row = answered(self.statement_timeout, client.query_typed(&sql, &[text(&load_id)])).await?;
        Ok(row.first().map(committed_of))
    }

    async fn commit_load(&self, load: &LoadFacts, staged: &BucketRows<'_>) -> Result<Committed, LoadFault> {
        let mut client = self.client().await.map_err(|error| Remote::Warehouse.fault(error))?;
        let committed = self.commit_on(&mut client, load, staged).await;
        if committed.is_err() {
            // Whatever still runs on it ends with its connection, and nobody gets it in the middle of an answer.
            drop(Object::take(client));
        }
        committed
    }
}
