//! Stories as they are told of what was found.

use bytes_of::hit;
use serde_json::{Value, json};
use speedtrap_actors::adapters::{StoredClaim, StoredLetter};
use speedtrap_actors::domain::SpeedMph;

use super::archive_search::Line;
use super::facts::Facts;
use super::look::Look;
use super::story::{Names, Story, Traces};
use super::*;

const TAKEN: &str = "2026-01-01 12:00:00.000000";

mod bytes_of {
    use speedtrap_actors::domain::{Position, SequenceNumber, ShardId};

    use super::super::stream_search::Hit;

    pub(super) fn hit(stream: &str, arrived: &str, data: &str) -> Hit {
        Hit {
            stream: stream.to_owned(),
            shard: ShardId::new("shardId-000000000001"),
            position: Position { sequence: SequenceNumber::parse("4967").expect("a number"), sub: 0 },
            arrived: Some(arrived.parse::<jiff::Timestamp>().expect("a time").into()),
            data: data.to_owned().into(),
            strayed: false,
        }
    }
}

fn record(mph: u16) -> String {
    json!({"iottimestamp": TAKEN, "licensePlate": "4-2288B", "longitude": "1", "latitude": "2", "city": "Ames", "state": "Iowa",
           "speed": mph, "eventId": "e-1", "first_name": "Ada", "last_name": "Example", "myphone": "2025550123"})
    .to_string()
}

/// A violation that went all the way.
fn whole() -> Traces {
    let facts = Facts::of(record(80).as_bytes()).expect("a record");
    Traces {
        event_id: "e-1".to_owned(),
        facts,
        incoming: Look::Found(hit("in", "2026-01-01T12:00:00.250Z", &record(80))),
        stored: Look::Found(()),
        outgoing: Look::Found(hit("out", "2026-01-01T12:00:00.750Z", &record(80))),
        claim: Some(StoredClaim {
            state: "sent".to_owned(),
            owner: "node-2#17/shardId-000000000001#3@4967".to_owned(),
            claimed_at: Some("2026-01-01T12:00:01.000Z".to_owned()),
            sent_at: Some("2026-01-01T12:00:01.750Z".to_owned()),
            message_id: Some("m-1".to_owned()),
        }),
        archived: Look::Found(Line {
            bucket: "b".to_owned(),
            key: "speeding/2026/01/01/12/x".to_owned(),
            number: 7,
            written: Some("2026-01-01T12:01:00Z".parse::<jiff::Timestamp>().expect("a time").into()),
        }),
        known_now: Look::Found(false),
        letters: Vec::new(),
    }
}

fn told(traces: &Traces, reveal: bool) -> Value {
    let names = Names { speeding_table: "speeding", letters_table: "letters" };
    serde_json::to_value(Story::of(traces, SpeedMph::new(75).expect("a speed"), &names, reveal)).expect("JSON")
}

fn step<'a>(story: &'a Value, name: &str) -> &'a Value {
    story["steps"].as_array().expect("steps").iter().find(|step| step["step"] == name).unwrap_or(&Value::Null)
}

#[test]
fn a_violation_that_went_all_the_way_has_a_place_and_a_delay_at_every_step() {
    let story = told(&whole(), false);
    assert_eq!(story["verdict"], "violation");
    let delays = ["in_stream", "out_stream", "text", "archive"]
        .map(|name| (&step(&story, name)["delay_ms"], &step(&story, name)["after"]));
    assert_eq!(
        delays,
        [
            (&json!(250), &json!("taken")),
            (&json!(500), &json!("in_stream")),
            (&json!(1_000), &json!("out_stream")),
            (&json!(59_750), &json!("in_stream"))
        ]
    );
    assert_eq!(step(&story, "text")["place"], json!({"message_id": "m-1"}));
    assert_eq!(step(&story, "archive")["place"]["line"], 7);
    let lookup = step(&story, "lookup")["text"].as_str().expect("a text");
    assert!(lookup.starts_with("hit") && lookup.contains("no driver today"), "{lookup}");
    assert!(story["steps"].as_array().expect("steps").iter().all(|step| step["state"] == "found"), "{story:#}");
}

#[test]
fn persons_are_shown_only_where_they_are_asked_for() {
    let shown = told(&whole(), false).to_string();
    for personal in ["4-2288B", "Ada", "Example", "2025550123"] {
        assert!(!shown.contains(personal), "{personal} in {shown}");
    }
    let story = told(&whole(), true);
    assert_eq!((&story["plate"], &story["driver"]["myphone"]), (&json!("4-2288B"), &json!("2025550123")));
}

#[test]
fn a_reading_that_is_no_violation_ends_at_the_filter() {
    let facts = Facts::of(record(75).as_bytes()).expect("a record");
    let absent = || Look::Absent(String::new());
    let incoming = Look::Found(hit("in", "2026-01-01T12:00:00.250Z", &record(75)));
    let traces = Traces {
        facts,
        incoming,
        stored: absent(),
        outgoing: Look::Absent(String::new()),
        claim: None,
        archived: Look::Absent(String::new()),
        ..whole()
    };
    let story = told(&traces, false);
    assert_eq!(story["verdict"], "under_limit");
    assert_eq!((&step(&story, "in_stream")["state"], &step(&story, "text")["state"]), (&json!("found"), &json!("absent")));
}

#[test]
fn what_was_stored_and_not_published_had_no_driver_unless_the_stream_forgot() {
    let unpublished = |outgoing| told(&Traces { outgoing, claim: None, ..whole() }, false);
    let story = unpublished(Look::Absent("not among 9 records".to_owned()));
    let lookup = step(&story, "lookup");
    assert!(lookup["state"] == "absent" && lookup["text"].as_str().is_some_and(|text| text.starts_with("miss")), "{lookup}");
    let story = unpublished(Look::Expired("24 h".to_owned()));
    assert_eq!((&step(&story, "lookup")["state"], &step(&story, "out_stream")["state"]), (&json!("expired"), &json!("expired")));
    let story = unpublished(Look::Unknown("throttled".to_owned()));
    assert_eq!(step(&story, "lookup")["state"], "unknown");
}

#[test]
fn a_bad_record_is_told_with_its_letter_and_reason() {
    let letter = StoredLetter {
        id: "l-1".into(),
        stage: "enrich".into(),
        reason: "speed `75.9` is no speed".into(),
        state: "open".into(),
        source: "in/shardId-000000000001/4967/0".into(),
        first_seen: "2026-01-01T12:00:01.000Z".into(),
        last_seen: "2026-01-01T12:00:01.000Z".into(),
        tries: 1,
        payload: Vec::new().into(),
        payload_bytes: 0,
        payload_object: None,
    };
    let facts = Facts { speed: None, ..Facts::of(record(80).as_bytes()).expect("a record") };
    let absent = || Look::Absent(String::new());
    let traces =
        Traces { facts, letters: vec![letter], stored: absent(), outgoing: Look::Absent(String::new()), claim: None, ..whole() };
    let story = told(&traces, false);
    assert_eq!(story["verdict"], "rejected");
    assert!(step(&story, "dead_letter")["text"].as_str().is_some_and(|text| text.contains("75.9")), "{story:#}");
}

#[test]
fn places_are_read_from_claims_and_letters() {
    let (shard, position) = claimed_place("node-2#17/shardId-000000000001#3@4967.2").expect("a place");
    assert_eq!((shard.as_str(), position.sequence.as_str(), position.sub), ("shardId-000000000001", "4967", 2));
    assert_eq!(claimed_place("node-2#17/shardId-000000000001#3@4967").map(|(_, at)| at.sub), Some(0));
    assert_eq!((claimed_place("somebody"), claimed_place("a/b#c@d")), (None, None));
    let (stream, shard, position) = place_of("in/shardId-000000000001/4967/1").expect("a place");
    assert_eq!((&*stream, shard.as_str(), position.sub), ("in", "shardId-000000000001", 1));
    assert_eq!(place_of("rule/errors"), None);
}

#[test]
fn an_effect_that_was_seen_tells_where_to_look_when_the_device_sent_late() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let within = Duration::from_secs(600);
    let span = |from, to| Span { from: at(from), to: at(to) };
    assert_eq!(spans(Some(at(1_000)), None, within), [span(940, 1_600)]);
    assert_eq!(spans(Some(at(1_000)), Some(at(1_002)), within), [span(882, 1_062)], "nothing came after its effect");
    assert_eq!(spans(Some(at(1_000)), Some(at(9_000)), within), [span(8_880, 9_060), span(940, 1_600)], "sent hours later");
    assert!(spans(None, None, within).is_empty());
}
