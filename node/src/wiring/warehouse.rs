//! The way to the warehouse of drivers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use speedtrap_actors::adapters::{
    CallLimits, RedshiftDriverDirectory, WarehouseError, WarehouseOptions, WarehousePool, warehouse_pool,
};
use speedtrap_actors::domain::PlateKey;
use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::ports::DriverDirectory;

use super::clients::Clients;
use super::{bad, resources};
use crate::config::{NodeConfig, WarehouseConfig};
use crate::exit::{Exit, Stop};

/// The parts of a secret that matter here, under the names that Redshift and RDS give them.
#[derive(Deserialize)]
struct WarehouseSecret {
    username: String,
    password: String,
    host: Option<String>,
    port: Option<u16>,
    #[serde(alias = "dbname", alias = "dbName")]
    database: Option<String>,
}

/// Joins the warehouse. One that is down is only told of: lanes wait for it, and come back with it.
///
/// # Errors
/// When it is not known where the warehouse is.
pub(crate) async fn directory(config: &NodeConfig, clients: &Clients) -> Result<Arc<dyn DriverDirectory>, Stop> {
    let warehouse = &config.warehouse;
    let pool = connections(config, clients, &format!("speedtrap {}", config.node.name)).await?;
    let limits = clients.limits("driver_lookup");
    let tried_once = RetryBudget { most_elapsed: Duration::ZERO, ..limits.budget };
    let once = CallLimits { timeout: warehouse.connect_timeout, budget: tried_once, ..limits.clone() };
    let probe = RedshiftDriverDirectory::new(pool.clone(), once);
    if let Err(failure) = probe.drivers(&[PlateKey::of("?")]).await {
        tracing::warn!(%failure, "the warehouse does not answer; violations wait until it does");
    }
    let limits = CallLimits { timeout: warehouse.query_timeout, ..limits };
    Ok(Arc::new(RedshiftDriverDirectory::watched(pool, limits)))
}

/// Connections under a name of their own; none is made yet.
///
/// # Errors
/// When it is not known where the warehouse is.
pub(crate) async fn connections(config: &NodeConfig, clients: &Clients, name: &str) -> Result<WarehousePool, Stop> {
    let warehouse = &config.warehouse;
    let url = url(warehouse, clients).await?;
    let options = WarehouseOptions {
        application_name: name.to_owned(),
        max_connections: warehouse.pool_size,
        connect_timeout: warehouse.connect_timeout,
        statement_timeout: warehouse.query_timeout,
        ca_file: (!warehouse.ca_file.is_empty()).then(|| PathBuf::from(&warehouse.ca_file)),
    };
    warehouse_pool(&url, &options).map_err(|error| match error {
        WarehouseError::Certificates { .. } => bad("warehouse.ca_file", &error),
        error => bad("warehouse", &error),
    })
}

/// The warehouse's URL, from the first place that is set.
///
/// # Errors
/// When that place cannot be read or holds none.
pub(crate) async fn url(warehouse: &WarehouseConfig, clients: &Clients) -> Result<String, Stop> {
    if warehouse.url.is_set() {
        return Ok(warehouse.url.reveal().to_owned());
    }
    if !warehouse.url_file.is_empty() {
        let text = std::fs::read_to_string(&warehouse.url_file)
            .map_err(|error| bad("warehouse.url_file", &format!("`{}` cannot be read: {error}", warehouse.url_file)))?;
        return Ok(text.trim().to_owned());
    }
    let name = &warehouse.secret_arn;
    let answer = clients.secrets.get_secret_value().secret_id(name).send().await.map_err(|error| {
        if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) {
            return Stop::new(Exit::NotFound, format!("secret `{name}` does not exist ({})", clients.place))
                .next("create it, or set warehouse.secret_arn, warehouse.url_file or SPEEDTRAP_WAREHOUSE__URL");
        }
        resources::refusal(&format!("cannot read secret `{name}`"), &error, &clients.place)
    })?;
    from_secret(answer.secret_string().unwrap_or_default(), warehouse)
        .map_err(|why| bad("warehouse.secret_arn", &format!("secret `{name}` {why}")))
}

/// Makes the URL from a secret. The message of a failure holds nothing of it.
fn from_secret(text: &str, warehouse: &WarehouseConfig) -> Result<String, &'static str> {
    if text.starts_with("postgresql://") || text.starts_with("postgres://") {
        return Ok(text.trim().to_owned());
    }
    let secret: WarehouseSecret = serde_json::from_str(text).map_err(|_| "is no JSON object with `username` and `password`")?;
    let host = secret.host.unwrap_or_else(|| warehouse.host.clone());
    if host.is_empty() {
        return Err("names no `host`, and warehouse.host is not set");
    }
    let port = secret.port.unwrap_or(warehouse.port);
    let database = secret.database.as_deref().unwrap_or(&warehouse.database);
    let [user, password, database] = [&secret.username, &secret.password, database].map(percent_encoded);
    Ok(format!("postgresql://{user}:{password}@{host}:{port}/{database}"))
}

fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_redshift_becomes_a_url() {
        let secret =
            r#"{"username":"u","password":"p@ss/w:rd","engine":"redshift","host":"h.example","port":5440,"dbName":"cars"}"#;
        let url = from_secret(secret, &WarehouseConfig::default());
        assert_eq!(url.as_deref(), Ok("postgresql://u:p%40ss%2Fw%3Ard@h.example:5440/cars"));
    }

    #[test]
    fn what_a_secret_lacks_is_taken_from_the_configuration() {
        let warehouse = WarehouseConfig { host: "h.example".into(), ..WarehouseConfig::default() };
        let url = from_secret(r#"{"username":"u","password":"p"}"#, &warehouse);
        assert_eq!(url.as_deref(), Ok("postgresql://u:p@h.example:5439/dev"));
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_not_shown() {
        for secret in ["hunter2", r#"{"password":"hunter2"}"#, r#"{"username":"u","password":"hunter2"}"#] {
            let why = from_secret(secret, &WarehouseConfig::default()).expect_err("it cannot be used");
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
