//! A stand-in for Amazon Redshift: PostgreSQL's protocol in front of a real PostgreSQL.
//!
//! It is not Redshift. It says it is one, refuses what a cluster refuses and PostgreSQL does not, measures VARCHAR in bytes, takes
//! Redshift's table attributes, and performs COPY from S3 with its table of errors. So the loader's Redshift path is run, not
//! only read. What it cannot show: how a cluster plans, distributes and isolates.
//!
//! Every stand-in has a schema of its own, which it shows to its clients as `public`.

mod copy;
mod dialect;
mod rewrite;
mod session;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::{Client, NoTls};

use self::copy::LoadError;
pub use self::dialect::{Refusal, refusal};
use crate::proxy::authority;

const SYSTEM: &str = "\
CREATE SCHEMA {schema};
CREATE TABLE {schema}.sys_load_error_detail (query_id BIGINT, file_name CHAR(256), line_number BIGINT, column_name CHAR(127),
    error_code INT, error_message CHAR(512));
CREATE FUNCTION {schema}.pg_last_copy_id() RETURNS BIGINT LANGUAGE sql AS
    $$ SELECT NULLIF(current_setting('redshift.last_copy_id', true), '')::bigint $$;";

/// A listening stand-in. It ends when dropped; its schema stays until the server goes.
pub struct Redshift {
    url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
    admin: JoinHandle<()>,
}

/// What all connections share.
struct Shared {
    upstream: SocketAddr,
    schema: String,
    s3: aws_sdk_s3::Client,
    admin: Client,
    latency: Duration,
    copies: AtomicU64,
    lose_commit: AtomicBool,
    fail_serialization: AtomicBool,
    statements: Mutex<Vec<String>>,
}

impl Redshift {
    /// Starts one in front of the server of a URL, reading objects through `s3`. Each request waits for `latency` first.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn before(url: &str, s3: aws_sdk_s3::Client, latency: Duration) -> Result<Self> {
        let upstream: SocketAddr = authority(url)?.parse().with_context(|| format!("`{url}` names no address"))?;
        let (admin, connection) = tokio_postgres::connect(url, NoTls).await.context("no PostgreSQL to stand before")?;
        let connection = tokio::spawn(async move {
            // Its end shows in the next statement.
            let _ended = connection.await;
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let schema = format!("redshift_{}_{}", std::process::id(), address.port());
        admin.batch_execute(&SYSTEM.replace("{schema}", &schema)).await.context("failed to make the system tables")?;
        let shared = Arc::new(Shared {
            upstream,
            schema,
            s3,
            admin,
            latency,
            copies: AtomicU64::new(0),
            lose_commit: AtomicBool::new(false),
            fail_serialization: AtomicBool::new(false),
            statements: Mutex::default(),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        let url = url.replacen(authority(url)?, &address.to_string(), 1);
        Ok(Self { url, shared, serving, admin: connection })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next commit is done and its answer lost: the connection ends instead.
    pub fn lose_next_commit(&self) {
        self.shared.lose_commit.store(true, Ordering::SeqCst);
    }

    /// The next MERGE fails with error 1023, as when another transaction came between.
    pub fn fail_next_merge(&self) {
        self.shared.fail_serialization.store(true, Ordering::SeqCst);
    }

    /// What clients asked for, in order, that begins with these words.
    ///
    /// # Panics
    /// When a connection panicked while it noted a statement.
    #[must_use]
    pub fn statements(&self, beginning: &str) -> Vec<String> {
        let statements = self.shared.statements.lock().expect("nobody panics while noting");
        statements.iter().filter(|statement| statement.trim_start().starts_with(beginning)).cloned().collect()
    }

    /// Runs statements as a client would.
    ///
    /// # Errors
    /// When one of them fails.
    pub async fn run(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(sql).await;
        connection.abort();
        let mut rows = Vec::new();
        for message in messages? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|place| row.get(place).unwrap_or("NULL").to_owned()).collect());
            }
        }
        Ok(rows)
    }
}

impl Drop for Redshift {
    fn drop(&mut self) {
        self.serving.abort();
        self.admin.abort();
    }
}

impl Shared {
    fn note(&self, statement: &str) {
        self.statements.lock().expect("nobody panics while noting").push(statement.to_owned());
    }

    /// Keeps what a COPY refused, whatever becomes of its transaction; gives the COPY's number.
    async fn keep_errors(&self, errors: &[LoadError]) -> Result<u64> {
        let id = self.copies.fetch_add(1, Ordering::SeqCst) + 1;
        let sql = format!("INSERT INTO {}.sys_load_error_detail VALUES ($1, $2, $3, $4, $5, $6)", self.schema);
        let query_id = i64::try_from(id)?;
        for LoadError { file, line, column, code, message } in errors {
            self.admin.execute(&sql, &[&query_id, file, line, column, code, message]).await?;
        }
        Ok(id)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if let Err(error) = session::serve(client, shared).await {
                eprintln!("a connection through the Redshift stand-in ended: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
