//! `speedtrap device register`.
//!
//! The certificate becomes active last, when the kit lies in its place. So whatever cuts a registration off leaves either a kit
//! whose certificate is not active yet (the same command again activates it) or an inactive certificate that nobody has the
//! key of (the same command again deletes it).

use std::path::{Path, PathBuf};

use aws_sdk_iot::types::CertificateStatus;
use clap::Args;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use super::kit::{self, Contents, Unfinished};
use super::registry::{Certificate, Registry};
use super::{device_name, policy, roots};
use crate::commands::print;
use crate::exit::{Exit, Stop};

/// Arguments of `device register`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap device register PI-07
  speedtrap device register PI-07 --out /media/stick/PI-07
  AWS_ENDPOINT_URL=http://127.0.0.1:4566 speedtrap device register PI-07 --json

The private key is made on this machine and goes into the kit alone. The policy allows this device to connect under its own name
and to publish readings and its own status, nothing else. A registration that was cut off is finished by the same command.

Exit codes: 0 registered, 4 something is missing in AWS, 5 it is registered already or the folder is in use, 69 no answer.")]
pub(super) struct RegisterArgs {
    /// Name of the device: its thing, its MQTT client id and the beginning of its event ids.
    #[arg(value_parser = device_name)]
    name: String,
    /// Folder to make (default: ./NAME).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// PEM file of the authority that signed the broker's certificate (default: Amazon's, or the local cloud's).
    #[arg(long, value_name = "FILE")]
    root_ca: Option<PathBuf>,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn register(args: RegisterArgs) -> Result<Exit, Stop> {
    let name = &args.name;
    let folder = std::path::absolute(args.out.as_deref().unwrap_or(Path::new(name)))
        .map_err(|error| Stop::new(Exit::Failed, "cannot tell the current folder").why(error))?;
    let in_kit = kit::certificate_at(&folder)?;
    let registry = Registry::connect().await?;
    let (host, port) = registry.endpoint().await?;
    let certificates = registry.certificates(name).await?;
    let (state, certificate) = match in_kit {
        Some(pem) => finish(&registry, &folder, &pem, &certificates).await?,
        None => {
            let root_ca = roots::authorities(args.root_ca.as_deref(), &host, registry.aws_endpoint.as_deref())?;
            let (key, request) = signing_request(name)?;
            let topic = policy::READINGS.to_owned();
            let contents = Contents { device: name.clone(), host: host.clone(), port, topic, root_ca, key };
            ("registered", begin(&registry, &folder, &contents, &request, &certificates).await?)
        }
    };
    let config = folder.join(kit::CONFIG);
    print(&if args.json {
        let shown = json!({
            "schema": 1, "state": state, "name": name, "certificate_id": certificate.id, "endpoint": host, "port": port,
            "client_id": name, "topic": policy::READINGS, "folder": folder, "config": config,
        });
        format!("{shown}\n")
    } else {
        format!(
            "{name}: {state}\ncertificate  {}\nbroker       {host}:{port}\nkit          {}  (holds the private key)\n\
             next: move the kit to the device, then there: speedtrap-device publish --config {} --file READINGS.csv\n",
            certificate.id,
            folder.display(),
            kit::CONFIG,
        )
    });
    Ok(Exit::Ok)
}

/// A registration from its beginning.
async fn begin(
    registry: &Registry,
    folder: &Path,
    contents: &Contents,
    request: &str,
    certificates: &[Certificate],
) -> Result<Certificate, Stop> {
    let name = &contents.device;
    if let Some(active) = certificates.iter().find(|certificate| certificate.is_active()) {
        return Err(Stop::new(Exit::Refused, format!("`{name}` is registered already, with certificate {}", active.id))
            .why("whoever has its kit can connect")
            .next(format!("`speedtrap device revoke {name}` first, or take another name")));
    }
    // Before anything is made in AWS: a folder that cannot be written is the likeliest of all faults.
    let unfinished = Unfinished::begin(folder)?;
    for left in certificates {
        eprintln!("speedtrap: deleting certificate {} ({}) of `{name}`, left by an earlier registration", left.id, left.status);
        registry.delete_certificate(name, left).await?;
    }
    let thing = match registry.thing(name).await? {
        Some(thing) => thing,
        None => registry.make_thing(name).await?,
    };
    let prefix = thing.arn.strip_suffix(&format!("thing/{name}")).ok_or_else(|| {
        Stop::new(Exit::Failed, format!("thing `{name}` has an ARN that is not understood")).why(format!("`{}`", thing.arn))
    })?;
    registry.ensure_policy(name, &policy::document(prefix, name)).await?;
    let certificate = registry.certify(request).await?;
    let kept = async {
        registry.attach(name, &certificate).await?;
        unfinished.finish(contents, &certificate.pem)
    };
    if let Err(stop) = kept.await {
        if let Err(second) = registry.delete_certificate(name, &certificate).await {
            eprintln!("speedtrap: certificate {} stays behind, inactive: {second}", certificate.id);
        }
        return Err(stop);
    }
    registry.set_status(&certificate, CertificateStatus::Active).await?;
    Ok(certificate)
}

/// The rest of a registration whose kit is there already.
async fn finish(
    registry: &Registry,
    folder: &Path,
    pem: &str,
    certificates: &[Certificate],
) -> Result<(&'static str, Certificate), Stop> {
    let own = certificates.iter().find(|certificate| certificate.pem.trim() == pem.trim());
    let own = own.ok_or_else(|| kit::in_the_way(folder))?;
    if own.is_active() {
        return Ok(("registered already", own.clone()));
    }
    registry.set_status(own, CertificateStatus::Active).await?;
    Ok(("registered, as begun earlier", own.clone()))
}

/// A new private key, and the request to certify it.
fn signing_request(name: &str) -> Result<(String, String), Stop> {
    let failed = |error: rcgen::Error| Stop::new(Exit::Failed, "cannot make a private key").why(error);
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    Ok((key.serialize_pem(), request))
}
