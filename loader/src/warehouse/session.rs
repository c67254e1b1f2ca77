//! Statements inside one transaction, each with a limit of time.

use std::time::Duration;

use deadpool_postgres::PoolError;
use speedtrap_actors::adapters::warehouse_failure;
use speedtrap_actors::ports::FailureKind;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Transaction};

use super::sql::plain;
use crate::ports::PortError;

/// A parameter with its type, so that nobody has to ask the server for it.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// An open transaction.
pub(super) struct Session<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) timeout: Duration,
}

impl Session<'_> {
    /// Runs statements without parameters.
    pub(super) async fn run(&self, sql: &str) -> Result<(), PortError> {
        answered(self.timeout, self.transaction.batch_execute(&plain(sql))).await
    }

    /// Runs one statement; gives its rows.
    pub(super) async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PortError> {
        answered(self.timeout, self.transaction.query_typed(&plain(sql), parameters)).await
    }

    /// Runs one statement that counts something.
    pub(super) async fn count(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, PortError> {
        let rows = self.query(sql, parameters).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }
}

/// A text as a parameter.
pub(super) fn text<'a>(text: &'a (dyn ToSql + Sync)) -> Parameter<'a> {
    (text, Type::VARCHAR)
}

/// Counts are BIGINT in the warehouse.
pub(super) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// Waits for an answer. A connection over a dead link looks open and answers nothing; the server's own limit, which comes first
/// where there is a server, cannot end that wait.
pub(super) async fn answered<T>(timeout: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, PortError> {
    match tokio::time::timeout(timeout + Duration::from_secs(1), call).await {
        Ok(answer) => answer.map_err(|error| sql_error(&error)),
        Err(_) => Err(PortError::Unavailable("no answer in time".to_owned())),
    }
}

pub(super) fn pool_error(error: PoolError) -> PortError {
    match error {
        PoolError::Backend(error) => sql_error(&error),
        PoolError::Timeout(_) => PortError::Unavailable("no connection in time".to_owned()),
        other => PortError::Unavailable(other.to_string()),
    }
}

pub(super) fn sql_error(error: &Error) -> PortError {
    let failure = warehouse_failure("warehouse", error);
    let detail = without_arns(&failure.detail);
    match failure.kind {
        // So Redshift says that another transaction came between: the whole transaction is to be repeated.
        _ if is_serialization_failure(error) => PortError::Unavailable(format!("another transaction came between: {detail}")),
        FailureKind::Refused => PortError::Refused(detail),
        FailureKind::Throttled => PortError::Throttled(detail),
        _ => PortError::Unavailable(detail),
    }
}

/// Redshift's "1023 Serializable isolation violation on table" has no code of its own.
fn is_serialization_failure(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| {
        said.message().contains("Serializable isolation violation") || said.message().trim_start().starts_with("1023")
    })
}

/// Redshift names roles in full where it may not take them on.
fn without_arns(text: &str) -> String {
    let hidden = |word: &str| match word.find("arn:aws") {
        Some(start) => format!("{}arn:…", &word[..start]),
        None => word.to_owned(),
    };
    text.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_not_shown() {
        let said = "User arn:aws:redshift:us-east-2:123456789012:dbuser:c/u is not authorized to assume IAM Role 'arn:aws:iam::1:role/r'";
        assert_eq!(without_arns(said), "User arn:… is not authorized to assume IAM Role 'arn:…");
    }
}
