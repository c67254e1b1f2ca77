//! `speedtrap device list`.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::registry::{Certificate, Registry};
use crate::commands::print;
use crate::commands::table::table;
use crate::exit::{Exit, Stop};

/// Arguments of `device list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap device list
  speedtrap device list --json")]
pub(super) struct ListArgs {
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

/// One certificate of a device, or a device that has none.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    certificate_id: Option<String>,
    status: Option<String>,
    created: Option<String>,
    expires: Option<String>,
}

pub(super) async fn list(args: &ListArgs) -> Result<Exit, Stop> {
    let rows = rows(Registry::connect().await?.devices().await?);
    print(&if args.json { format!("{}\n", json!({"schema": 1, "devices": rows})) } else { render(&rows) });
    Ok(Exit::Ok)
}

fn rows(devices: Vec<(String, Vec<Certificate>)>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, certificates) in devices {
        if certificates.is_empty() {
            rows.push(Row { name, certificate_id: None, status: None, created: None, expires: None });
            continue;
        }
        rows.extend(certificates.into_iter().map(|certificate| Row {
            name: name.clone(),
            certificate_id: Some(certificate.id),
            status: Some(certificate.status),
            created: certificate.created.map(|time| time.to_string()),
            expires: certificate.expires.map(|time| time.to_string()),
        }));
    }
    rows
}

fn render(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no devices are registered\n".to_owned();
    }
    let mut shown = table(&["NAME", "CERTIFICATE", "STATUS", "CREATED", "EXPIRES"]);
    let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for row in rows {
        shown.add_row([
            row.name.clone(),
            or_nothing(&row.certificate_id),
            row.status.clone().unwrap_or_else(|| "no certificate".to_owned()),
            or_nothing(&row.created),
            or_nothing(&row.expires),
        ]);
    }
    format!("{}\n", shown.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_certificate_is_shown_as_such() {
        let certificate = Certificate {
            id: "ab12".into(),
            arn: String::new(),
            pem: String::new(),
            status: "ACTIVE".into(),
            created: None,
            expires: "2049-12-31T23:59:59Z".parse().ok(),
        };
        let shown = render(&rows(vec![("PI-07".into(), vec![certificate]), ("PI-08".into(), Vec::new())]));
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        assert!(
            lines[1].starts_with("PI-07") && lines[1].contains("ACTIVE") && lines[1].ends_with("2049-12-31T23:59:59Z"),
            "{shown}"
        );
        assert!(lines[2].starts_with("PI-08") && lines[2].contains("no certificate"), "{shown}");
    }
}
