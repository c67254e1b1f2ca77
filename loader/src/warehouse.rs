//! The warehouse on Redshift or PostgreSQL, in SQL that both run: no arrays, no ON CONFLICT, no RETURNING, no COPY FROM STDIN.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use deadpool_postgres::{Pool, PoolError};
use speedtrap_actors::adapters::{WarehouseError, WarehouseOptions, warehouse_failure, warehouse_pool};
use speedtrap_actors::domain::LicensePlate;
use speedtrap_actors::ports::FailureKind;
use tokio::sync::mpsc;
use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use crate::config::WarehouseConfig;
use crate::contract::{COLUMNS, PLATE};
use crate::csv_rows::DriverRow;
use crate::load_ledger::{Committed, LoadFacts};
use crate::ports::{PortError, Warehouse};

/// Values of one staged row: the ten columns, the line and the plate's key.
const VALUES_PER_ROW: usize = COLUMNS.len() + 2;

/// Rows in one INSERT. Redshift takes 32,767 values a statement, which would be 2,730 rows; larger ones are not faster.
const ROWS_PER_INSERT: usize = 500;

const FIND_LOAD: &str = "SELECT rows, merged, superseded, rejected FROM public.rtr_iot_load_ledger WHERE load_id = $1";

const CREATE_STAGE: &str = "CREATE TEMP TABLE rtr_iot_stage (first_name VARCHAR(256), last_name VARCHAR(256), licenseplate VARCHAR(64), \
     email VARCHAR(320), address VARCHAR(512), city VARCHAR(256), state VARCHAR(256), zipcode VARCHAR(16), phonenumber VARCHAR(64), \
     myphone VARCHAR(64), src_line BIGINT, plate_key VARCHAR(256))";

/// Loads end one after the other. Without it, two loaders with the same file, or a commit that is still under way when its
/// loader asks again, could both find no ledger row. It is taken last, so that nobody waits while rows are staged.
const LOCK_LEDGER: &str = "LOCK TABLE public.rtr_iot_load_ledger";

/// Keys are computed by the server on both sides, so that its idea of upper case does not matter.
const DELETE_OLD: &str = "DELETE FROM public.rtr_iot_driver_data USING rtr_iot_stage \
     WHERE UPPER(BTRIM(rtr_iot_driver_data.licenseplate, ' ' || CHR(9) || CHR(10) || CHR(13))) = \
     UPPER(BTRIM(rtr_iot_stage.licenseplate, ' ' || CHR(9) || CHR(10) || CHR(13)))";

const INSERT_LATEST: &str = "INSERT INTO public.rtr_iot_driver_data (first_name, last_name, licenseplate, email, address, city, state, \
     zipcode, phonenumber, myphone, _load_id, _loaded_at) SELECT first_name, last_name, licenseplate, email, address, city, state, \
     zipcode, phonenumber, myphone, $1, $2 FROM (SELECT s.*, ROW_NUMBER() OVER (PARTITION BY plate_key ORDER BY src_line DESC) AS place \
     FROM rtr_iot_stage s) ranked WHERE place = 1";

const INSERT_LEDGER: &str = "INSERT INTO public.rtr_iot_load_ledger (load_id, file, file_sha256, rows, merged, superseded, rejected, \
     state, started_at, committed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'committed', $8, $9)";

/// The warehouse behind a pool of connections.
pub(crate) struct SqlWarehouse {
    pool: Pool,
    statement_timeout: Duration,
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
        Ok(Self { pool: warehouse_pool(url, &options)?, statement_timeout: config.statement_timeout })
    }

    /// A connection over a dead link looks open and answers nothing; the server's own limit cannot end that wait.
    async fn answered<T>(&self, call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, PortError> {
        match tokio::time::timeout(self.statement_timeout + Duration::from_secs(1), call).await {
            Ok(answer) => answer.map_err(|error| sql_error(&error)),
            Err(_) => Err(PortError::Unavailable("no answer in time".to_owned())),
        }
    }

    async fn stage(&self, transaction: &Transaction<'_>, mut rows: mpsc::Receiver<Vec<DriverRow>>) -> Result<u64, PortError> {
        self.answered(transaction.batch_execute(CREATE_STAGE)).await?;
        let mut staged = 0;
        while let Some(chunk) = rows.recv().await {
            for rows in chunk.chunks(ROWS_PER_INSERT) {
                let rows: Vec<StageRow<'_>> = rows.iter().map(StageRow::of).collect::<Result<_, _>>()?;
                let sql = insert_sql(rows.len());
                let values: Vec<(&(dyn ToSql + Sync), Type)> = rows.iter().flat_map(StageRow::values).collect();
                staged += self.answered(transaction.query_typed(&sql, &values)).await.map(|_| rows.len() as u64)?;
            }
        }
        Ok(staged)
    }

    async fn merge(&self, transaction: &Transaction<'_>, load: &LoadFacts) -> Result<Committed, PortError> {
        let now = SystemTime::now();
        self.answered(transaction.batch_execute(DELETE_OLD)).await?;
        let merged = self.answered(transaction.execute(INSERT_LATEST, &[&load.load_id, &now])).await?;
        let superseded = load.sent.saturating_sub(merged);
        let committed = Committed { rows: load.rows, merged, superseded, rejected: load.rejected };
        let [rows, merged, superseded, rejected] =
            [load.rows, merged, superseded, load.rejected].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        let file: String = load.file.chars().take(256).collect();
        let row: [&(dyn ToSql + Sync); 9] =
            [&load.load_id, &file, &load.file_sha256, &rows, &merged, &superseded, &rejected, &load.started_at, &now];
        self.answered(transaction.execute(INSERT_LEDGER, &row)).await?;
        self.answered(transaction.batch_execute("DROP TABLE rtr_iot_stage")).await?;
        Ok(committed)
    }
}

#[async_trait]
impl Warehouse for SqlWarehouse {
    async fn find_load(&self, load_id: &str) -> Result<Option<Committed>, PortError> {
        let client = self.pool.get().await.map_err(pool_error)?;
        let row = self.answered(client.query_typed(FIND_LOAD, &[(&load_id, Type::VARCHAR)])).await?;
        Ok(row.first().map(committed_of))
    }

    async fn commit_load(&self, load: &LoadFacts, rows: mpsc::Receiver<Vec<DriverRow>>) -> Result<Committed, PortError> {
        let mut client = self.pool.get().await.map_err(pool_error)?;
        let transaction = self.answered(client.transaction()).await?;
        let staged = self.stage(&transaction, rows).await?;
        if staged != load.sent {
            return Err(PortError::Refused(format!("only {staged} of {} rows could be read from the bucket again", load.sent)));
        }
        self.answered(transaction.batch_execute(LOCK_LEDGER)).await?;
        let known = self.answered(transaction.query_typed(FIND_LOAD, &[(&load.load_id, Type::VARCHAR)])).await?;
        if let Some(row) = known.first() {
            return Ok(committed_of(row));
        }
        let committed = self.merge(&transaction, load).await?;
        self.answered(transaction.commit()).await?;
        Ok(committed)
    }
}

/// A row as it is staged.
struct StageRow<'a> {
    row: &'a DriverRow,
    line: i64,
    key: String,
}

impl<'a> StageRow<'a> {
    fn of(row: &'a DriverRow) -> Result<Self, PortError> {
        let refused = || PortError::Refused(format!("the row of line {} came back without its plate", row.line));
        let plate = LicensePlate::parse(&row.values[PLATE]).map_err(|_| refused())?;
        Ok(Self { row, line: i64::try_from(row.line).unwrap_or(i64::MAX), key: plate.key().as_str().to_owned() })
    }

    fn values(&self) -> impl Iterator<Item = (&(dyn ToSql + Sync), Type)> {
        let texts = self.row.values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::VARCHAR));
        let line: (&(dyn ToSql + Sync), Type) = (&self.line, Type::INT8);
        let key: (&(dyn ToSql + Sync), Type) = (&self.key, Type::VARCHAR);
        texts.chain([line, key])
    }
}

fn insert_sql(rows: usize) -> String {
    let mut sql = String::from("INSERT INTO rtr_iot_stage VALUES ");
    for row in 0..rows {
        let places: Vec<String> = (1..=VALUES_PER_ROW).map(|place| format!("${}", row * VALUES_PER_ROW + place)).collect();
        let comma = if row == 0 { "" } else { ", " };
        sql.push_str(&format!("{comma}({})", places.join(", ")));
    }
    sql
}

fn committed_of(row: &tokio_postgres::Row) -> Committed {
    let count = |place: usize| u64::try_from(row.get::<_, i64>(place)).unwrap_or_default();
    Committed { rows: count(0), merged: count(1), superseded: count(2), rejected: count(3) }
}

fn pool_error(error: PoolError) -> PortError {
    match error {
        PoolError::Backend(error) => sql_error(&error),
        PoolError::Timeout(_) => PortError::Unavailable("no connection in time".to_owned()),
        other => PortError::Unavailable(other.to_string()),
    }
}

fn sql_error(error: &tokio_postgres::Error) -> PortError {
    let failure = warehouse_failure("warehouse", error);
    match failure.kind {
        FailureKind::Refused => PortError::Refused(failure.detail),
        FailureKind::Throttled => PortError::Throttled(failure.detail),
        _ => PortError::Unavailable(failure.detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_stays_within_what_redshift_binds() {
        let sql = insert_sql(ROWS_PER_INSERT);
        assert!(sql.ends_with(&format!("${})", ROWS_PER_INSERT * VALUES_PER_ROW)));
        const { assert!(ROWS_PER_INSERT * VALUES_PER_ROW <= 32_767) };
        assert_eq!(insert_sql(2).matches('(').count(), 2);
    }

    #[test]
    fn no_statement_uses_what_redshift_lacks() {
        for sql in [FIND_LOAD, CREATE_STAGE, LOCK_LEDGER, DELETE_OLD, INSERT_LATEST, INSERT_LEDGER] {
            let upper = sql.to_uppercase();
            assert!(
                ["RETURNING", "ON CONFLICT", "ANY(", "FROM STDIN", "ON COMMIT"].iter().all(|word| !upper.contains(word)),
                "{sql}"
            );
        }
    }
}
