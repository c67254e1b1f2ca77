//! The warehouse: its address, who answers there, and the table of drivers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use speedtrap_actors::adapters::{WarehouseError, WarehouseLook, WarehouseOptions, look_at_warehouse};
use speedtrap_actors::ports::{FailureKind, RemoteFailure};

use super::report::Finding;
use super::{Check, Group, Place};
use crate::config::RoleName;
use crate::wiring;

/// One connection and a handful of questions.
const CONNECT: Duration = Duration::from_secs(3);
const QUERY: Duration = Duration::from_secs(3);
/// What a lookup reads.
const COLUMNS: [&str; 6] = ["first_name", "last_name", "licenseplate", "myphone", "_load_id", "_loaded_at"];
const TABLE: &str = "public.rtr_iot_driver_data";

/// What the look came to; its parts are lines of their own.
enum Looked {
    Seen(WarehouseLook),
    NoUrl(String),
    Setup(String),
    Failed(RemoteFailure),
}

type Look = Shared<BoxFuture<'static, Arc<Looked>>>;

/// One look for all lines; nothing where no driver is looked up.
pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    if !place.has(RoleName::Enrich) {
        return Vec::new();
    }
    let at = Arc::clone(place);
    let look: Look = async move { Arc::new(look(&at).await) }.boxed().shared();
    let of = |id: &'static str, judge: fn(&Looked) -> Finding| {
        let look = look.clone();
        Check::remote(Group::Warehouse, id, async move { judge(&*look.await) })
    };
    vec![
        // That a URL can be read says nothing of whether anybody answers there.
        Check { is_remote: false, ..of("warehouse.address", address) },
        of("warehouse.reach", reach),
        of("warehouse.tls", tls),
        of("warehouse.dialect", dialect),
        of("warehouse.drivers", drivers),
    ]
}

async fn look(place: &Place) -> Looked {
    let warehouse = &place.config.warehouse;
    let url = match wiring::warehouse_url(warehouse, &place.clients).await {
        Ok(url) => url,
        Err(stop) => return Looked::NoUrl(stop.to_string().replace('\n', "; ")),
    };
    let options = WarehouseOptions {
        application_name: format!("speedtrap doctor {}", place.config.node.name),
        max_connections: 1,
        connect_timeout: CONNECT.min(warehouse.connect_timeout),
        statement_timeout: QUERY,
        ca_file: (!warehouse.ca_file.is_empty()).then(|| PathBuf::from(&warehouse.ca_file)),
    };
    match look_at_warehouse(&url, &options).await {
        Ok(Ok(seen)) => Looked::Seen(seen),
        Ok(Err(failure)) => Looked::Failed(failure),
        Err(error @ (WarehouseError::Url | WarehouseError::Certificates { .. } | WarehouseError::Setup(_))) => {
            Looked::Setup(error.to_string())
        }
    }
}

fn address(looked: &Looked) -> Finding {
    match looked {
        Looked::NoUrl(why) => {
            Finding::fail(why.clone(), "set SPEEDTRAP_WAREHOUSE__URL, warehouse.url_file or warehouse.secret_arn")
        }
        Looked::Setup(why) => Finding::fail(why.clone(), "correct the warehouse's URL, or warehouse.ca_file"),
        Looked::Seen(_) | Looked::Failed(_) => Finding::ok("the warehouse's URL was found and can be understood"),
    }
}

fn reach(looked: &Looked) -> Finding {
    match looked {
        Looked::Seen(_) => Finding::ok("it answers"),
        Looked::Failed(failure) if failure.kind == FailureKind::Refused => Finding::fail(
            format!("it refuses: {}", failure.detail),
            "check user, password, database and the certificates that are trusted (warehouse.ca_file)",
        ),
        Looked::Failed(failure) => Finding::no_answer(&failure.detail)
            .next("check host and port, and that the cluster is running and its security group lets this machine in; enrich lanes wait meanwhile"),
        Looked::NoUrl(_) | Looked::Setup(_) => unlooked(),
    }
}

fn tls(looked: &Looked) -> Finding {
    match looked {
        Looked::Seen(seen) if seen.is_encrypted => Finding::ok("TLS, with a certificate that was verified"),
        Looked::Seen(seen) if seen.is_near => Finding::ok("plain text, within this machine"),
        Looked::Seen(_) => Finding::warn(
            "plain text over the network, as the URL's sslmode=disable asks for; names and phone numbers go there",
            "take sslmode=disable out of the URL; certificates are then verified",
        ),
        _ => unlooked(),
    }
}

fn dialect(looked: &Looked) -> Finding {
    match looked {
        Looked::Seen(seen) if seen.version.contains("Redshift") => Finding::ok("Redshift"),
        Looked::Seen(seen) if seen.version.starts_with("PostgreSQL") => {
            let words: Vec<_> = seen.version.split_whitespace().take(2).collect();
            Finding::ok(words.join(" "))
        }
        Looked::Seen(seen) => Finding::warn(
            format!("neither Redshift nor PostgreSQL: {}", seen.version),
            "point the URL at the cluster itself; other servers were not tried",
        ),
        _ => unlooked(),
    }
}

fn drivers(looked: &Looked) -> Finding {
    let Looked::Seen(seen) = looked else { return unlooked() };
    let make = "psql \"$WAREHOUSE_URL\" -f data/schema/warehouse.sql, then grant SELECT to the node's user; `speedtrap-loader plan` \
                tells what is missing";
    if seen.columns.is_empty() {
        return Finding::fail(format!("there is no table {TABLE} that this user may see"), make);
    }
    let missing: Vec<_> = COLUMNS.into_iter().filter(|wanted| !seen.columns.iter().any(|column| column == wanted)).collect();
    if !missing.is_empty() {
        return Finding::fail(
            format!("{TABLE} lacks {}", missing.join(", ")),
            "speedtrap-loader plan shows the DDL that adds it",
        );
    }
    match &seen.holds_drivers {
        Ok(true) => Finding::ok(format!("{TABLE} has all columns, and drivers in it")),
        Ok(false) => Finding::warn(
            format!("{TABLE} is empty: every plate is unknown, and nobody is texted"),
            "speedtrap-loader load drivers.csv",
        ),
        Err(failure) => {
            Finding::fail(format!("{TABLE} cannot be read: {}", failure.detail), "grant SELECT on it to the node's user")
        }
    }
}

fn unlooked() -> Finding {
    Finding::skip("not known: the warehouse was not reached")
}
