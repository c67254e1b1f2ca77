//! Quotas that bite. What neither the service nor the caller's permissions tell is not known, and said so.

use std::sync::Arc;

use super::aws::Told;
use super::report::Finding;
use super::{Check, Group, Place};
use crate::config::RoleName;

/// What a new account may spend on texts in a month, in dollars (<https://docs.aws.amazon.com/sns/latest/dg/channels-sms-awssupport-spend-threshold.html>).
const FIRST_SPEND_LIMIT: f64 = 1.0;
/// Beside this share of the account's shards a reshard may be refused.
const ROOMY: f64 = 0.8;

/// Those of the services that the roles use.
pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let mut all = Vec::new();
    if place.has(RoleName::Notify) {
        let at = Arc::clone(place);
        all.push(Check::remote(Group::Quotas, "quota.sms_sandbox", async move { sandbox(&at).await }));
        let at = Arc::clone(place);
        all.push(Check::remote(Group::Quotas, "quota.sms_spend", async move { spend(&at).await }));
        let rate = place.config.notify.max_texts_per_second;
        all.push(Check::local(Group::Quotas, "quota.sms_rate", move || {
            Finding::skip(format!(
                "not known here: SNS does not tell its rate; this node sends up to {rate} texts a second, and all nodes share the account's \
                 rate (20 at first)"
            ))
        }));
    }
    let at = Arc::clone(place);
    all.push(Check::remote(Group::Quotas, "quota.shards", async move { shards(&at).await }));
    all
}

async fn sandbox(place: &Place) -> Finding {
    let answer = place.clients.sns.get_sms_sandbox_account_status().send().await;
    match &answer {
        Ok(status) if status.is_in_sandbox() => Finding::warn(
            "the account is in the SMS sandbox: only verified numbers get texts",
            "ask AWS to move the account out of it (SNS console, Text messaging), or verify the numbers of a trial",
        ),
        Ok(_) => Finding::ok("the account is out of the SMS sandbox"),
        Err(_) => unknown(Told::of(&answer), "sns:GetSMSSandboxAccountStatus"),
    }
}

async fn spend(place: &Place) -> Finding {
    const LIMIT: &str = "MonthlySpendLimit";
    let answer = place.clients.sns.get_sms_attributes().attributes(LIMIT).send().await;
    let Ok(found) = &answer else { return unknown(Told::of(&answer), "sns:GetSMSAttributes") };
    let limit = found.attributes().and_then(|attributes| attributes.get(LIMIT)).and_then(|text| text.parse::<f64>().ok());
    match limit {
        None => Finding::skip("not known here: SNS does not tell the account's monthly spend limit"),
        Some(limit) if limit <= FIRST_SPEND_LIMIT => Finding::warn(
            format!("at most {limit} US dollars a month are spent on texts; after that none is sent"),
            "raise it: aws sns set-sms-attributes --attributes MonthlySpendLimit=N, beyond the account's quota by a case at AWS Support",
        ),
        Some(limit) => Finding::ok(format!("up to {limit} US dollars a month may be spent on texts")),
    }
}

async fn shards(place: &Place) -> Finding {
    let answer = place.clients.kinesis.describe_limits().send().await;
    let Ok(found) = &answer else { return unknown(Told::of(&answer), "kinesis:DescribeLimits") };
    let (limit, open) = (found.shard_limit(), found.open_shard_count());
    let seen = format!("{open} of {limit} shards of the account are in use");
    if f64::from(open) >= ROOMY * f64::from(limit) {
        Finding::warn(seen, "ask for more before a reshard needs them (Service Quotas, Kinesis Data Streams, Shards per Region)")
    } else {
        Finding::ok(seen)
    }
}

/// A quota nobody tells keeps no node from its work.
fn unknown(told: Told, action: &str) -> Finding {
    match told {
        told @ (Told::Silent(_) | Told::Unbelieved(_) | Told::Denied(_) | Told::Unknown) => {
            told.finding(action, || Finding::skip("not known here"))
        }
        told => Finding::skip(format!("not known here: {action} gave no answer to use ({told:?})")),
    }
}
