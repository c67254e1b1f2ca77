//! Drivers from the warehouse.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool, Status};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use tokio_util::task::AbortOnDropHandle;

use super::failure::{CallLimits, Caller};
use super::warehouse_pool::{pool_failure, warehouse_failure};
use crate::domain::{Driver, PlateKey};
use crate::observe::Calls;
use crate::ports::{Connections, DriverDirectory, FailureKind, RemoteFailure};

const CALL: &str = "warehouse driver lookup";
const WAREHOUSE: &str = "warehouse";
/// Two tries that fail are told of within 3 s.
const WATCH_EVERY: Duration = Duration::from_millis(700);
/// Numbers of plates in one statement. Few different texts keep the warehouse's cache of compiled plans useful.
const WIDTHS: [usize; 5] = [1, 8, 32, 128, 512];
const MOST_PLATES: usize = 512;

/// The table `public.rtr_iot_driver_data`.
pub struct RedshiftDriverDirectory {
    pool: Pool,
    caller: Caller,
    timeout: Duration,
    _watch: Option<AbortOnDropHandle<()>>,
}

impl RedshiftDriverDirectory {
    /// Asks through this pool.
    #[must_use]
    pub fn new(pool: Pool, limits: CallLimits) -> Self {
        let timeout = limits.timeout;
        Self { pool, caller: Caller::new(WAREHOUSE.to_owned(), limits), timeout, _watch: None }
    }

    /// The same, and notes when the warehouse goes though nobody asks it anything. It is not asked anything for that, which would
    /// be billed: only when it has cut a connection, a new one is tried until there is one. Must be called within a tokio runtime.
    #[must_use]
    pub fn watched(pool: Pool, limits: CallLimits) -> Self {
        let watch = AbortOnDropHandle::new(tokio::spawn(watch(pool.clone(), limits.calls.clone())));
        Self { _watch: Some(watch), ..Self::new(pool, limits) }
    }

    /// Tries once.
    async fn query(&self, plates: &[PlateKey]) -> Result<Vec<Row>, RemoteFailure> {
        let noted = self.caller.note(CALL);
        let answer = self.ask(plates).await;
        match &answer {
            Ok(_) => noted.answered(),
            Err(failure) => noted.failed(failure),
        }
        answer
    }

    async fn ask(&self, plates: &[PlateKey]) -> Result<Vec<Row>, RemoteFailure> {
        let client = self.pool.get().await.map_err(|error| pool_failure(CALL, &error))?;
        let width = width_of(plates.len());
        let last = plates.last().expect("a chunk is not empty");
        let keys: Vec<&str> =
            plates.iter().chain(std::iter::repeat_n(last, width - plates.len())).map(PlateKey::as_str).collect();
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            keys.iter().map(|key| (key as &(dyn ToSql + Sync), Type::VARCHAR)).collect();
        match tokio::time::timeout(self.timeout, client.query_typed(&statement(width), &values)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(warehouse_failure(CALL, &error)),
            Err(_) => {
                // The abandoned query is still running on this connection, so nobody else may get it.
                drop(Object::take(client));
                let detail = format!("no answer within {:?}", self.timeout);
                Err(RemoteFailure { call: CALL, kind: FailureKind::TimedOut, detail })
            }
        }
    }
}

async fn watch(pool: Pool, calls: Calls) {
    let mut was_cut = false;
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        was_cut |= !pool.retain(|client, _| !client.is_closed()).removed.is_empty();
        if !was_cut {
            continue;
        }
        let noted = calls.begin(CALL, WAREHOUSE);
        match pool.get().await {
            Ok(_) => {
                noted.answered();
                was_cut = false;
            }
            Err(error) => noted.failed(&pool_failure(CALL, &error)),
        }
    }
}

fn width_of(n_plates: usize) -> usize {
    WIDTHS.into_iter().find(|width| *width >= n_plates).unwrap_or(MOST_PLATES)
}

/// One query for `width` plates.
///
/// No arrays, which Redshift does not take as parameters; a cast on every column, because a type that the client does not know
/// makes it query catalogue tables that Redshift lacks; the newest row of a plate comes last, because nothing there is unique.
fn statement(width: usize) -> String {
    let mut sql = "SELECT first_name::varchar, last_name::varchar, licenseplate::varchar, myphone::varchar \
                   FROM public.rtr_iot_driver_data \
                   WHERE upper(btrim(licenseplate, ' ' || chr(9) || chr(10) || chr(13))) IN ("
        .to_owned();
    for n in 1..=width {
        let comma = if n == 1 { "" } else { ", " };
        write!(sql, "{comma}${n}").expect("writing to a String cannot fail");
    }
    sql.push_str(") ORDER BY _loaded_at NULLS FIRST, _load_id NULLS FIRST");
    sql
}

/// The key is made from the plate as the row has it, by the same rule as for events; a row that the warehouse found by a
/// slightly different rule of its own cannot pass for another plate.
fn driver(row: &Row) -> Result<Option<(PlateKey, Driver)>, tokio_postgres::Error> {
    let text = |n: usize| row.try_get::<_, Option<String>>(n).map(|text| text.unwrap_or_default().into_boxed_str());
    let Some(plate) = row.try_get::<_, Option<String>>(2)? else { return Ok(None) };
    Ok(Some((PlateKey::of(&plate), Driver { first_name: text(0)?, last_name: text(1)?, myphone: text(3)? })))
}

#[async_trait]
impl DriverDirectory for RedshiftDriverDirectory {
    async fn drivers(&self, plates: &[PlateKey]) -> Result<HashMap<PlateKey, Driver>, RemoteFailure> {
        let mut drivers = HashMap::new();
        for chunk in plates.chunks(MOST_PLATES) {
            let mut retries = self.caller.retries();
            let rows = loop {
                match self.query(chunk).await {
                    Ok(rows) => break rows,
                    Err(failure) if failure.kind == FailureKind::Refused || !retries.wait().await => return Err(failure),
                    Err(_) => {}
                }
            };
            for row in &rows {
                drivers.extend(driver(row).map_err(|error| warehouse_failure(CALL, &error))?);
            }
        }
        drivers.retain(|plate, _| plates.contains(plate));
        Ok(drivers)
    }

    fn connections(&self) -> Option<Connections> {
        let Status { max_size, size, available, waiting } = self.pool.status();
        Some(Connections { most: max_size, open: size, in_use: size.saturating_sub(available), waiting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_few_widths() {
        for (n_plates, width) in [(1, 1), (2, 8), (8, 8), (9, 32), (100, 128), (129, 512), (512, 512)] {
            assert_eq!(width_of(n_plates), width, "{n_plates}");
        }
        assert!(statement(8).contains("IN ($1, $2, $3, $4, $5, $6, $7, $8)"));
        assert!(!statement(1).contains("ANY"));
    }
}
