//! The registry of AWS IoT: endpoint, things, certificates, policies.

use std::time::Duration;

use aws_sdk_iot::Client;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::types::{AttributePayload, CertificateStatus};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::Decode as _;

use super::policy;
use crate::exit::{Exit, Stop};
use crate::wiring::{refusal, sdk_config};

/// The attribute that tells a device of this project from other things of the account.
const ATTRIBUTE: &str = "speedtrap";
/// Its value on things that `register` made, and on the one that the template makes.
const REGISTERED: &str = "registered";
const OF_TEMPLATE: &str = "template";
/// Devices asked about at the same time.
const AT_ONCE: usize = 8;
/// AWS takes a few seconds until a detached certificate no longer holds its thing or policy.
const DETACH_TRIES: u32 = 8;
const DETACH_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Registry {
    iot: Client,
    place: String,
    /// The address of AWS, if it is not AWS' own.
    pub(super) aws_endpoint: Option<String>,
}

pub(super) struct Thing {
    pub(super) arn: String,
    /// Whether `register` made it.
    pub(super) is_ours: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) pem: String,
    pub(super) status: String,
    pub(super) created: Option<Timestamp>,
    pub(super) expires: Option<Timestamp>,
}

impl Certificate {
    pub(super) fn is_active(&self) -> bool {
        self.status == CertificateStatus::Active.as_str()
    }
}

impl Registry {
    pub(super) async fn connect() -> Result<Self, Stop> {
        let (sdk, place) = sdk_config().await?;
        let aws_endpoint = sdk.endpoint_url().map(str::to_owned);
        Ok(Self { iot: Client::new(&sdk), place, aws_endpoint })
    }

    /// Host and port of the broker.
    pub(super) async fn endpoint(&self) -> Result<(String, u16), Stop> {
        let answer = self.iot.describe_endpoint().endpoint_type("iot:Data-ATS").send().await;
        let address = self.done("ask for the broker's address", answer)?.endpoint_address.unwrap_or_default();
        let (host, port) = split_address(&address);
        if host.is_empty() {
            return Err(Stop::new(Exit::Failed, "AWS named no broker").why(format!("its address is `{address}`")));
        }
        Ok((host.to_owned(), port))
    }

    pub(super) async fn thing(&self, name: &str) -> Result<Option<Thing>, Stop> {
        let answer = self.iot.describe_thing().thing_name(name).send().await;
        let thing = self.found(&format!("look for thing `{name}`"), answer)?;
        Ok(thing.map(|thing| Thing {
            arn: thing.thing_arn.unwrap_or_default(),
            is_ours: thing.attributes.is_some_and(|all| all.get(ATTRIBUTE).is_some_and(|value| value == REGISTERED)),
        }))
    }

    pub(super) async fn make_thing(&self, name: &str) -> Result<Thing, Stop> {
        let attributes = AttributePayload::builder().attributes(ATTRIBUTE, REGISTERED).build();
        let answer = self.iot.create_thing().thing_name(name).attribute_payload(attributes).send().await;
        let arn = self.done(&format!("make thing `{name}`"), answer)?.thing_arn.unwrap_or_default();
        Ok(Thing { arn, is_ours: true })
    }

    /// All devices of this project with their certificates.
    pub(super) async fn devices(&self) -> Result<Vec<(String, Vec<Certificate>)>, Stop> {
        let mut names = Vec::new();
        for value in [REGISTERED, OF_TEMPLATE] {
            let pages = self.iot.list_things().attribute_name(ATTRIBUTE).attribute_value(value).into_paginator();
            let things: Result<Vec<_>, _> = pages.items().send().collect().await;
            names.extend(self.done("list things", things)?.into_iter().filter_map(|thing| thing.thing_name));
        }
        names.sort();
        let of_device = async |name: String| Ok((name.clone(), self.certificates(&name).await?));
        stream::iter(names).map(of_device).buffered(AT_ONCE).try_collect().await
    }

    /// The certificates attached to a thing.
    pub(super) async fn certificates(&self, name: &str) -> Result<Vec<Certificate>, Stop> {
        let pages = self.iot.list_thing_principals().thing_name(name).into_paginator();
        let principals: Result<Vec<String>, _> = pages.items().send().collect().await;
        let principals = self.found(&format!("list the certificates of `{name}`"), principals)?.unwrap_or_default();
        let mut certificates = Vec::new();
        for arn in principals {
            let Some((_, id)) = arn.split_once(":cert/") else { continue };
            let answer = self.iot.describe_certificate().certificate_id(id).send().await;
            let found = self.found("look at a certificate", answer)?.and_then(|answer| answer.certificate_description);
            if let Some(found) = found {
                let pem = found.certificate_pem.unwrap_or_default();
                certificates.push(Certificate {
                    id: id.to_owned(),
                    arn,
                    expires: expiry(&pem),
                    pem,
                    status: found.status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
                    created: found.creation_date.and_then(|date| Timestamp::from_second(date.secs()).ok()),
                });
            }
        }
        Ok(certificates)
    }

    /// A certificate for a signing request, not yet active.
    pub(super) async fn certify(&self, request: &str) -> Result<Certificate, Stop> {
        let call = self.iot.create_certificate_from_csr().certificate_signing_request(request).set_as_active(false);
        let made = self.done("make a certificate", call.send().await)?;
        let pem = made.certificate_pem.unwrap_or_default();
        Ok(Certificate {
            id: made.certificate_id.unwrap_or_default(),
            arn: made.certificate_arn.unwrap_or_default(),
            expires: expiry(&pem),
            pem,
            status: CertificateStatus::Inactive.as_str().to_owned(),
            created: None,
        })
    }

    pub(super) async fn attach(&self, name: &str, certificate: &Certificate) -> Result<(), Stop> {
        let policy = policy::name(name);
        let answer = self.iot.attach_policy().policy_name(&policy).target(&certificate.arn).send().await;
        self.done(&format!("attach policy `{policy}`"), answer)?;
        let answer = self.iot.attach_thing_principal().thing_name(name).principal(&certificate.arn).send().await;
        self.done(&format!("attach the certificate to thing `{name}`"), answer)?;
        Ok(())
    }

    pub(super) async fn set_status(&self, certificate: &Certificate, status: CertificateStatus) -> Result<(), Stop> {
        let what = format!("set certificate {} to {status}", certificate.id);
        let answer = self.iot.update_certificate().certificate_id(&certificate.id).new_status(status).send().await;
        self.found(&what, answer).map(drop)
    }

    /// Takes away a certificate that is not active.
    pub(super) async fn delete_certificate(&self, name: &str, certificate: &Certificate) -> Result<(), Stop> {
        let attached = self.iot.list_attached_policies().target(&certificate.arn).send().await;
        let policies = self.found("list the policies of a certificate", attached)?.and_then(|answer| answer.policies);
        for policy in policies.unwrap_or_default().into_iter().filter_map(|policy| policy.policy_name) {
            let answer = self.iot.detach_policy().policy_name(&policy).target(&certificate.arn).send().await;
            self.found(&format!("detach policy `{policy}`"), answer)?;
        }
        let answer = self.iot.detach_thing_principal().thing_name(name).principal(&certificate.arn).send().await;
        self.found("detach a certificate", answer)?;
        self.when_detached(&format!("delete certificate {}", certificate.id), async || {
            self.iot.delete_certificate().certificate_id(&certificate.id).send().await.map(drop)
        })
        .await
    }

    /// Makes the policy, in the place of one of its name that says something else.
    pub(super) async fn ensure_policy(&self, name: &str, document: &str) -> Result<(), Stop> {
        let policy = policy::name(name);
        let answer = self.iot.get_policy().policy_name(&policy).send().await;
        match self.found(&format!("look for policy `{policy}`"), answer)?.and_then(|answer| answer.policy_document) {
            Some(found) if found == document => return Ok(()),
            Some(_) => self.delete_policy(name).await?,
            None => {}
        }
        let answer = self.iot.create_policy().policy_name(&policy).policy_document(document).send().await;
        self.done(&format!("make policy `{policy}`"), answer).map(drop)
    }

    pub(super) async fn has_policy(&self, name: &str) -> Result<bool, Stop> {
        let policy = policy::name(name);
        let answer = self.iot.get_policy().policy_name(&policy).send().await;
        Ok(self.found(&format!("look for policy `{policy}`"), answer)?.is_some())
    }

    pub(super) async fn delete_policy(&self, name: &str) -> Result<(), Stop> {
        let policy = policy::name(name);
        let answer = self.iot.list_targets_for_policy().policy_name(&policy).send().await;
        let targets = self.found(&format!("list the targets of policy `{policy}`"), answer)?.and_then(|answer| answer.targets);
        for target in targets.unwrap_or_default() {
            let answer = self.iot.detach_policy().policy_name(&policy).target(target).send().await;
            self.found(&format!("detach policy `{policy}`"), answer)?;
        }
        self.when_detached(&format!("delete policy `{policy}`"), async || {
            self.iot.delete_policy().policy_name(&policy).send().await.map(drop)
        })
        .await
    }

    pub(super) async fn delete_thing(&self, name: &str) -> Result<(), Stop> {
        self.when_detached(&format!("delete thing `{name}`"), async || {
            self.iot.delete_thing().thing_name(name).send().await.map(drop)
        })
        .await
    }

    /// Calls until the registry has noticed that nothing is attached any more.
    async fn when_detached<E, R>(&self, what: &str, call: impl AsyncFn() -> Result<(), SdkError<E, R>>) -> Result<(), Stop>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let mut tries = 1;
        loop {
            let answer = call().await;
            let held =
                |error: &SdkError<E, R>| matches!(error.code(), Some("DeleteConflictException" | "InvalidRequestException"));
            if tries >= DETACH_TRIES || !answer.as_ref().err().is_some_and(held) {
                return self.found(what, answer).map(drop);
            }
            tries += 1;
            tokio::time::sleep(DETACH_PAUSE).await;
        }
    }

    fn done<T, E, R>(&self, what: &str, answer: Result<T, SdkError<E, R>>) -> Result<T, Stop>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        answer.map_err(|error| refusal(&format!("cannot {what}"), &error, &self.place))
    }

    /// The same, where it may be that the thing in question is not there.
    fn found<T, E, R>(&self, what: &str, answer: Result<T, SdkError<E, R>>) -> Result<Option<T>, Stop>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        match answer {
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            answer => self.done(what, answer).map(Some),
        }
    }
}

/// AWS names a host, whose port is 8883; a local cloud names the port as well.
fn split_address(address: &str) -> (&str, u16) {
    match address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some(split) => split,
        None => (address, 8883),
    }
}

/// When a certificate ends.
fn expiry(pem: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let certificate = x509_cert::Certificate::from_der(&der).ok()?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(end.as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_may_have_a_port_of_its_own() {
        assert_eq!(split_address("abc-ats.iot.us-east-1.amazonaws.com"), ("abc-ats.iot.us-east-1.amazonaws.com", 8883));
        assert_eq!(split_address("127.0.0.1:40123"), ("127.0.0.1", 40123));
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_it() {
        let roots = include_str!("amazon_roots.pem");
        assert_eq!(expiry(roots).map(|time| time.to_string()).as_deref(), Some("2038-01-17T00:00:00Z"));
        assert_eq!(expiry("no certificate"), None);
    }
}
