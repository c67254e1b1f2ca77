//! Looking for an event's line among the objects that Firehose wrote around a time.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use speedtrap_actors::adapters::{ArchiveObject, TraceDesk};
use speedtrap_actors::ports::RemoteFailure;

use super::facts::Facts;
use super::look::Look;

/// Where the lines of violations are.
const FOLDER: &str = "speeding/";
/// Firehose collects for up to 15 minutes, and names an object for the hour of its first line
/// (<https://docs.aws.amazon.com/firehose/latest/dev/s3-object-name.html>).
const MOST_COLLECTING: Duration = Duration::from_secs(15 * 60);
/// How long after the event its line is looked for.
const LOOKED_AFTER: Duration = Duration::from_secs(2 * 3_600);
const MOST_LISTED: usize = 5_000;
const MOST_OBJECTS: usize = 40;
const MOST_BYTES: u64 = 256 << 20;

/// A line of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) bucket: String,
    pub(super) key: String,
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) written: Option<SystemTime>,
}

/// Finds the first line of an event that was in the pipeline at a time.
pub(super) async fn find(desk: &TraceDesk, bucket: &str, event_id: &str, at: SystemTime, progress: &dyn Fn(&str)) -> Look<Line> {
    match search(desk, bucket, event_id, at, progress).await {
        Ok(look) => look,
        Err(failure) => failure.into(),
    }
}

async fn search(
    desk: &TraceDesk,
    bucket: &str,
    event_id: &str,
    at: SystemTime,
    progress: &dyn Fn(&str),
) -> Result<Look<Line>, RemoteFailure> {
    let now = SystemTime::now();
    let (objects, whole) = candidates(desk, bucket, at, now).await?;
    let n_all = objects.len();
    let mut bytes = 0;
    for (n, object) in objects.into_iter().enumerate() {
        bytes += object.bytes;
        if n >= MOST_OBJECTS || bytes > MOST_BYTES {
            return Ok(Look::Unknown(format!(
                "not in the first {n} of {n_all} objects around that time; the others were not read"
            )));
        }
        progress(&format!("{bucket}: object {} of {n_all}", n + 1));
        let data = desk.object(bucket, &object.key).await?;
        if let Some(number) = line_of(&data, event_id) {
            return Ok(Look::Found(Line { bucket: bucket.to_owned(), key: object.key, number, written: object.written }));
        }
    }
    if now.duration_since(at).is_ok_and(|age| age < MOST_COLLECTING) {
        return Ok(Look::Absent(format!("not in {n_all} objects yet; Firehose collects for up to 15 minutes")));
    }
    let hours = LOOKED_AFTER.as_secs() / 3_600;
    let why = format!("not in the {n_all} objects that were written within {hours} h");
    Ok(if whole { Look::Absent(why) } else { Look::Unknown(format!("{why}, of which not all were listed")) })
}

/// The objects that may hold the line, the earliest first, and whether these are all.
async fn candidates(
    desk: &TraceDesk,
    bucket: &str,
    at: SystemTime,
    now: SystemTime,
) -> Result<(Vec<ArchiveObject>, bool), RemoteFailure> {
    let mut objects = Vec::new();
    for prefix in prefixes(at, now) {
        let mut after = String::new();
        loop {
            let (page, more) = desk.objects(bucket, &prefix, &after).await?;
            let last = page.last().map(|object| object.key.clone());
            objects.extend(page);
            match last {
                Some(last) if more && objects.len() < MOST_LISTED => after = last,
                Some(_) if more => return Ok((relevant(objects, at), false)),
                _ => break,
            }
        }
    }
    Ok((relevant(objects, at), true))
}

/// What was written before the event cannot hold it. S3 tells times in whole seconds.
fn relevant(mut objects: Vec<ArchiveObject>, at: SystemTime) -> Vec<ArchiveObject> {
    let earliest = at.checked_sub(Duration::from_secs(1)).unwrap_or(at);
    objects.retain(|object| object.written.is_none_or(|written| written >= earliest));
    objects.sort_by(|one, other| (one.written, &one.key).cmp(&(other.written, &other.key)));
    objects
}

/// The prefixes of the hours in which the object may have been begun.
fn prefixes(at: SystemTime, now: SystemTime) -> Vec<String> {
    let last = (at + LOOKED_AFTER).min(now.max(at));
    let mut hours = Vec::new();
    let mut hour = at.checked_sub(MOST_COLLECTING).unwrap_or(at);
    loop {
        let Ok(time) = Timestamp::try_from(hour) else { return hours };
        let prefix = time.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d/%H/").to_string();
        let prefix = format!("{FOLDER}{prefix}");
        if hours.last() != Some(&prefix) {
            hours.push(prefix);
        }
        if hour >= last {
            return hours;
        }
        hour = (hour + Duration::from_secs(3_600)).min(last);
    }
}

/// The number of the first line of an event.
fn line_of(data: &[u8], event_id: &str) -> Option<u64> {
    let is_it = |line: &[u8]| {
        // Most lines are told apart without reading them.
        line.windows(event_id.len()).any(|part| part == event_id.as_bytes())
            && Facts::of(line).is_some_and(|facts| facts.event_id.as_deref() == Some(event_id))
    };
    (1..).zip(data.split(|byte| *byte == b'\n')).find(|(_, line)| is_it(line)).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> SystemTime {
        text.parse::<Timestamp>().expect("a time").into()
    }

    #[test]
    fn the_hours_begin_a_buffer_before_the_event_and_end_now() {
        let at = time("2026-01-01T00:05:00Z");
        let names = |now| prefixes(at, time(now));
        assert_eq!(names("2026-01-01T00:06:00Z"), ["speeding/2025/12/31/23/", "speeding/2026/01/01/00/"]);
        assert_eq!(names("2026-01-09T00:00:00Z").len(), 4);
        assert_eq!(names("2020-01-01T00:00:00Z").len(), 2, "a clock that is late sees its own hour all the same");
    }

    #[test]
    fn a_line_is_found_by_its_own_id_and_not_by_a_mention() {
        let data = b"{\"eventId\":\"e-10\",\"city\":\"e-1\"}\n{\"eventId\":\"e-1\"}\n{\"eventId\":\"e-1\"}\n";
        assert_eq!((line_of(data, "e-1"), line_of(data, "e-10"), line_of(data, "e-2")), (Some(2), Some(1), None));
    }

    #[test]
    fn what_was_written_before_the_event_is_left_out() {
        let object = |key: &str, written| ArchiveObject { key: key.into(), written: Some(time(written)), bytes: 1 };
        let objects =
            vec![object("c", "2026-01-01T00:00:30Z"), object("b", "2026-01-01T00:00:10Z"), object("a", "2026-01-01T00:00:08Z")];
        let kept = relevant(objects, time("2026-01-01T00:00:10.5Z"));
        assert_eq!(kept.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    }
}
