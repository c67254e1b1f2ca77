//! Staging on Redshift: COPY takes the rows from the bucket by itself, and says afterwards which ones it refused.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::CopyAs;
use super::manifest;
use super::refused::RefusedRow;
use super::schema::Layout;
use super::session::{Session, answered, text, unsigned};
use super::sql::{self, CopySource};
use crate::fault::{LoadFault, Remote};
use crate::ports::{BucketRows, PortError};
use crate::staged_objects;

/// The system view may lag behind the COPY it tells about.
const ERROR_LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// A line of an object that COPY refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadError {
    pub(super) line: u64,
    pub(super) column: String,
    pub(super) detail: String,
}

/// Copies the objects into the stage; gives the rows of this load that COPY refused. The objects may hold rows of other loads,
/// refused or not; the merge leaves them out.
pub(super) async fn stage(
    session: &Session<'_>,
    layout: &Layout,
    copy_as: &CopyAs,
    load_id: &str,
    sent: u64,
    staged: &BucketRows<'_>,
) -> Result<Vec<RefusedRow>, LoadFault> {
    session.run(&sql::for_columns(sql::CREATE_STAGE, layout)).await.map_err(|error| Remote::Warehouse.fault(error))?;
    let (_, manifest) = write_manifest(load_id, staged).await?;
    let source =
        CopySource { manifest: &manifest, iam_role: &copy_as.iam_role, region: copy_as.region.as_deref(), noload: false };
    copy(session, layout, &source).await.map_err(|error| Remote::Warehouse.fault(error))?;
    refused_rows(session, load_id, sent, staged).await
}

/// Lists the objects for COPY; gives the list's own key and address.
pub(super) async fn write_manifest(load_id: &str, staged: &BucketRows<'_>) -> Result<(String, String), LoadFault> {
    let key = manifest::key(load_id, Timestamp::now().as_millisecond());
    let content = manifest::content(staged.keys.iter().map(|key| staged.objects.url(key)));
    staged.objects.write(&key, content).await.map_err(|error| Remote::Bucket.fault(error))?;
    info!(manifest = key, objects = staged.keys.len(), "manifest written");
    let url = staged.objects.url(&key);
    Ok((key, url))
}

/// Runs the COPY.
pub(super) async fn copy(session: &Session<'_>, layout: &Layout, source: &CopySource<'_>) -> Result<(), PortError> {
    let copy = sql::redshift_copy(layout, source);
    match answered(session.timeout, session.transaction.batch_execute(&copy)).await {
        // It names the table of errors when there were more than it may skip; that stays so.
        Err(PortError::Unavailable(said)) if said.to_lowercase().contains("load_error") => {
            Err(PortError::Refused(format!("COPY refused too many rows: {said}")))
        }
        other => other,
    }
}

/// Waits until staged and refused rows are all that were sent.
async fn refused_rows(
    session: &Session<'_>,
    load_id: &str,
    sent: u64,
    staged: &BucketRows<'_>,
) -> Result<Vec<RefusedRow>, LoadFault> {
    let warehouse = |error| Remote::Warehouse.fault(error);
    let n_staged = session.count(sql::COUNT_STAGED, &[text(&load_id)]).await.map_err(warehouse)?;
    if n_staged == sent {
        return Ok(Vec::new());
    }
    let mut looks = 0;
    loop {
        let errors = load_errors(session).await.map_err(warehouse)?;
        let refused = rows_of(errors, load_id, staged).await?;
        looks += 1;
        if n_staged + refused.len() as u64 >= sent || looks == ERROR_LOOKS {
            warn!(refused = refused.len(), "COPY refused rows");
            return Ok(refused);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// What the last COPY refused, by object.
pub(super) async fn load_errors(session: &Session<'_>) -> Result<BTreeMap<String, Vec<LoadError>>, PortError> {
    let mut errors: BTreeMap<String, Vec<LoadError>> = BTreeMap::new();
    for row in session.query(sql::REDSHIFT_LOAD_ERRORS, &[]).await? {
        let said = |place| row.get::<_, Option<String>>(place).unwrap_or_default();
        let code = row.get::<_, Option<i64>>(3).unwrap_or_default();
        let error = LoadError {
            line: unsigned(row.get::<_, Option<i64>>(1).unwrap_or_default()),
            column: said(2),
            detail: format!("the warehouse refused it: error {code}: {}", said(4)),
        };
        errors.entry(said(0)).or_default().push(error);
    }
    Ok(errors)
}

/// Finds the rows of this load behind lines of objects. Rows count once, however often Firehose delivered them.
pub(super) async fn rows_of(
    errors: BTreeMap<String, Vec<LoadError>>,
    load_id: &str,
    staged: &BucketRows<'_>,
) -> Result<Vec<RefusedRow>, LoadFault> {
    let mut refused: BTreeMap<u64, RefusedRow> = BTreeMap::new();
    for (url, errors) in errors {
        let Some(key) = staged.keys.iter().find(|key| staged.objects.url(key) == url) else { continue };
        let wanted: BTreeMap<u64, LoadError> = errors.into_iter().map(|error| (error.line, error)).collect();
        let lines = wanted.keys().copied().collect();
        let rows = staged_objects::rows_at(staged.objects, key, load_id, &lines).await?;
        for (at, row) in rows {
            if let Some(LoadError { column, detail, .. }) = wanted.get(&at).cloned() {
                let column = (!column.is_empty()).then_some(column);
                refused.insert(row.line, RefusedRow { row, column, detail });
            }
        }
    }
    Ok(refused.into_values().collect())
}
