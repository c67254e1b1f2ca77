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
use speedtrap_tests::{commands, mqtt, node, programs};

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
    letters_are_worked_with_and_that_is_audited(&sandbox, &node).await?;
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

/// Runs `speedtrap dead-letters`; its exit code must be as expected.
async fn dead_letters(node: &Node, arguments: &[&str], code: i32) -> Result<Value> {
    let mut command = programs::command("speedtrap")?;
    command.arg("dead-letters").args(arguments).args(["--json", "--node", &node.url]);
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(code), "speedtrap dead-letters {arguments:?}: {ended:?}");
    ended.json()
}

async fn letters_are_worked_with_and_that_is_audited(sandbox: &Sandbox, node: &Node) -> Result<()> {
    let clients = &sandbox.clients;
    let (mended, broken) = (with("city", "\"Mended\"", "mended"), b"not json".to_vec());
    let (good_id, bad_id) = (letters::id_of("enrich", &mended), letters::id_of("enrich", &broken));
    letters::store(&clients.dynamodb, &good_id, "enrich", IN_STREAM, &mended).await?;
    let ended = async || Ok::<_, anyhow::Error>(node.status().await?.all_ended("enrich") as usize);
    let (before, n_ended) = (streams::all_records(&clients.kinesis, IN_STREAM).await?.len(), ended().await?);

    let order = ["redrive", &good_id, "--reason", "the reader was mended", "--yes"];
    let done = dead_letters(node, &order, 0).await?;
    ensure!(done["done"] == 1 && done["left"] == json!([]), "{done}");
    all_ended(node, "enrich", n_ended + 1).await?;
    let again = dead_letters(node, &order, 3).await?;
    ensure!(again["done"] == 0 && again["left"][0]["why"] == "it is redriven or discarded already", "{again}");
    let after = streams::all_records(&clients.kinesis, IN_STREAM).await?.len();
    ensure!(after == before + 1, "the record went back {} times", after - before);
    ensure!(sandbox.evidence().await?.stored.contains_key("mended"), "it is not stored");

    // What is still bad comes back, with its history.
    let mut see = programs::command("speedtrap")?;
    see.args(["dead-letters", "redrive", &bad_id, "--reason", "let us see", "--yes", "--node", &node.url]);
    let seen_code = commands::run(see).await?.code;
    // It may be back before the command has noted that it went.
    ensure!(matches!(seen_code, Some(0 | 3)), "{seen_code:?}");
    all_ended(node, "enrich", n_ended + 2).await?;
    let shown = dead_letters(node, &["show", &bad_id], 0).await?;
    ensure!(shown["state"] == "open" && shown["tries"] == 2, "{shown}");
    dead_letters(node, &["discard", &bad_id, "--reason", "it is noise", "--yes"], 0).await?;
    ensure!(dead_letters(node, &["show", &bad_id], 0).await?["state"] == "discarded");
    let mut unconfirmed = programs::command("speedtrap")?;
    unconfirmed.args(["dead-letters", "discard", "--all", "--reason", "all of it", "--node", &node.url]);
    ensure!(commands::run(unconfirmed).await?.code == Some(5), "nobody confirmed it");

    let listed = dead_letters(node, &["list", "--state", "all", "--limit", "5000"], 0).await?;
    let rows = listed["letters"].as_array().context("letters")?;
    ensure!(rows.len() == evidence::all_letters(clients).await?.len(), "{} letters are listed", rows.len());
    let (text, whole_plate) = (listed.to_string(), "\"OK-1\"");
    ensure!(!text.contains(whole_plate) && text.contains("OK-…") && !text.contains("5155550100"), "plates must be masked");

    let mut audit = programs::command("speedtrap")?;
    audit.args(["audit", "--json", "--node", &node.url]);
    let page = commands::run(audit).await?.json()?;
    let lines = page["lines"].as_array().context("lines")?;
    let seen: Vec<_> =
        lines.iter().map(|line| (line["action"].as_str(), line["phase"].as_str(), line["target"].as_str())).collect();
    let of = |action, end, id| [(Some(action), Some("intent"), Some(id)), (Some(action), Some(end), Some(id))];
    let (good, bad) = (good_id.as_str(), bad_id.as_str());
    let came_back = if seen_code == Some(0) { "done" } else { "failed" };
    let expected =
        [of("redrive", "done", good), of("redrive", "failed", good), of("redrive", came_back, bad), of("discard", "done", bad)];
    ensure!(seen == expected.concat(), "{page}");
    ensure!(lines[0]["reason"] == "the reader was mended" && lines[0]["from"] == "command", "{page}");
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
