//! One look at the warehouse, for operators: who answers, over what connection, and what is known of the table of drivers.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::warehouse_pool::{Reach, WarehouseError, WarehouseOptions, pool_failure, reach, warehouse_failure, warehouse_pool};
use crate::ports::{FailureKind, RemoteFailure};

const CALL: &str = "warehouse look";
const TABLE: &str = "rtr_iot_driver_data";

/// What was seen.
#[derive(Debug, Clone)]
pub struct WarehouseLook {
    /// What the server says of itself.
    pub version: String,
    /// Whether the connection is encrypted, and so the certificate verified.
    pub is_encrypted: bool,
    /// Whether the server is on this machine.
    pub is_near: bool,
    /// The columns of the table of drivers that this user may see; none if there is no such table.
    pub columns: Vec<String>,
    /// Whether the table has a row.
    pub holds_drivers: Result<bool, RemoteFailure>,
}

/// Connects once, asks and leaves.
///
/// # Errors
/// Outside when the URL or the certificates cannot be used; inside when the server does not answer or refuses.
pub async fn look_at_warehouse(
    url: &str,
    options: &WarehouseOptions,
) -> Result<Result<WarehouseLook, RemoteFailure>, WarehouseError> {
    let Reach { is_encrypted, is_near } = reach(url)?;
    let pool = warehouse_pool(url, options)?;
    let look = async {
        let client = pool.get().await.map_err(|error| pool_failure(CALL, &error))?;
        let query = async |sql: &str, values: &[(&(dyn ToSql + Sync), Type)]| {
            let rows = in_time(options.statement_timeout, client.query_typed(sql, values)).await?;
            Ok::<_, RemoteFailure>(rows)
        };
        let version = query("SELECT version()", &[]).await?;
        let version = version.first().map(text).transpose()?.unwrap_or_default();
        let columns = "SELECT CAST(column_name AS VARCHAR) FROM information_schema.columns \
                       WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position";
        let columns = query(columns, &[(&TABLE, Type::VARCHAR)]).await?;
        let columns = columns.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let first = query("SELECT 1 FROM public.rtr_iot_driver_data LIMIT 1", &[]).await;
        let holds_drivers = first.map(|rows| !rows.is_empty());
        Ok(WarehouseLook { version, is_encrypted, is_near, columns, holds_drivers })
    };
    Ok(look.await)
}

async fn in_time(
    limit: Duration,
    query: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
) -> Result<Vec<Row>, RemoteFailure> {
    match tokio::time::timeout(limit, query).await {
        Ok(answer) => answer.map_err(|error| warehouse_failure(CALL, &error)),
        Err(_) => {
            let detail = format!("no answer within {limit:?}");
            Err(RemoteFailure { call: CALL, kind: FailureKind::TimedOut, detail })
        }
    }
}

fn text(row: &Row) -> Result<String, RemoteFailure> {
    row.try_get(0).map_err(|error| warehouse_failure(CALL, &error))
}
