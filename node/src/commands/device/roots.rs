//! The authority that signed the broker's certificate.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::Decode as _;

use crate::exit::{Exit, Stop};

const AMAZON: &str = include_str!("amazon_roots.pem");
const TIMEOUT: Duration = Duration::from_secs(5);

/// PEM text of the authorities for a broker at this host.
///
/// A file that is named counts. Else brokers of AWS have Amazon's authorities, and a local cloud is asked for its own.
pub(super) fn authorities(file: Option<&Path>, host: &str, aws_endpoint: Option<&str>) -> Result<String, Stop> {
    if let Some(file) = file {
        let failed = |why: &dyn std::fmt::Display| {
            Stop::new(Exit::Failed, format!("`{}` given as --root-ca cannot be used", file.display())).why(why)
        };
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        return if holds_certificates(&text) { Ok(text) } else { Err(failed(&"it holds no certificate in PEM form")) };
    }
    if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
        return Ok(AMAZON.to_owned());
    }
    let local = aws_endpoint.filter(|url| is_loopback(url));
    local.and_then(of_local_cloud).ok_or_else(|| {
        Stop::new(Exit::Failed, format!("which authority signed the certificate of the broker {host} is not known"))
            .why("it is no broker of AWS")
            .next("give its PEM file with --root-ca; of a local cloud it is mqtt.ca in its endpoints.json")
    })
}

/// Where the local cloud of this project shows the authority of its broker.
fn of_local_cloud(url: &str) -> Option<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build().into();
    let mut answer = agent.get(format!("{}/_ministack/iot/ca.pem", url.trim_end_matches('/'))).call().ok()?;
    answer.body_mut().read_to_string().ok().filter(|text| holds_certificates(text))
}

fn is_loopback(url: &str) -> bool {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    let host = authority.map(|authority| authority.rsplit_once(':').map_or(authority, |(host, _port)| host));
    matches!(host, Some("127.0.0.1" | "localhost" | "[::1]"))
}

fn holds_certificates(text: &str) -> bool {
    let mut blocks = CertificateDer::pem_slice_iter(text.as_bytes()).peekable();
    blocks.peek().is_some() && blocks.all(|block| block.is_ok_and(|der| x509_cert::Certificate::from_der(&der).is_ok()))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_authorities_of_amazon_are_what_they_say_they_are() {
        let text = authorities(None, "abc-ats.iot.eu-west-1.amazonaws.com", None).expect("AWS has them");
        let blocks: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().expect("PEM");
        let prints: Vec<String> = blocks
            .iter()
            .map(|block| Sha256::digest(block).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
            .collect();
        assert_eq!(prints.len(), 2);
        assert!(prints.iter().all(|print| text.contains(&format!("SHA-256 {print}"))), "{prints:?}");
        // As published at https://www.amazontrust.com/repository/.
        assert!(
            prints[0].starts_with("8e:cd:e6:88:4f:3d:87:b1") && prints[1].starts_with("18:ce:6c:fe:7b:f1:4e:60"),
            "{prints:?}"
        );
    }

    #[test]
    fn a_broker_that_nobody_knows_needs_a_file() {
        let stop = authorities(None, "broker.example", Some("https://broker.example")).expect_err("unknown");
        assert!(stop.to_string().contains("--root-ca"), "{stop}");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "no certificate").expect("written");
        let stop = authorities(Some(&file), "broker.example", None).expect_err("no certificate");
        assert!(stop.to_string().contains("no certificate"), "{stop}");
        std::fs::write(&file, AMAZON).expect("written");
        assert!(authorities(Some(&file), "broker.example", None).is_ok());
    }

    #[test]
    fn only_this_machine_is_asked_for_its_authority() {
        assert!(is_loopback("http://127.0.0.1:4566") && is_loopback("http://localhost:1/") && is_loopback("http://[::1]:4566"));
        assert!(
            !is_loopback("http://127.0.0.1.example:80") && !is_loopback("https://aws.example") && !is_loopback("http://10.0.0.1")
        );
    }
}
