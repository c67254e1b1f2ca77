//! Each permission that each role needs, tried without effect: one line for what one statement of the template allows.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, join};

use super::aws::{Told, unbelieved};
use super::identity::Caller;
use super::report::Finding;
use super::streams::bucket_name;
use super::tables::{CLAIM, EVENT, LETTER, NODE};
use super::trials::{self, Trial};
use super::{Check, Group, Place, leases};
use crate::config::RoleName;

/// The key of a lease.
const LEASE: &[&str] = &["leaseKey"];
/// Calls that one statement makes at a time are few, and answered within milliseconds where anything answers.
type Trials = BoxFuture<'static, Vec<Trial>>;

/// One line a statement, of what every node needs and of what the roles need.
pub(super) fn checks(place: &Arc<Place>, caller: &Caller) -> Vec<Check> {
    let mut all = of_node(place, caller);
    for role in &place.config.node.roles {
        all.push(leases_of(place, *role));
        all.extend(match role {
            RoleName::Enrich => of_enrich(place),
            RoleName::Notify => of_notify(place),
            RoleName::Archive => of_archive(place),
            RoleName::Errors => vec![reads(place, "errors", &place.config.kinesis.error_stream, "ErrorsPolicy, ReadErrorStream")],
        });
    }
    if place.config.ingest.is_on() {
        all.extend(of_ingest(place));
    }
    all
}

/// Joins trials of one resource into a line.
fn line(role: &str, thing: &str, resource: String, statement: &'static str, trials: Trials) -> Check {
    Check::remote(
        Group::Permissions,
        format!("permission.{role}.{thing}"),
        async move { judge(&resource, statement, trials.await) },
    )
}

fn of_node(place: &Arc<Place>, caller: &Caller) -> Vec<Check> {
    let mut all = Vec::new();
    let tables = &place.config.dynamodb;
    if !tables.nodes_table.is_empty() {
        let (at, table) = (Arc::clone(place), tables.nodes_table.clone());
        let trials = async move {
            let c = &at.clients;
            let (a, b, d, e, f) = join!(
                trials::get_item(c, &table, NODE),
                trials::put_item(c, &table, NODE),
                trials::update_item(c, &table, NODE),
                trials::delete_item(c, &table, NODE),
                trials::scan(c, &table),
            );
            vec![a, b, d, e, f]
        };
        all.push(line("node", "nodes", format!("table `{}`", tables.nodes_table), "NodePolicy, NodeTable", trials.boxed()));
    }
    let (at, table) = (Arc::clone(place), tables.dead_letters_table.clone());
    let letters = async move {
        let c = &at.clients;
        let (a, b, d, e, f) = join!(
            trials::describe_table(c, &table),
            trials::get_item(c, &table, LETTER),
            trials::put_item(c, &table, LETTER),
            trials::update_item(c, &table, LETTER),
            trials::scan(c, &table),
        );
        vec![a, b, d, e, f]
    };
    let resource = format!("table `{}`", tables.dead_letters_table);
    all.push(line("node", "dead_letters", resource, "NodePolicy, DeadLetters", letters.boxed()));

    let (at, caller) = (Arc::clone(place), caller.clone());
    let payloads = async move {
        let Ok(bucket) = bucket_name(&at, caller).await else {
            return vec![("s3:PutObject", Told::Untried("the bucket's name is not known"))];
        };
        let (put, get) = join!(trials::put_object(&at.clients, &bucket), trials::get_object(&at.clients, &bucket));
        vec![put, get]
    };
    let resource = "dead-letters/ of the archive bucket".to_owned();
    all.push(line("node", "payloads", resource, "NodePolicy, DeadLetterPayloads", payloads.boxed()));

    let at = Arc::clone(place);
    let redrive = async move {
        let (kinesis, clients) = (&at.config.kinesis, &at.clients);
        join_all([&kinesis.in_stream, &kinesis.out_stream].map(|stream| trials::put_record(clients, stream))).await
    };
    let resource = format!("streams `{}` and `{}`", place.config.kinesis.in_stream, place.config.kinesis.out_stream);
    all.push(line("node", "redrive", resource, "NodePolicy, RedriveRecords", redrive.boxed()));

    let at = Arc::clone(place);
    let lines = async move { vec![trials::deliver(&at.clients, &at.config.archive.delivery_stream).await] };
    let resource = format!("delivery stream `{}`", place.config.archive.delivery_stream);
    all.push(line("node", "redrive_lines", resource, "NodePolicy, RedriveLines", lines.boxed()));
    all
}

fn leases_of(place: &Arc<Place>, role: RoleName) -> Check {
    let (at, table) = (Arc::clone(place), leases::table_of(&place.config.dynamodb, role).to_owned());
    let resource = format!("table `{table}`");
    let trials = async move {
        let c = &at.clients;
        let (a, b, d, e, f, g, h) = join!(
            trials::create_table(c, &table, LEASE[0]),
            trials::describe_table(c, &table),
            trials::get_item(c, &table, LEASE),
            trials::put_item(c, &table, LEASE),
            trials::update_item(c, &table, LEASE),
            trials::delete_item(c, &table, LEASE),
            trials::scan(c, &table),
        );
        vec![a, b, d, e, f, g, h]
    };
    let statement = match role {
        RoleName::Enrich => "EnrichPolicy, Leases",
        RoleName::Notify => "NotifyPolicy, Leases",
        RoleName::Archive => "ArchivePolicy, Leases",
        RoleName::Errors => "ErrorsPolicy, Leases",
    };
    line(role.label(), "leases", resource, statement, trials.boxed())
}

fn reads(place: &Arc<Place>, role: &str, stream: &str, statement: &'static str) -> Check {
    let (at, name) = (Arc::clone(place), stream.to_owned());
    let trials = async move { trials::read_stream(&at.clients, &name).await };
    line(role, "read", format!("stream `{stream}`"), statement, trials.boxed())
}

fn of_enrich(place: &Arc<Place>) -> Vec<Check> {
    let (kinesis, speeding, raw) =
        (&place.config.kinesis, &place.config.dynamodb.speeding_table, &place.config.persist.raw_table);
    let mut all = vec![reads(place, "enrich", &kinesis.in_stream, "EnrichPolicy, ReadInStream")];
    let (at, stream) = (Arc::clone(place), kinesis.out_stream.clone());
    // One record at a time is only redriven, which is tried for every node.
    let writes = async move { vec![trials::put_records(&at.clients, &stream).await] };
    let resource = format!("stream `{}`", kinesis.out_stream);
    all.push(line("enrich", "write", resource, "EnrichPolicy, WriteOutStream", writes.boxed()));
    for (thing, table) in [("store", speeding), ("store_raw", raw)].into_iter().filter(|(_, table)| !table.is_empty()) {
        let (at, name) = (Arc::clone(place), table.clone());
        let stores = async move {
            let (put, batch) = join!(trials::put_item(&at.clients, &name, EVENT), trials::batch_write(&at.clients, &name, EVENT));
            vec![put, batch]
        };
        all.push(line("enrich", thing, format!("table `{table}`"), "EnrichPolicy, StoreViolations", stores.boxed()));
    }
    all
}

fn of_notify(place: &Arc<Place>) -> Vec<Check> {
    let (at, table) = (Arc::clone(place), place.config.dynamodb.alerts_table.clone());
    let resource = format!("table `{table}`");
    let claims = async move {
        let c = &at.clients;
        let (a, b, d) =
            join!(trials::get_item(c, &table, CLAIM), trials::put_item(c, &table, CLAIM), trials::update_item(c, &table, CLAIM));
        vec![a, b, d]
    };
    let at = Arc::clone(place);
    let texts = async move { vec![trials::publish(&at.clients).await] };
    vec![
        reads(place, "notify", &place.config.kinesis.out_stream, "NotifyPolicy, ReadOutStream"),
        line("notify", "claims", resource, "NotifyPolicy, Claims", claims.boxed()),
        line("notify", "texts", "phone numbers".to_owned(), "NotifyPolicy, Texts", texts.boxed()),
    ]
}

fn of_archive(place: &Arc<Place>) -> Vec<Check> {
    let (at, table) = (Arc::clone(place), place.config.dynamodb.speeding_table.clone());
    let stream = format!("the stream of table `{table}`");
    let reads = async move { trials::read_table_stream(&at.clients, &table).await };
    let (at, delivery) = (Arc::clone(place), place.config.archive.delivery_stream.clone());
    let resource = format!("delivery stream `{delivery}`");
    let writes = async move { vec![trials::deliver_batch(&at.clients, &delivery).await] };
    vec![
        line("archive", "read", stream, "ArchivePolicy, FindStream and ReadTableStream", reads.boxed()),
        line("archive", "write", resource, "ArchivePolicy, Deliver", writes.boxed()),
    ]
}

fn of_ingest(place: &Arc<Place>) -> [Check; 2] {
    let (at, table) = (Arc::clone(place), place.config.ingest.leases.clone());
    let lease = format!("table `{table}`");
    let trials = async move {
        let c = &at.clients;
        let (a, b, d, e, f, g) = join!(
            trials::create_table(c, &table, LEASE[0]),
            trials::describe_table(c, &table),
            trials::get_item(c, &table, LEASE),
            trials::put_item(c, &table, LEASE),
            trials::update_item(c, &table, LEASE),
            trials::scan(c, &table),
        );
        vec![a, b, d, e, f, g]
    };
    let (at, stream) = (Arc::clone(place), place.config.kinesis.in_stream.clone());
    let resource = format!("stream `{stream}`");
    let writes = async move { vec![trials::put_records(&at.clients, &stream).await] };
    [
        line("ingest", "leases", lease, "IngestPolicy, Lease", trials.boxed()),
        line("ingest", "write", resource, "IngestPolicy, WriteInStream", writes.boxed()),
    ]
}

fn judge(resource: &str, statement: &str, trials: Vec<Trial>) -> Finding {
    let (mut permitted, mut denied, mut untried, mut odd) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut silent = None;
    for (action, told) in trials {
        match told {
            // Whoever hears that there is no such thing was permitted to ask for it.
            Told::Done | Told::Missing => permitted.push(action),
            Told::Denied(_) => denied.push(action),
            Told::Unbelieved(why) => return unbelieved(&why),
            Told::Untried(why) => untried.push(format!("{action} not tried: {why}")),
            Told::Unknown => untried.push(format!("{action} is not known to the service")),
            Told::Refused { code, message } => odd.push(format!("{action} was answered with {code}: {message}")),
            Told::Silent(why) => silent = Some(why),
        }
    }
    permitted.dedup();
    denied.dedup();
    if !denied.is_empty() {
        let next = format!("allow {} on {resource} ({statement} in deploy/aws/speedtrap.yaml)", denied.join(", "));
        return Finding::fail(format!("{resource}: the caller has no permission for {}", denied.join(", ")), next);
    }
    if let Some(why) = silent {
        return Finding::no_answer(why);
    }
    let noted = |notes: Vec<String>| if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    if !odd.is_empty() {
        return Finding::warn(format!("{resource}: {}", odd.join("; ")), "look again; if it stays, ask AWS what it means");
    }
    if permitted.is_empty() {
        return Finding::skip(format!("{resource}: {}", untried.join("; ")));
    }
    Finding::ok(format!("{resource}: {}{}", permitted.join(", "), noted(untried)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_action_is_named_with_the_statement_that_allows_it() {
        let trials = vec![("kinesis:ListShards", Told::Done), ("kinesis:GetRecords", Told::Denied("no".to_owned()))];
        let found = judge("stream `s`", "EnrichPolicy, ReadInStream", trials);
        let next = "allow kinesis:GetRecords on stream `s` (EnrichPolicy, ReadInStream in deploy/aws/speedtrap.yaml)";
        assert_eq!(found, Finding::fail("stream `s`: the caller has no permission for kinesis:GetRecords", next));
    }

    #[test]
    fn what_was_not_tried_is_never_ok_by_itself() {
        let untried = || ("dynamodb:CreateTable", Told::Untried("the table would be made"));
        let skipped = Finding::skip("table `t`: dynamodb:CreateTable not tried: the table would be made");
        assert_eq!(judge("table `t`", "", vec![untried()]), skipped);
        let noted = Finding::ok("table `t`: dynamodb:Scan (dynamodb:CreateTable not tried: the table would be made)");
        assert_eq!(judge("table `t`", "", vec![untried(), ("dynamodb:Scan", Told::Missing)]), noted);
    }
}
