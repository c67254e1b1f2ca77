//! From the stage into the table of drivers, and the ledger row with it; the same SQL on both kinds of server.

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::schema::Layout;
use super::server::Server;
use super::session::{Session, text, unsigned};
use super::sql;
use crate::load_ledger::{Committed, LoadFacts};
use crate::ports::PortError;

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Rows that stand in the table through this load, one for each plate.
    pub(crate) merged: u64,
    /// Those of them whose plate was there before.
    pub(crate) updated: u64,
}

/// Takes the ledger's lock, then looks the load up.
pub(super) async fn lock_and_find(session: &Session<'_>, load_id: &str) -> Result<Option<Committed>, PortError> {
    session.run(sql::LOCK_LEDGER).await?;
    let rows = session.query(sql::FIND_LOAD, &[text(&load_id)]).await?;
    Ok(rows.first().map(committed_of))
}

/// Merges what is staged of this load; the last row of a plate wins.
pub(super) async fn merge(session: &Session<'_>, server: Server, layout: &Layout, load_id: &str) -> Result<Merged, PortError> {
    session.run(&sql::for_columns(sql::CREATE_LATEST, layout)).await?;
    let now = sql_time(Timestamp::now());
    session.query(&sql::for_columns(sql::KEEP_LATEST, layout), &[text(&load_id), text(&now)]).await?;
    if server != Server::Redshift {
        session.run(sql::POSTGRESQL_ANALYZE).await?;
    }
    let merged = session.count(sql::COUNT_LATEST, &[]).await?;
    session.run(sql::REMOVE_REPEATED).await?;
    session.run(sql::REMOVE_OTHER_SPELLINGS).await?;
    let updated = session.count(sql::COUNT_MATCHED, &[]).await?;
    if server.has_merge() {
        session.run(&sql::for_columns(sql::MERGE, layout)).await?;
    } else {
        session.run(sql::POSTGRESQL_DELETE_MATCHED).await?;
        session.run(&sql::for_columns(sql::POSTGRESQL_INSERT_LATEST, layout)).await?;
    }
    Ok(Merged { merged, updated })
}

/// Writes the load into the ledger, and leaves nothing else behind in the session.
pub(super) async fn note_load(session: &Session<'_>, load: &LoadFacts, committed: Committed) -> Result<(), PortError> {
    let Committed { rows, merged, superseded, rejected } = committed;
    let counts = [rows, merged, superseded, rejected].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let file: String = load.file.chars().take(256).collect();
    let started_at = Timestamp::try_from(load.started_at).map(sql_time).unwrap_or_default();
    let now = sql_time(Timestamp::now());
    let mut parameters = vec![text(&load.load_id), text(&file), text(&load.file_sha256)];
    parameters.extend(counts.iter().map(|count| (count as _, Type::INT8)));
    parameters.extend([text(&started_at), text(&now)]);
    session.query(sql::INSERT_LEDGER, &parameters).await?;
    session.run(sql::DROP_STAGE).await
}

/// A row of the ledger.
pub(super) fn committed_of(row: &tokio_postgres::Row) -> Committed {
    let count = |place: usize| unsigned(row.get(place));
    Committed { rows: count(0), merged: count(1), superseded: count(2), rejected: count(3) }
}

/// UTC, as both kinds of server read it.
fn sql_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_without_a_zone() {
        assert_eq!(sql_time("2026-01-02T03:04:05.678901Z".parse().unwrap()), "2026-01-02 03:04:05.678901");
        assert_eq!(sql_time("2026-01-02T03:04:05Z".parse().unwrap()), "2026-01-02 03:04:05.000000");
    }
}
