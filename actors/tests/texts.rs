//! Notify, archive and errors lanes on scripted shards and memory ports, with paused time.

mod rig;

use std::collections::HashSet;
use std::time::Duration;

use rig::Rig;
use speedtrap_actors::domain::{Driver, Outcome};
use speedtrap_actors::ports::{AlertLedger, FailureKind};
use speedtrap_actors::testing::{ScriptedSend, failure, sample_driver, sample_event};
use speedtrap_actors::wire::write_published;

fn published(n: usize) -> Vec<u8> {
    write_published(&sample_event("4-2288B", &format!("e-{n}"), 80), &sample_driver("Ada"))
}

#[tokio::test(start_paused = true)]
async fn each_event_is_texted_once_to_the_drivers_own_number_however_often_it_is_delivered() {
    let rig = Rig::notify();
    for n in 0..40 {
        rig.source.push(published(n));
        rig.source.push(published(n));
        if n % 8 == 0 {
            rig.source.push(published(0));
        }
    }
    let node = rig.start("n1#1").await;
    rig.settled(85).await;
    let counts = rig.outcomes();
    assert_eq!((counts.get(Outcome::Notified), counts.get(Outcome::Duplicate)), (40, 45));
    let texts = rig.sender.texts();
    assert_eq!(texts.len(), 40);
    assert!(texts.iter().all(|text| text.to.as_e164() == "+12025550123"));
    assert_eq!(rig.stats.snapshot()[0].possible_repeats, 0);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_none_or_a_refused_text_becomes_a_dead_letter_of_stage_notify() {
    let rig = Rig::notify();
    let driver = Driver { myphone: "not a number".into(), ..sample_driver("Ada") };
    rig.source.push(write_published(&sample_event("A", "e-0", 80), &driver));
    rig.source.push(published(1));
    rig.source.push(published(2));
    rig.source.push("{}");
    rig.sender.script([ScriptedSend::Refused("opted out".to_owned())]);
    let node = rig.start("n1#1").await;
    rig.settled(4).await;
    let letters = rig.letters.letters();
    assert_eq!((letters.len(), rig.sender.texts().len()), (3, 1));
    assert!(letters.iter().all(|letter| letter.stage == "notify"));
    assert!(letters.iter().all(|letter| !letter.reason.contains("2025550123")), "reasons hold nothing personal");
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_text_service_loses_no_text_and_makes_no_dead_letter() {
    let rig = Rig::notify();
    for n in 0..100 {
        rig.source.push(published(n));
    }
    rig.sender.outage.fail_for(Duration::from_secs(600), failure(FailureKind::Unreachable));
    let node = rig.start("n1#1").await;
    rig.checkpointed_to_end().await;
    assert_eq!((rig.sender.texts().len(), rig.ledger.n_sent(), rig.letters.letters().len()), (100, 100, 0));
    assert_eq!(rig.stats.snapshot()[0].possible_repeats, 0, "what was certainly not sent is no repeat");
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_ledger_repeats_no_more_than_was_in_flight() {
    let rig = Rig::notify();
    for n in 0..100 {
        rig.source.push(published(n));
    }
    rig.ledger.outage.delay(Duration::from_millis(20));
    let node = rig.start("n1#1").await;
    rig.until(|rig| rig.sender.texts().len() >= 20, "some texts").await;
    rig.ledger.outage.fail_for(Duration::from_secs(60), failure(FailureKind::ServerError));
    rig.checkpointed_to_end().await;
    let sent = rig.sender.texts().len();
    assert!((100..=104).contains(&sent), "{sent} texts for 100 events with 4 in flight");
    assert_eq!(rig.sender.texts().iter().map(|text| &text.text).collect::<HashSet<_>>().len(), 1, "one plate, one text");
    assert!(rig.stats.snapshot()[0].possible_repeats >= sent as u64 - 100);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_tried_again_and_counted() {
    let rig = Rig::notify();
    rig.source.push(published(0));
    rig.sender.script([ScriptedSend::LostAfterSending(failure(FailureKind::TimedOut))]);
    let node = rig.start("n1#1").await;
    rig.settled(1).await;
    assert_eq!((rig.sender.texts().len(), rig.stats.snapshot()[0].possible_repeats), (2, 1));
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_an_earlier_boot_is_taken_over_at_once_and_a_strangers_after_it_expired() {
    let rig = Rig::notify();
    rig.ledger.claim("e-0", "n1#1/shardId-000000000000#1@7").await.expect("the fake answers");
    rig.ledger.claim("e-1", "n2#1/shardId-000000000000#1@7").await.expect("the fake answers");
    rig.source.push(published(0));
    rig.source.push(published(1));
    let start = tokio::time::Instant::now();
    let node = rig.start("n1#2").await;
    rig.until(|rig| rig.sender.texts().len() == 1, "the first text").await;
    assert!(start.elapsed() < Duration::from_secs(3));
    rig.settled(2).await;
    assert!((Duration::from_secs(9)..Duration::from_secs(13)).contains(&start.elapsed()));
    assert_eq!(rig.stats.snapshot()[0].possible_repeats, 2);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_lanes_earlier_life_on_this_node_is_not_taken_for_its_own() {
    let rig = Rig::notify();
    rig.source.push(published(0));
    let lane = rig.lane("n1#1").await;
    rig.settled(1).await;
    assert!(rig.hand_over(&lane, None).await);
    rig.source.push(published(1));
    let owner = format!("n1#1/shardId-000000000000#1@{}", rig.last_position().sequence.as_str());
    rig.ledger.claim("e-1", &owner).await.expect("the fake answers");
    let lane = rig.lane("n1#1").await;
    rig.settled(2).await;
    assert_eq!((rig.sender.texts().len(), rig.stats.snapshot()[0].possible_repeats), (2, 1));
    rig.hand_over(&lane, None).await;
}

#[tokio::test(start_paused = true)]
async fn archive_lines_are_the_same_at_every_delivery_and_removals_are_skipped() {
    let rig = Rig::archive();
    let image = r#"{"eventName":"INSERT","newImage":{"iottimestamp":{"S":"t"},"licensePlate":{"S":"A"},"longitude":{"S":"1"},"latitude":{"S":"2"},"city":{"S":"c"},"state":{"S":"Iowa"},"speed":{"N":"76"},"eventId":{"S":"e-1"}}}"#;
    rig.source.push(image);
    rig.source.push(image.replace("INSERT", "MODIFY"));
    rig.source.push(r#"{"eventName":"REMOVE"}"#);
    rig.source.push(r#"{"eventName":"INSERT","newImage":{}}"#);
    rig.archive.outage.fail_next(2, failure(FailureKind::Throttled));
    let node = rig.start("n1#1").await;
    rig.checkpointed_to_end().await;
    let lines = rig.archive.lines();
    assert_eq!((lines.len(), lines.iter().collect::<HashSet<_>>().len()), (2, 1));
    let letters = rig.letters.letters();
    assert_eq!((letters.len(), letters[0].stage), (1, "archive"));
    rig.drain(&node).await;
    let counts = rig.outcomes();
    assert_eq!((counts.get(Outcome::Archived), counts.get(Outcome::Skipped), counts.get(Outcome::Rejected)), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn every_error_record_of_the_rule_becomes_a_dead_letter_with_the_original_message() {
    let rig = Rig::errors();
    rig.source.push(r#"{"ruleName":"r","base64OriginalPayload":"bm90IGpzb24=","failures":[]}"#);
    rig.source.push("something else");
    let node = rig.start("n1#1").await;
    rig.settled(2).await;
    let letters = rig.letters.letters();
    let payloads: HashSet<&[u8]> = letters.iter().map(|letter| &letter.payload[..]).collect();
    assert_eq!(payloads, HashSet::from([&b"not json"[..], b"something else"]));
    assert!(letters.iter().all(|letter| letter.stage == "errors" && letter.source().starts_with("stream/shardId-000000000000/")));
    rig.drain(&node).await;
}
