//! Connections to the warehouse: Redshift, or a PostgreSQL that stands in for it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::client_tls::{ClientTlsError, client_tls};
use super::failure::{chain, scrubbed};
use crate::ports::{FailureKind, RemoteFailure};

/// A dead link must show before a lane counts as stalled (30 s); the system's own two hours are far too long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How the warehouse is connected to.
#[derive(Debug, Clone)]
pub struct WarehouseOptions {
    /// As it appears in the warehouse's list of sessions.
    pub application_name: String,
    /// Most connections at a time.
    pub max_connections: usize,
    /// For getting a connection: waiting for a free one, opening one, and checking an old one, each.
    pub connect_timeout: Duration,
    /// After this the warehouse itself ends a statement; without it, one that nobody waits for any more runs on.
    pub statement_timeout: Duration,
    /// Certificates to trust, in PEM; otherwise those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Why no connections to the warehouse can be made. Never holds the URL, since the password is in it.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// Not a URL that can be understood.
    #[error("the warehouse's URL is not of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require")]
    Url,
    /// The certificates to trust cannot be read.
    #[error(transparent)]
    Certificates(#[from] ClientTlsError),
    /// TLS or the pool cannot be set up.
    #[error("connections to the warehouse cannot be set up: {0}")]
    Setup(String),
}

/// Opens a pool of connections; none is made yet.
///
/// Connections use TLS with verified certificates, except where the URL says `sslmode=disable` or names only this machine
/// without saying anything. There is no silent fallback to plain text.
///
/// # Errors
/// When the URL cannot be understood or the certificates cannot be read.
pub fn warehouse_pool(url: &str, options: &WarehouseOptions) -> Result<Pool, WarehouseError> {
    let mut config = parsed(url)?;
    config
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE);
    // Verified, because a connection over a dead link looks open; other methods send what Redshift does not know.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
    let manager = match config.get_ssl_mode() {
        SslMode::Disable => Manager::from_config(config, NoTls, recycling),
        _ => Manager::from_config(config, MakeRustlsConnect::new(client_tls(options.ca_file.as_deref())?), recycling),
    };
    let set_timeout = Arc::new(format!("SET statement_timeout TO {}", options.statement_timeout.as_millis()));
    Pool::builder(manager)
        .max_size(options.max_connections)
        .timeouts(Timeouts {
            wait: Some(options.connect_timeout),
            create: Some(options.connect_timeout),
            recycle: Some(options.connect_timeout),
        })
        .runtime(Runtime::Tokio1)
        // Redshift takes no options at connection start, so the limit is set by a statement.
        .post_create(Hook::async_fn(move |client, _| {
            let set_timeout = Arc::clone(&set_timeout);
            Box::pin(async move { client.batch_execute(&set_timeout).await.map_err(HookError::Backend) })
        }))
        .build()
        .map_err(|error| WarehouseError::Setup(error.to_string()))
}

/// How a URL leads to its server.
pub(super) struct Reach {
    pub(super) is_encrypted: bool,
    /// On this machine.
    pub(super) is_near: bool,
}

/// Reads it from the URL; nothing is connected to.
pub(super) fn reach(url: &str) -> Result<Reach, WarehouseError> {
    let config = parsed(url)?;
    Ok(Reach { is_encrypted: config.get_ssl_mode() != SslMode::Disable, is_near: is_local(&config) })
}

fn parsed(url: &str) -> Result<Config, WarehouseError> {
    if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
        return Err(WarehouseError::Url);
    }
    // libpq's stricter words mean what `require` means here: certificates are always verified.
    let url = url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    // The parser's own error may quote parts of a password that is not percent-encoded.
    let mut config = Config::from_str(&url).map_err(|_| WarehouseError::Url)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(WarehouseError::Url);
    }
    if config.get_ssl_mode() == SslMode::Prefer {
        config.ssl_mode(if is_local(&config) { SslMode::Disable } else { SslMode::Require });
    }
    Ok(config)
}

fn is_local(config: &Config) -> bool {
    let named_locally = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    });
    named_locally && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Turns an error of the driver into a failure.
#[must_use]
pub fn warehouse_failure(call: &'static str, error: &tokio_postgres::Error) -> RemoteFailure {
    let Some(said) = error.as_db_error() else {
        let detail = scrubbed(&chain(error));
        // A certificate that is not trusted stays so; anything else about a connection may pass.
        let kind = if detail.contains("certificate") { FailureKind::Refused } else { FailureKind::Unreachable };
        return RemoteFailure { call, kind, detail };
    };
    let code = said.code();
    let kind = match code.code().get(..2) {
        _ if *code == SqlState::QUERY_CANCELED => FailureKind::TimedOut,
        _ if *code == SqlState::TOO_MANY_CONNECTIONS => FailureKind::Throttled,
        // Connection exceptions and shutdowns.
        Some("08" | "57") => FailureKind::Unreachable,
        Some("53") => FailureKind::Throttled,
        // Transaction rollbacks, system and internal errors.
        Some("40" | "58" | "XX") => FailureKind::ServerError,
        _ => FailureKind::Refused,
    };
    // Only the message: its detail and context may quote values.
    RemoteFailure { call, kind, detail: format!("{}: {}", code.code(), scrubbed(said.message())) }
}

/// Turns a failure to get a connection into one of ours.
pub(super) fn pool_failure(call: &'static str, error: &PoolError) -> RemoteFailure {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => warehouse_failure(call, error),
        PoolError::Timeout(_) => RemoteFailure { call, kind: FailureKind::TimedOut, detail: "no connection in time".to_owned() },
        other => RemoteFailure { call, kind: FailureKind::Unreachable, detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_be_spoken_to_in_plain_text_unasked() {
        let mode = |url: &str| parsed(url).map(|config| config.get_ssl_mode()).ok();
        assert_eq!(mode("postgresql://u:p@cluster.example.com:5439/dev"), Some(SslMode::Require));
        assert_eq!(mode("postgresql://u:p@cluster.example.com/dev?sslmode=verify-full"), Some(SslMode::Require));
        assert_eq!(mode("postgresql://u:p@cluster.example.com/dev?sslmode=disable"), Some(SslMode::Disable));
        assert_eq!(mode("postgresql://u:p@localhost/dev"), Some(SslMode::Disable));
        assert_eq!(mode("postgresql://u:p@127.0.0.1:5432/dev"), Some(SslMode::Disable));
        assert_eq!(mode("postgresql://u:p@127.0.0.1:5432/dev?sslmode=require"), Some(SslMode::Require));
        assert_eq!(mode("postgresql://u:p@localhost,cluster.example.com/dev"), Some(SslMode::Require));
    }

    #[test]
    fn faults_of_the_url_do_not_show_it() {
        for url in
            ["mysql://u:hunter2@h/d", "postgresql://u:hun%ter2@h/d?hunter2=1", "postgresql://", "postgresql://u:hunter2@h:port/d"]
        {
            let error = parsed(url).expect_err(url);
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{url}");
        }
    }
}
