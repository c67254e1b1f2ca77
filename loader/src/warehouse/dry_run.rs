//! A load that leaves nothing behind: PostgreSQL does all of it and rolls it back, Redshift checks the rows with COPY … NOLOAD.

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::warn;

use super::refused::RefusedRow;
use super::schema::{Layout, OnDrift, SchemaPlan};
use super::server::Server;
use super::session::{Session, answered};
use super::sql::{self, CopySource};
use super::{Quarantine, SqlWarehouse, merge, postgresql, redshift};
use crate::csv_rows::DriverRow;
use crate::fault::{LoadFault, Remote};
use crate::ports::{BucketRows, ObjectStore, PortError};
use crate::staged_row;

/// Size of an object that COPY is shown; a few of them keep all slices of a cluster busy.
const OBJECT_BYTES: usize = 8 * 1024 * 1024;

/// What a load would do.
pub(crate) struct DryRun {
    pub(crate) plan: SchemaPlan,
    pub(crate) refused: Vec<RefusedRow>,
    /// `None` on Redshift, which is only shown the rows.
    pub(crate) merged: Option<merge::Merged>,
}

impl SqlWarehouse {
    /// Does as if these rows were loaded. On Redshift they are written to `objects`, outside of what Firehose delivers, and
    /// taken away again.
    pub(crate) async fn dry_run(
        &self,
        rows: mpsc::Receiver<Vec<DriverRow>>,
        objects: &dyn ObjectStore,
        quarantine: &Quarantine,
    ) -> Result<DryRun, LoadFault> {
        let fault = |error| Remote::Warehouse.fault(error);
        let mut client = self.client().await.map_err(fault)?;
        let plan = self.compare(&client).await.map_err(fault)?;
        let layout = match self.on_drift {
            OnDrift::Add if plan.can_be_mended() => Some(Layout::wanted()),
            on_drift => plan.layout(on_drift).cloned(),
        };
        let Some(layout) = layout else { return Err(LoadFault::Drift { plan: plan.text() }) };
        let load_id = &quarantine.file.load_id;
        let transaction = answered(self.statement_timeout, client.transaction()).await.map_err(fault)?;
        let session = Session { transaction: &transaction, timeout: self.statement_timeout };
        let (refused, merged) = match plan.warehouse {
            Server::Redshift => {
                let mut keys = Vec::new();
                let checked = self.shown_to_copy(&session, &layout, rows, objects, quarantine, &mut keys).await;
                for key in &keys {
                    if let Err(error) = objects.remove(key).await {
                        warn!(%error, key, "an object of the dry run is left behind");
                    }
                }
                (checked?, None)
            }
            Server::Postgresql { .. } => {
                if self.on_drift == OnDrift::Add {
                    for ddl in plan.ddl() {
                        session.run(ddl).await.map_err(fault)?;
                    }
                }
                let refused = postgresql::stage(&session, &layout, load_id, rows).await.map_err(fault)?;
                let merged = merge::merge(&session, plan.warehouse, &layout, load_id).await.map_err(fault)?;
                (refused, Some(merged))
            }
        };
        answered(self.statement_timeout, transaction.rollback()).await.map_err(fault)?;
        Ok(DryRun { plan, refused, merged })
    }

    /// Writes the rows as objects, noting their keys, and lets COPY check them.
    async fn shown_to_copy(
        &self,
        session: &Session<'_>,
        layout: &Layout,
        mut rows: mpsc::Receiver<Vec<DriverRow>>,
        objects: &dyn ObjectStore,
        quarantine: &Quarantine,
        keys: &mut Vec<String>,
    ) -> Result<Vec<RefusedRow>, LoadFault> {
        let load_id = &quarantine.file.load_id;
        let started = Timestamp::now().as_millisecond();
        let mut content = Vec::new();
        loop {
            let chunk = rows.recv().await;
            for row in chunk.iter().flatten() {
                content.extend(staged_row::to_line(load_id, row).map_err(|error| LoadFault::Crashed(error.to_string()))?);
            }
            if content.len() >= OBJECT_BYTES || chunk.is_none() && !content.is_empty() {
                let key = format!("dry-runs/{load_id}/{started}-{}.json", keys.len());
                keys.push(key.clone());
                let written = objects.write(&key, std::mem::take(&mut content)).await;
                written.map_err(|error| Remote::Bucket.fault(error))?;
            }
            if chunk.is_none() {
                break;
            }
        }
        let data = keys.clone();
        let rows = BucketRows { objects, keys: &data, quarantine };
        let warehouse = |error: PortError| Remote::Warehouse.fault(error);
        let (key, manifest) = redshift::write_manifest(load_id, &rows).await?;
        keys.push(key);
        session.run(&sql::for_columns(sql::CREATE_STAGE, layout)).await.map_err(warehouse)?;
        let (iam_role, region) = (self.copy_as.iam_role.as_str(), self.copy_as.region.as_deref());
        let source = CopySource { manifest: &manifest, iam_role, region, noload: true };
        redshift::copy(session, layout, &source).await.map_err(warehouse)?;
        let errors = redshift::load_errors(session).await.map_err(warehouse)?;
        redshift::rows_of(errors, load_id, &rows).await
    }
}
