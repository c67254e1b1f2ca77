//! `speedtrap device revoke`.

use aws_sdk_iot::types::CertificateStatus;
use clap::Args;
use serde_json::json;

use super::device_name;
use super::registry::Registry;
use crate::commands::print;
use crate::exit::{Exit, Stop};

/// Arguments of `device revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap device revoke PI-07
  speedtrap device revoke PI-07 --json

Readings that the device still keeps cannot be sent any more: let it empty its outbox first, if you can.

Exit codes: 0 revoked, 4 there is no such device, 5 AWS refuses, 69 no answer.")]
pub(super) struct RevokeArgs {
    /// Name of the device.
    #[arg(value_parser = device_name)]
    name: String,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn revoke(args: &RevokeArgs) -> Result<Exit, Stop> {
    let name = &args.name;
    let registry = Registry::connect().await?;
    let thing = registry.thing(name).await?;
    let had_policy = registry.has_policy(name).await?;
    if thing.is_none() && !had_policy {
        return Err(Stop::new(Exit::NotFound, format!("there is no device `{name}`")).next("see `speedtrap device list`"));
    }
    let certificates = if thing.is_some() { registry.certificates(name).await? } else { Vec::new() };
    // All of them first: from here on the broker refuses the device, whatever becomes of the rest.
    for certificate in &certificates {
        registry.set_status(certificate, CertificateStatus::Inactive).await?;
    }
    for certificate in &certificates {
        registry.delete_certificate(name, certificate).await?;
    }
    if had_policy {
        registry.delete_policy(name).await?;
    }
    // What somebody else made, such as the template's thing, may have other uses.
    let deletes_thing = thing.as_ref().is_some_and(|thing| thing.is_ours);
    if deletes_thing {
        registry.delete_thing(name).await?;
    }
    let ids: Vec<&str> = certificates.iter().map(|certificate| certificate.id.as_str()).collect();
    print(&if args.json {
        format!("{}\n", json!({"schema": 1, "name": name, "certificates": ids, "thing_deleted": deletes_thing}))
    } else {
        let mut text = format!("{name}: revoked\n");
        for id in ids {
            text.push_str(&format!("certificate  {id}  deleted\n"));
        }
        if thing.is_some() && !deletes_thing {
            text.push_str("thing        kept, since `speedtrap device register` did not make it\n");
        }
        text
    });
    Ok(Exit::Ok)
}
