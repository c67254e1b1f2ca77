//! `speedtrap trace` tells of single events what clients of AWS find of them: each step with its place, what is gone as expired, and
//! what was never there as absent.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use speedtrap_actors::testing::aggregated_record;
use speedtrap_tests::commands::{Ended, run};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::drivers_file::DriversFile;
use speedtrap_tests::evidence::{ALERTS_TABLE, SPEEDING_TABLE, archive_object, items};
use speedtrap_tests::letters;
use speedtrap_tests::node::Node;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM, OUT_STREAM};

const LIMIT: Duration = Duration::from_secs(120);
const PHONE: &str = "5155550100";

/// A reading, and the id that it must have.
struct Sent {
    id: String,
    plate: String,
    taken: String,
    data: Vec<u8>,
}

/// One that was taken so many seconds ago; without an id of its own if none is given.
fn reading(id: Option<&str>, plate: &str, speed: &str, ago: u64) -> Result<Sent> {
    let taken = DateTime::from(SystemTime::now() - Duration::from_secs(ago)).fmt(DateTimeFormat::DateTime)?;
    let taken = taken.trim_end_matches('Z').replace('T', " ");
    let values = [&taken, plate, "-93.62", "41.6", "Foxgallow", "Iowa", speed];
    let names = ["iottimestamp", "licensePlate", "longitude", "latitude", "city", "state", "speed"];
    let mut record: Value = names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let hash = values.iter().fold(Sha256::new(), |hash, value| hash.chain_update(format!("{}:{value}", value.len()))).finalize();
    let derived = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(id) = id {
        record["eventId"] = json!(id);
    }
    let id = id.map_or(derived, str::to_owned);
    Ok(Sent { id, plate: plate.to_owned(), taken, data: serde_json::to_vec(&record)? })
}

async fn traced(sandbox: &Sandbox, arguments: &[&str]) -> Result<Ended> {
    let mut command = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.env("SPEEDTRAP_WAREHOUSE__URL", &sandbox.endpoints.warehouse_url);
    command.env("SPEEDTRAP_DASHBOARD__AUDIT_FILE", sandbox.folder().join("audit-operator.ndjson"));
    command.arg("trace").args(arguments);
    run(command).await
}

/// The only event of an answer.
async fn story(sandbox: &Sandbox, arguments: &[&str]) -> Result<Value> {
    let ended = traced(sandbox, &[arguments, &["--json"]].concat()).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    let page = ended.json()?;
    ensure!(page["schema"] == 1 && page["events"].as_array().is_some_and(|events| events.len() == 1), "{page:#}");
    Ok(page["events"][0].clone())
}

fn step<'a>(story: &'a Value, name: &str) -> Result<&'a Value> {
    let steps = story["steps"].as_array().context("a story has steps")?;
    steps.iter().find(|step| step["step"] == name).with_context(|| format!("no step {name} in {story:#}"))
}

/// The place of an event on a stream, read by a plain client: shard, sequence number, time of arrival.
async fn place(sandbox: &Sandbox, stream: &str, id: &str) -> Result<Option<(String, String, SystemTime)>> {
    for (shard, records) in streams::records_by_shard(&sandbox.clients.kinesis, stream).await? {
        for record in records {
            // What a producer aggregated is no JSON.
            let Ok(value) = serde_json::from_slice::<Value>(record.data.as_ref()) else { continue };
            if value["eventId"] == id {
                let at = record.approximate_arrival_timestamp.context("a record that arrived at no time")?;
                return Ok(Some((shard, record.sequence_number, SystemTime::try_from(at)?)));
            }
        }
    }
    Ok(None)
}

async fn stands_where_it_is(sandbox: &Sandbox, story: &Value, name: &str, stream: &str, id: &str) -> Result<()> {
    let (shard, sequence, at) = place(sandbox, stream, id).await?.with_context(|| format!("{id} is not on {stream}"))?;
    let step = step(story, name)?;
    ensure!(
        step["place"] == json!({"stream": stream, "shard": shard, "sequence": sequence, "sub": 0}),
        "{step:#} for {shard} {sequence}"
    );
    let at = DateTime::from(at).fmt(DateTimeFormat::DateTime)?;
    let seconds = step["at"].as_str().unwrap_or_default().get(..19);
    ensure!(step["state"] == "found" && seconds == at.get(..19), "{step:#} for {at}");
    ensure!(step["delay_ms"].is_i64() && step["after"].is_string(), "{step:#}");
    Ok(())
}

#[tokio::test]
async fn every_step_of_an_event_is_told_with_the_place_where_it_is() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let drivers = DriversFile::write(sandbox.folder(), "TRACE", 5)?;
    sandbox.load(&drivers.path).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let texted = reading(Some("t-texted"), "TRACE-0", "80", 4)?;
    let second = reading(None, "TRACE-0", "91", 3)?;
    let slow = reading(Some("t-slow"), "TRACE-0", "60", 2)?;
    let nobody = reading(Some("t-nobody"), "NOBODY-1", "88", 2)?;
    let bad = reading(Some("t-bad"), "TRACE-1", "75.9", 2)?;
    let old = reading(Some("t-old"), "TRACE-2", "99", 3 * 86_400)?;
    let records = [&texted, &second, &slow, &nobody, &bad].map(|sent| (sent.plate.clone(), sent.data.clone()));
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await?;
    store(&sandbox, &old).await?;
    let (aggregated, readings) = aggregated_record();
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &[("a producer's own key".to_owned(), aggregated)]).await?;
    eventually("everything has ended and is archived", LIMIT, || async {
        let found = sandbox.evidence().await?;
        ensure!(found.letters.len() == 1 && found.texts.len() == 2 && found.archived.len() == 4 + readings.len(), "{found:?}");
        Ok(())
    })
    .await?;

    a_texted_violation_is_told_whole(&sandbox, &texted).await?;
    a_plate_lists_its_events(&sandbox, &texted, &second).await?;
    what_ends_early_says_where(&sandbox, &slow, &nobody, &bad).await?;

    // Their own time is long past, so the one when they came is given.
    let told = story(&sandbox, &["aggregated-1", "--at", &slow.taken]).await?;
    let opened = step(&told, "in_stream")?;
    ensure!(opened["state"] == "found" && opened["place"]["sub"] == 1, "a record of the producer library is opened: {told:#}");

    let told = story(&sandbox, &["t-old"]).await?;
    for name in ["in_stream", "out_stream", "lookup"] {
        ensure!(step(&told, name)?["state"] == "expired", "{told:#}");
    }
    ensure!(step(&told, "in_stream")?["text"].as_str().is_some_and(|text| text.contains("24 h")), "{told:#}");
    persons_are_shown_to_whoever_says_why(&sandbox, &texted).await?;
    wrong_questions_are_told(&sandbox).await?;
    node.stop().await?;
    sandbox.end().await
}

/// Puts a violation into the table, as a lane did long ago.
async fn store(sandbox: &Sandbox, sent: &Sent) -> Result<()> {
    let record: Value = serde_json::from_slice(&sent.data)?;
    let members = record.as_object().context("a record is an object")?;
    let item = members.iter().map(|(name, value)| {
        let text = value.as_str().unwrap_or_default().to_owned();
        (name.clone(), if name == "speed" { AttributeValue::N(text) } else { AttributeValue::S(text) })
    });
    let put = sandbox.clients.dynamodb.put_item().table_name(SPEEDING_TABLE).set_item(Some(item.collect()));
    put.send().await.context("failed to store a violation")?;
    Ok(())
}

async fn a_texted_violation_is_told_whole(sandbox: &Sandbox, texted: &Sent) -> Result<()> {
    let told = story(sandbox, &[&texted.id]).await?;
    ensure!(told["verdict"] == "violation" && told["speed_mph"] == 80 && told["iottimestamp"] == texted.taken, "{told:#}");
    ensure!(told["steps"].as_array().is_some_and(|steps| steps.iter().all(|step| step["state"] == "found")), "{told:#}");
    stands_where_it_is(sandbox, &told, "in_stream", IN_STREAM, &texted.id).await?;
    stands_where_it_is(sandbox, &told, "out_stream", OUT_STREAM, &texted.id).await?;
    ensure!(step(&told, "stored")?["place"] == json!({"table": SPEEDING_TABLE, "event_id": texted.id}), "{told:#}");
    ensure!(step(&told, "lookup")?["text"].as_str().is_some_and(|text| text.starts_with("hit")), "{told:#}");

    let claims = items(&sandbox.clients.dynamodb, ALERTS_TABLE).await?;
    let text = |claim: &std::collections::HashMap<String, AttributeValue>, name: &str| {
        claim.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
    };
    let claim = claims.iter().find(|claim| text(claim, "eventId") == texted.id).context("it was claimed")?;
    let step_of_text = step(&told, "text")?;
    ensure!(step_of_text["place"] == json!({"message_id": text(claim, "messageId")}), "{step_of_text:#}");
    ensure!(step_of_text["at"] == text(claim, "sentAt"), "{step_of_text:#}");

    let archived = &step(&told, "archive")?["place"];
    let object = archive_object(&sandbox.clients, archived["key"].as_str().context("a key")?).await?;
    let number = usize::try_from(archived["line"].as_u64().context("a line")?)?;
    let line = object.split(|byte| *byte == b'\n').nth(number - 1).context("the object has that line")?;
    ensure!(serde_json::from_slice::<Value>(line)?["eventId"] == texted.id, "line {number} is another event's");
    Ok(())
}

async fn a_plate_lists_its_events(sandbox: &Sandbox, texted: &Sent, second: &Sent) -> Result<()> {
    let ids = async |arguments: &[&str]| -> Result<(Vec<String>, Value)> {
        let ended = traced(sandbox, &[arguments, &["--json"]].concat()).await?;
        ensure!(ended.code == Some(0), "{ended:?}");
        let page = ended.json()?;
        let events = page["events"].as_array().context("events")?;
        Ok((events.iter().map(|event| event["event_id"].as_str().unwrap_or_default().to_owned()).collect(), page))
    };
    let (both, page) = ids(&[&texted.plate]).await?;
    ensure!(both == [second.id.clone(), texted.id.clone()], "the latest first, and none that is no violation: {page:#}");
    let (latest, page) = ids(&[&texted.plate, "--limit", "1"]).await?;
    ensure!(latest == [second.id.clone()] && page["more"] == 1, "{page:#}");
    let (chosen, page) = ids(&[&texted.plate, "--event", &texted.id]).await?;
    ensure!(chosen == [texted.id.clone()], "{page:#}");
    let (all, page) = ids(&[&texted.plate, "--at", &texted.taken]).await?;
    ensure!(all.len() == 3, "with a time also what is no violation: {page:#}");
    Ok(())
}

async fn what_ends_early_says_where(sandbox: &Sandbox, slow: &Sent, nobody: &Sent, bad: &Sent) -> Result<()> {
    let unknown = traced(sandbox, &[&slow.id]).await?;
    ensure!(unknown.code == Some(4) && unknown.err.contains("--plate PLATE --at TIME"), "{unknown:?}");
    for arguments in [&[&*slow.id, "--plate", &slow.plate, "--at", &slow.taken][..], &[&*slow.id, "--at", &slow.taken]] {
        let told = story(sandbox, arguments).await?;
        ensure!(told["verdict"] == "under_limit" && step(&told, "stored")?["state"] == "absent", "{told:#}");
        stands_where_it_is(sandbox, &told, "in_stream", IN_STREAM, &slow.id).await?;
    }

    let told = story(sandbox, &[&nobody.id]).await?;
    ensure!(told["verdict"] == "violation" && step(&told, "stored")?["state"] == "found", "{told:#}");
    let lookup = step(&told, "lookup")?;
    ensure!(
        lookup["state"] == "absent" && lookup["text"].as_str().is_some_and(|text| text.contains("no driver today")),
        "{lookup}"
    );
    for name in ["out_stream", "text"] {
        ensure!(step(&told, name)?["state"] == "absent", "{told:#}");
    }
    stands_where_it_is(sandbox, &told, "in_stream", IN_STREAM, &nobody.id).await?;

    let told = story(sandbox, &[&bad.id]).await?;
    let letter = step(&told, "dead_letter")?;
    ensure!(told["verdict"] == "rejected", "{told:#}");
    ensure!(letter["place"]["letter_id"] == letters::id_of("enrich", &bad.data), "{letter:#}");
    stands_where_it_is(sandbox, &told, "in_stream", IN_STREAM, &bad.id).await
}

async fn persons_are_shown_to_whoever_says_why(sandbox: &Sandbox, texted: &Sent) -> Result<()> {
    for more in [&[][..], &["--json"]] {
        let masked = traced(sandbox, &[&[&*texted.id][..], more].concat()).await?;
        for personal in [&*texted.plate, PHONE, "Name0"] {
            ensure!(!masked.out.contains(personal) && !masked.err.contains(personal), "{personal} in {masked:?}");
        }
    }
    let no_reason = traced(sandbox, &[&texted.id, "--reveal"]).await?;
    ensure!(no_reason.code == Some(2), "{no_reason:?}");
    let shown = story(sandbox, &[&texted.id, "--reveal", "--reason", "the driver objects"]).await?;
    ensure!(shown["plate"] == texted.plate && shown["driver"]["myphone"] == PHONE, "{shown:#}");
    let audit = std::fs::read_to_string(sandbox.folder().join("audit-operator.ndjson"))?;
    let lines: Vec<Value> = audit.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let phases: Vec<_> = lines.iter().map(|line| line["phase"].as_str().unwrap_or_default()).collect();
    ensure!(phases == ["intent", "done"] && lines[0]["reason"] == "the driver objects", "{audit}");
    ensure!(!audit.contains(&texted.plate) && !audit.contains(PHONE), "{audit}");
    Ok(())
}

async fn wrong_questions_are_told(sandbox: &Sandbox) -> Result<()> {
    let nothing = traced(sandbox, &["t-never"]).await?;
    ensure!(nothing.code == Some(4) && nothing.err.contains("next:"), "{nothing:?}");
    let mut nowhere = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut nowhere);
    nowhere.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").args(["trace", "t-texted"]);
    let nowhere = run(nowhere).await?;
    ensure!(nowhere.code == Some(69) && nowhere.err.contains("127.0.0.1:1"), "{nowhere:?}");
    Ok(())
}
