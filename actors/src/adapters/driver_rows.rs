//! The whole table of drivers, for those who ask about all of them: fetched through a cursor, so that a table of any size needs the
//! memory of one fetch.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::SimpleQueryMessage;

use super::warehouse_pool::{pool_failure, warehouse_failure};
use crate::ports::{FailureKind, RemoteFailure};

const CALL: &str = "warehouse cursor";
/// A Redshift cluster of a single node gives no more rows in one fetch
/// (<https://docs.aws.amazon.com/redshift/latest/dg/declare.html>, "Cursor constraints").
const FETCH: &str = "FETCH FORWARD 1000 FROM speedtrap_rows";

/// Rows of the table `public.rtr_iot_driver_data`, in no order.
pub struct DriverRows {
    client: Object,
    timeout: Duration,
    n_columns: usize,
}

impl DriverRows {
    /// Opens a cursor over these columns, in a transaction that only reads.
    ///
    /// # Errors
    /// When the warehouse does not answer, or has no such table or column.
    pub async fn open(pool: &Pool, columns: &[&'static str], timeout: Duration) -> Result<Self, RemoteFailure> {
        let client = pool.get().await.map_err(|error| pool_failure(CALL, &error))?;
        // A count needs rows without columns, which no cursor gives.
        let listed = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
        let declare =
            format!("BEGIN READ ONLY; DECLARE speedtrap_rows CURSOR FOR SELECT {listed} FROM public.rtr_iot_driver_data");
        let rows = Self { client, timeout, n_columns: columns.len() };
        rows.ask(&declare).await?;
        Ok(rows)
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// When the warehouse does not answer.
    pub async fn next(&mut self) -> Result<Vec<Vec<Option<String>>>, RemoteFailure> {
        let messages = self.ask(FETCH).await?;
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..self.n_columns).map(|n| row.get(n).map(str::to_owned)).collect()),
            _ => None,
        };
        let rows: Vec<_> = messages.into_iter().filter_map(row).collect();
        if rows.is_empty() {
            // The connection goes back to its pool.
            self.ask("ROLLBACK").await?;
        }
        Ok(rows)
    }

    async fn ask(&self, statement: &str) -> Result<Vec<SimpleQueryMessage>, RemoteFailure> {
        match tokio::time::timeout(self.timeout, self.client.simple_query(statement)).await {
            Ok(answer) => answer.map_err(|error| warehouse_failure(CALL, &error)),
            Err(_) => {
                let detail = format!("no answer within {:?}", self.timeout);
                Err(RemoteFailure { call: CALL, kind: FailureKind::TimedOut, detail })
            }
        }
    }
}
