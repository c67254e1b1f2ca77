//! The main job, from two CSV files to the texts, on real processes: what arrives must be what the files alone say.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::evidence::Evidence;
use speedtrap_tests::node::{self, Status};
use speedtrap_tests::oracle::{self, Expected};
use speedtrap_tests::personal;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::{Sandbox, make_files};
use speedtrap_tests::streams::{self, IN_STREAM, OUT_STREAM};

/// What a demo of 1,000 readings may take once everything is built and installed. The issue's own limit holds for a release
/// build; a busy machine with a debug build gets no more.
const DEMO_LIMIT: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_bundled_samples_arrive_once_each_also_when_delivered_again() -> Result<()> {
    let samples = programs::workspace().join("data/samples");
    let expected = Expected::of(&samples.join("drivers.csv"), &samples.join("readings.csv"))?;
    ensure!(expected.readings == 1_000, "the sample has {} readings", expected.readings);
    let demo = Sandbox::held_demo(&[]).await?;
    println!("1,000 readings took {:.1} s from the call to the report", demo.took.as_secs_f64());

    agrees_with_the_report(&demo, &expected)?;
    let found = demo.reconciled(&expected, LIMIT).await?;
    ensure!(found.repeated_texts() == 0 && found.letters.len() == expected.known() - expected.textable());
    one_text_is_worded_as_promised(&found, &expected)?;
    the_map_counts_each_reading_in_its_state(&demo, &expected).await?;
    delivered_again_nothing_new_comes_of_it(&demo, &expected, &found).await?;
    demo.end().await?;
    Ok(())
}

/// Dirt of every kind: no readable number, bad speeds, unknown plates, ragged rows.
#[tokio::test]
async fn what_cannot_be_used_is_counted_and_the_rest_arrives() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (drivers, readings) = make_files(
        folder.path(),
        &["--rows", "120", "--seed", "7", "--dirt", "heavy", "--bad-row-share", "0.05", "--bad-myphone-share", "0.1"],
        &["--rows", "400", "--seed", "7", "--dirt", "heavy", "--unknown-share", "0.05", "--bad-speed-share", "0.05"],
    )
    .await?;
    let expected = Expected::of(&drivers, &readings)?;
    ensure!(expected.bad_speeds > 0 && expected.known() > expected.textable(), "there is dirt of every kind: {expected:?}");
    ensure!(expected.known() < expected.violations.len(), "there are unknown plates");

    let (drivers, readings) = (drivers.as_os_str(), readings.as_os_str());
    let demo = Sandbox::held_demo(&[OsStr::new("--drivers"), drivers, OsStr::new("--readings"), readings]).await?;
    agrees_with_the_report(&demo, &expected)?;
    let found = demo.reconciled(&expected, LIMIT).await?;
    let tries: u64 = found.letters_of("enrich").map(|letter| letter.tries).sum();
    ensure!(tries == expected.bad_speeds, "{tries} dead letters for {} bad speeds", expected.bad_speeds);
    personal::is_nowhere(&demo, Path::new(drivers), Path::new(readings)).await?;
    the_map_counts_each_reading_in_its_state(&demo, &expected).await?;
    demo.end().await
}

fn agrees_with_the_report(demo: &Sandbox, expected: &Expected) -> Result<()> {
    let report = demo.report.as_ref().context("a demo makes a report")?;
    ensure!(report["reconciled"] == true, "{report}\n{}", demo.launcher_log());
    ensure!(demo.took < DEMO_LIMIT || expected.readings != 1_000, "the demo took {:?}", demo.took);
    let violations = expected.violations.len() as u64;
    let untextable = (expected.known() - expected.textable()) as u64;
    for (key, count) in [
        ("readings", expected.readings),
        ("events_in", expected.readings),
        ("violations", violations),
        ("persisted", violations),
        ("published", expected.known() as u64),
        ("texts", expected.textable() as u64),
        ("archived_lines", violations),
        ("drivers_loaded", expected.drivers.len() as u64),
        ("duplicates", 0),
        ("possible_repeats", 0),
    ] {
        ensure!(report[key] == count, "`{key}` is not {count} in {report}");
    }
    let letters = report["dead_letters"].as_u64().context("dead_letters is a number")?;
    // Equal payloads share one letter.
    ensure!((untextable..=untextable + expected.bad_speeds).contains(&letters), "{letters} dead letters in {report}");
    for time in ["p50", "p99"] {
        ensure!(report["publish_to_text_ms"][time].is_number(), "no {time} in {report}");
    }
    Ok(())
}

/// Looked at letter by letter for one event, since the oracle's wording could drift along with the code's.
fn one_text_is_worded_as_promised(found: &Evidence, expected: &Expected) -> Result<()> {
    let (_, published) = found.published.first_key_value().context("something was published")?;
    let [plate, longitude, latitude, city, state, speed] = &published.event.violation;
    let text = [
        format!("To {} {}, ", published.first_name, published.last_name),
        format!(" Your vehicle with licenseplate {plate} was clocked with speed above the permissible limit at {city},{state}"),
        format!(" Clocked speed {speed} "),
        format!(" Geo location {longitude}, {latitude} "),
        format!(" Time {}.", published.event.iottimestamp),
    ]
    .join("\n");
    let driver = expected.driver(plate).context("its driver is known")?;
    let number = driver.e164().context("its driver has a number")?;
    ensure!(text == oracle::text(driver, &published.event.violation, &published.event.iottimestamp));
    ensure!(found.texts.get(&(number.clone(), text.clone())) == Some(&1), "not sent once to {number}: {text}");
    ensure!(found.texts.keys().filter(|(_, sent)| *sent == text).count() == 1, "sent to others too: {text}");
    Ok(())
}

/// What is no reading is in no state; the states' own names and codes tell which violations are theirs.
async fn the_map_counts_each_reading_in_its_state(demo: &Sandbox, expected: &Expected) -> Result<()> {
    let node = demo.endpoints.dashboard_urls.last().context("a held demo has nodes")?;
    let page: Value = get_json(format!("{node}/api/v1/map?window=1h")).await?;
    let violations = expected.violations.len() as u64;
    ensure!(page["events"] == expected.readings - expected.bad_speeds && page["violations"] == violations, "{page}");
    ensure!(page["silent"].as_array().is_some_and(Vec::is_empty), "{page}");
    let states = page["states"].as_array().context("states")?;
    let sum = |key: &str| states.iter().chain([&page["state_unknown"]]).filter_map(|row| row[key].as_u64()).sum::<u64>();
    ensure!(page["events"] == sum("events") && page["violations"] == violations && sum("violations") == violations, "{page}");
    for row in states {
        let (Some(name), Some(code)) = (row["name"].as_str(), row["state"].as_str()) else { anyhow::bail!("{row}") };
        let is_it = |text: &str| text.trim().eq_ignore_ascii_case(name) || text.trim().eq_ignore_ascii_case(code);
        let n = expected.violations.iter().filter(|[_, _, _, _, state, _]| is_it(state)).count();
        ensure!(row["violations"] == n, "{n} violations in {name}, not {row}");
    }
    let bins = page["histogram"]["bins"].as_array().context("bins")?;
    let above = bins.iter().filter(|bin| bin["from"].as_u64() > Some(75)).filter_map(|bin| bin["events"].as_u64()).sum::<u64>();
    ensure!(above == violations && page["histogram"]["limit_mph"] == 75, "{page}");
    Ok(())
}

async fn delivered_again_nothing_new_comes_of_it(demo: &Sandbox, expected: &Expected, before: &Evidence) -> Result<()> {
    let node = demo.endpoints.dashboard_urls.first().context("a held demo has a node")?;
    let settled = |what: &'static str, done: fn(&Status, u64) -> bool, count: u64| {
        eventually(what, LIMIT, move || async move {
            let status = node::status_of_all(node).await?;
            ensure!(status.is_idle() && done(&status, count), "{}", status.json());
            anyhow::Ok(())
        })
    };
    let published = before.published.len() as u64;

    let again = streams::repeat_all(&demo.clients.kinesis, IN_STREAM).await?;
    ensure!(again as u64 == expected.readings, "{again} readings were delivered again");
    settled("readings delivered again have ended", |status, n| status.all_ended("enrich") == n, 2 * expected.readings).await?;
    settled("what was published again is a duplicate", |status, n| status.ended("notify", "duplicate") == n, published).await?;

    let again = streams::repeat_all(&demo.clients.kinesis, OUT_STREAM).await?;
    ensure!(again as u64 == 2 * published, "a stored event still goes to the out-stream");
    settled("a repeated out-stream is all duplicates", |status, n| status.ended("notify", "duplicate") == n, 3 * published)
        .await?;

    // Firehose hands over what it got after a while.
    let after = demo.reconciled(expected, LIMIT).await?;
    ensure!(after.texts == before.texts, "a second delivery was texted");
    ensure!(after.stored == before.stored && after.archived == before.archived);
    ensure!(after.letters.len() == before.letters.len());
    ensure!(after.published_again as u64 == 3 * published, "{} records repeat others", after.published_again);
    Ok(())
}
