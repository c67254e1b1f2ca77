//! Bad and odd records among good ones, value by value, through a running node: each bad one ends as a dead letter with its
//! payload, each good one as what it is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::evidence::{self, Evidence};
use speedtrap_tests::letters::{self, Letter};
use speedtrap_tests::node::Node;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM};
use speedtrap_tests::{mqtt, node};

const LIMIT: Duration = Duration::from_secs(60);
const TIME: &str = "2026-01-02 03:04:05.678901";
const DRIVERS: &str = "\
first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone
Ada,Known,OK-1,a@example.com,1 Mill Row,Foxgallow,Iowa,50301,515-555-0100,5155550100
Bo,Silent,NO-1,b@example.com,1 Mill Row,Foxgallow,Iowa,50301,515-555-0100,55501
";

/// What must come of a record.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// Stored with this speed.
    Stored(u32),
    UnderLimit,
    Letter,
}

struct Case {
    what: String,
    record: Vec<u8>,
    end: End,
}

/// The seven members of a good reading by the known driver.
fn good() -> Map<String, Value> {
    let value = json!({"iottimestamp": TIME, "licensePlate": "OK-1", "longitude": "101.766855", "latitude": "79.694526",
                       "city": "West Kristopher", "state": "Iowa", "speed": "80"});
    let Value::Object(members) = value else { return Map::new() };
    members
}

/// A reading in which one member stands as `json`; `eventId` tells it from the others.
fn with(member: &str, json: &str, id: &str) -> Vec<u8> {
    let mut members = good();
    members.remove(member);
    members.insert("eventId".into(), id.into());
    if member == "eventId" {
        members.remove("eventId");
    }
    let mut text = Value::Object(members).to_string();
    text.pop();
    format!("{text},\"{member}\":{json}}}").into_bytes()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |member: &str, json: &str, end: End| {
        let id = format!("case-{}", cases.len());
        let shown: String = json.chars().take(40).collect();
        cases.push(Case { what: format!("{member} is {shown}"), record: with(member, json, &id), end });
    };
    for speed in ["\"076\"", "\" 76\"", "\"76 \"", "76.0", "\"76.00\"", "76", "\"76\"", "\"000076\""] {
        add("speed", speed, End::Stored(76));
    }
    add("speed", "999", End::Stored(999));
    for speed in ["75", "\"75\"", "75.0", "0", "\"000\""] {
        add("speed", speed, End::UnderLimit);
    }
    let not_speeds =
        ["75.9", "-1", "true", "null", "NaN", "\"NaN\"", "\"\"", "\" \"", "\"fast\"", "1000", "76.5", "[76]", "{}", "7.6e1"];
    for speed in not_speeds {
        add("speed", speed, End::Letter);
    }
    let plate = |n: usize| format!("\"{}\"", "P".repeat(n));
    add("licensePlate", &plate(64), End::Stored(80));
    add("licensePlate", "12345", End::Stored(80));
    add("licensePlate", "\"95B•140\"", End::Stored(80));
    for plate in ["\"\"", "\"   \"", "null", "true", "[]", "{}", &plate(65)] {
        add("licensePlate", plate, End::Letter);
    }
    add("city", "\"\"", End::Stored(80));
    add("longitude", "101.76685500000000000000001", End::Stored(80));
    add("city", &format!("\"{}\"", "c".repeat(256)), End::Stored(80));
    for (member, json) in [("city", format!("\"{}\"", "c".repeat(257))), ("state", "null".into()), ("latitude", "false".into())] {
        add(member, &json, End::Letter);
    }
    add("eventId", &format!("\"{}\"", "e".repeat(64)), End::Stored(80));
    for id in ["\"\"", "\"with blank\"", "null", &format!("\"{}\"", "e".repeat(65))] {
        add("eventId", id, End::Letter);
    }
    add("unknown", r#"{"a":[1,{"b":null}]}"#, End::Stored(80));
    add("unknown", &format!("{}{}", "[".repeat(40), "]".repeat(40)), End::Letter);
    add("unknown", &format!("\"{}\"", "x".repeat(130 * 1024)), End::Letter);
    add("city", "\"twice\",\"city\":\"twice\"", End::Letter);

    for member in good().keys() {
        let mut members = good();
        members.remove(member);
        cases.push(Case {
            what: format!("{member} is missing"),
            record: Value::Object(members).to_string().into(),
            end: End::Letter,
        });
    }
    let odd: [(&str, &[u8]); 6] = [
        ("no JSON", b"not json"),
        ("an array", b"[1,2]"),
        ("a cut object", br#"{"speed":"80""#),
        ("two objects", b"{}{}"),
        ("one byte that is no UTF-8", b"\xff"),
        ("a number", b"76"),
    ];
    cases.extend(odd.map(|(what, record)| Case { what: what.into(), record: record.to_vec(), end: End::Letter }));
    let mut not_utf8 = with("city", "\"X\"", "not-utf8");
    let at = not_utf8.iter().position(|byte| *byte == b'X').unwrap_or_default();
    not_utf8[at] = 0xff;
    cases.push(Case { what: "a city that is no UTF-8".into(), record: not_utf8, end: End::Letter });
    cases
}

#[tokio::test]
async fn each_bad_record_is_a_dead_letter_and_each_good_one_goes_on() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let drivers = sandbox.folder().join("drivers.csv");
    std::fs::write(&drivers, DRIVERS)?;
    sandbox.load(&drivers).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;

    let cases = cases();
    let records: Vec<_> = cases.iter().enumerate().map(|(n, case)| (n.to_string(), case.record.clone())).collect();
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await?;
    all_ended(&node, "enrich", cases.len()).await?;

    let found = sandbox.evidence().await?;
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(error) = ended_right(case, &found) {
            wrong.push(format!("{}: {error:#}", case.what));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} records ended otherwise:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let letters = cases.iter().filter(|case| case.end == End::Letter).count();
    ensure!(found.letters.len() == letters, "{} dead letters for {letters} bad records", found.letters.len());
    let stored = cases.iter().filter(|case| matches!(case.end, End::Stored(_))).count();
    ensure!(found.stored.len() == stored, "{} items for {stored} violations", found.stored.len());
    the_long_payload_is_whole_in_the_bucket(&sandbox, &cases).await?;

    all_ended(&node, "notify", found.published.len()).await?;
    unknown_owners_and_bad_numbers_end_as_promised(&sandbox, &node).await?;
    what_the_rule_cannot_carry_is_a_dead_letter(&sandbox, &node).await?;
    node.stop().await?;
    sandbox.end().await
}

async fn all_ended(node: &Node, role: &str, count: usize) -> Result<()> {
    eventually(&format!("{role} has ended {count} records"), LIMIT, || async {
        let status = node::status(&node.url).await?;
        let ended = status.all_ended(role);
        ensure!(ended == count as u64 && status.is_idle(), "{ended} ended: {}", status.json());
        Ok(())
    })
    .await
    .with_context(|| node.process.log_tail())
}

fn ended_right(case: &Case, found: &Evidence) -> Result<()> {
    let id = letters::id_of("enrich", &case.record);
    let letter = found.letters.iter().find(|letter| letter.id == id);
    // A record is told by its id, or stands alone without one.
    let given = serde_json::from_slice::<Value>(&case.record).ok();
    let event_id = given.as_ref().and_then(|value| value["eventId"].as_str()).unwrap_or_default().to_owned();
    let stored = found.stored.get(&event_id);
    match &case.end {
        End::Stored(speed) => {
            ensure!(letter.is_none(), "it is a dead letter: {letter:?}");
            let stored = stored.context("it is not stored")?;
            ensure!(stored.violation[5] == speed.to_string(), "it is stored as {stored:?}");
            let given = given.context("it is JSON")?;
            for (at, name) in ["licensePlate", "longitude", "latitude", "city", "state"].into_iter().enumerate() {
                if let Some(text) = given[name].as_str() {
                    ensure!(stored.violation[at] == text, "{name} is stored as `{}`", stored.violation[at]);
                }
            }
        }
        End::UnderLimit => ensure!(letter.is_none() && stored.is_none(), "it is not passed over: {letter:?} {stored:?}"),
        End::Letter => {
            ensure!(stored.is_none(), "it is stored");
            is_whole(letter.context("it is no dead letter")?, &case.record, "enrich")?;
        }
    }
    Ok(())
}

fn is_whole(letter: &Letter, payload: &[u8], stage: &str) -> Result<()> {
    let Letter { reason, state, source, payload: kept, payload_bytes, tries, .. } = letter;
    ensure!(letter.stage == stage && state == "open" && *tries == 1 && !reason.is_empty(), "{letter:?}");
    ensure!(kept[..] == payload[..payload.len().min(64 * 1024)] && *payload_bytes == payload.len(), "another payload");
    ensure!(letter.payload_object.is_some() == (payload.len() > 64 * 1024), "payloadObject is {:?}", letter.payload_object);
    let parts: Vec<&str> = source.split('/').collect();
    ensure!(parts.len() == 4 && parts[0].starts_with("rtr-iot-kinesis-") && parts[1].starts_with("shardId-"), "from {source}");
    Ok(())
}

async fn the_long_payload_is_whole_in_the_bucket(sandbox: &Sandbox, cases: &[Case]) -> Result<()> {
    let long = cases.iter().find(|case| case.record.len() > 128 * 1024).context("a long record is among the cases")?;
    let key = format!("dead-letters/{}", letters::id_of("enrich", &long.record));
    let kept = evidence::archive_object(&sandbox.clients, &key).await?;
    ensure!(kept == long.record, "the bucket keeps {} of {} bytes", kept.len(), long.record.len());
    Ok(())
}

async fn unknown_owners_and_bad_numbers_end_as_promised(sandbox: &Sandbox, node: &Node) -> Result<()> {
    let before = node.status().await?;
    let records = [
        ("silent".to_owned(), with("licensePlate", "\"no-1\"", "silent")),
        ("stranger".to_owned(), with("licensePlate", "\"STRANGER\"", "stranger")),
    ];
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await?;
    all_ended(node, "enrich", before.all_ended("enrich") as usize + 2).await?;
    all_ended(node, "notify", before.all_ended("notify") as usize + 1).await?;
    let found = sandbox.evidence().await?;
    ensure!(
        found.stored.contains_key("stranger") && !found.published.contains_key("stranger"),
        "unknown plates stay unpublished"
    );
    let silent = found.published.get("silent").context("a known driver's violation is published, whatever his number")?;
    ensure!(silent.event.violation[0] == "no-1" && silent.last_name == "Silent", "{silent:?}");
    let letters: Vec<_> = found.letters_of("notify").collect();
    ensure!(letters.len() == 1, "{letters:?}");
    let payload: Value = serde_json::from_slice(&letters[0].payload)?;
    ensure!(payload["eventId"] == "silent" && letters[0].id == letters::id_of("notify", &letters[0].payload), "{payload}");
    ensure!(found.texts.keys().all(|(number, _)| number == "+15155550100"), "{:?}", found.texts.keys());
    Ok(())
}

async fn what_the_rule_cannot_carry_is_a_dead_letter(sandbox: &Sandbox, node: &Node) -> Result<()> {
    let before = node.status().await?.all_ended("errors") as usize;
    let mut without_plate = good();
    without_plate.remove("licensePlate");
    let payloads = [Value::Object(without_plate).to_string().into_bytes(), b"no json".to_vec(), b"\xff\xfe\x00".to_vec()];
    mqtt::publish(&sandbox.endpoints.mqtt, &payloads).await?;
    let missing = eventually("the errors lane has made its dead letters", LIMIT, || async {
        let letters = evidence::all_letters(&sandbox.clients).await?;
        for payload in &payloads {
            let id = letters::id_of("errors", payload);
            let letter = letters.iter().find(|letter| letter.id == id);
            is_whole(
                letter.with_context(|| format!("no letter for {:?}", String::from_utf8_lossy(payload)))?,
                payload,
                "errors",
            )?;
        }
        Ok(())
    });
    missing.await.with_context(|| node.process.log_tail())?;
    all_ended(node, "errors", before + payloads.len()).await
}
