//! The story of one event, put together from what was found of it (pure).

use std::time::SystemTime;

use serde::Serialize;
use speedtrap_actors::adapters::{StoredClaim, StoredLetter};
use speedtrap_actors::domain::SpeedMph;

use super::archive_search::Line;
use super::facts::Facts;
use super::look::Look;
use super::stream_search::Hit;
use crate::api::masked_plate;

/// What `speedtrap trace` answers.
#[derive(Debug, Serialize)]
pub(crate) struct TracePage {
    pub(crate) schema: u32,
    /// Whether persons are shown; the audit log has who looked, and why.
    pub(crate) revealed: bool,
    /// The latest first.
    pub(crate) events: Vec<Story>,
    /// Events of the plate that were not traced.
    pub(crate) more: usize,
    /// Reads of the streams that it took.
    pub(crate) stream_reads: u32,
    /// What is to be known about the answer as a whole.
    pub(crate) notes: Vec<String>,
}

/// One event.
#[derive(Debug, Serialize)]
pub(crate) struct Story {
    pub(crate) event_id: String,
    /// Its first characters, unless persons are shown.
    pub(crate) plate: Option<String>,
    /// Only where persons are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) driver: Option<Person>,
    pub(crate) iottimestamp: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) speed_mph: Option<u16>,
    pub(crate) limit_mph: u16,
    /// `violation`, `under_limit`, `rejected` or `unknown`.
    pub(crate) verdict: &'static str,
    /// In the order of the pipeline.
    pub(crate) steps: Vec<Step>,
}

/// A driver as the out-stream named him.
#[derive(Debug, Serialize)]
pub(crate) struct Person {
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) myphone: String,
}

/// One step of an event's way.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) step: &'static str,
    /// `found`, `absent`, `expired` (it is not kept that long) or `unknown` (it could not be looked for, or not far enough).
    pub(crate) state: &'static str,
    pub(crate) at: Option<String>,
    /// Time since the step that it follows; null where one of the two times is not known.
    pub(crate) delay_ms: Option<i64>,
    /// The step that it follows.
    pub(crate) after: Option<&'static str>,
    pub(crate) place: Option<Place>,
    /// What is to be said about it.
    pub(crate) text: String,
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Place {
    Stream { stream: String, shard: String, sequence: String, sub: u64 },
    Item { table: String, event_id: String },
    Object { bucket: String, key: String, line: u64 },
    Message { message_id: String },
    Letter { table: String, letter_id: String },
}

/// The names that places need.
pub(super) struct Names<'a> {
    pub(super) speeding_table: &'a str,
    pub(super) letters_table: &'a str,
}

/// Everything that was found of one event.
pub(super) struct Traces {
    pub(super) event_id: String,
    pub(super) facts: Facts,
    pub(super) incoming: Look<Hit>,
    /// Whether the speeding table has it.
    pub(super) stored: Look<()>,
    pub(super) outgoing: Look<Hit>,
    pub(super) claim: Option<StoredClaim>,
    pub(super) archived: Look<Line>,
    /// Whether the warehouse knows a driver of the plate today.
    pub(super) known_now: Look<bool>,
    pub(super) letters: Vec<StoredLetter>,
}

impl Story {
    /// Tells it.
    pub(super) fn of(traces: &Traces, limit: SpeedMph, names: &Names<'_>, reveal: bool) -> Self {
        let facts = &traces.facts;
        let verdict = verdict(traces, limit);
        let plate = |plate: &String| if reveal { plate.clone() } else { masked_plate(plate) };
        let person = facts.driver.clone().filter(|_| reveal);
        Self {
            event_id: traces.event_id.clone(),
            plate: facts.plate.as_ref().map(plate),
            driver: person.map(|[first_name, last_name, myphone]| Person { first_name, last_name, myphone }),
            iottimestamp: facts.iottimestamp.clone(),
            city: facts.city.clone(),
            state: facts.state.clone(),
            speed_mph: facts.speed.map(SpeedMph::mph),
            limit_mph: limit.mph(),
            verdict,
            steps: steps(traces, verdict, limit, names),
        }
    }

    /// Whether something could not be looked at.
    pub(crate) fn has_gaps(&self) -> bool {
        self.steps.iter().any(|step| step.state == "unknown" && step.step != "verdict")
    }
}

fn verdict(traces: &Traces, limit: SpeedMph) -> &'static str {
    let rejected = traces.letters.iter().any(|letter| letter.stage == "enrich" || letter.stage == "errors");
    match traces.facts.speed {
        _ if traces.stored.found().is_some() || traces.outgoing.found().is_some() => "violation",
        _ if rejected => "rejected",
        Some(speed) if speed > limit => "violation",
        Some(_) => "under_limit",
        None => "unknown",
    }
}

fn steps(traces: &Traces, verdict: &'static str, limit: SpeedMph, names: &Names<'_>) -> Vec<Step> {
    let (facts, taken) = (&traces.facts, traces.facts.taken());
    let arrived = traces.incoming.found().and_then(|hit| hit.arrived);
    let published = traces.outgoing.found().and_then(|hit| hit.arrived);
    let mut steps = vec![
        match taken {
            Some(at) => Step::of("taken", "found").at(at, None).says("by the clock of the device"),
            None => Step::of("taken", "unknown").says("the record names no time"),
        },
        stream_step("in_stream", &traces.incoming, taken.map(|at| ("taken", at))),
    ];
    let speed = facts.speed.map_or_else(|| "no speed".to_owned(), |speed| format!("{speed} mph"));
    steps.push(match verdict {
        "violation" => Step::of("verdict", "found").says(format!("violation: {speed}, the limit is {limit}")),
        "under_limit" => Step::of("verdict", "found").says(format!("under the limit: {speed}, the limit is {limit}")),
        "rejected" => Step::of("verdict", "found").says("no valid reading: it became a dead letter"),
        _ => Step::of("verdict", "unknown").says("no record of it was found"),
    });
    if verdict == "violation" {
        steps.push(lookup_step(traces));
        let stored = Step::of("stored", traces.stored.label());
        steps.push(match &traces.stored {
            Look::Found(()) => stored
                .says("an item of the table keeps no time of its own")
                .place(Place::Item { table: names.speeding_table.to_owned(), event_id: traces.event_id.clone() }),
            look => stored.says(look.why()),
        });
        let before = arrived.map(|at| ("in_stream", at)).or(taken.map(|at| ("taken", at)));
        steps.push(stream_step("out_stream", &traces.outgoing, before));
        steps.push(text_step(traces, published));
        steps.push(archive_step(&traces.archived, before));
    } else if verdict == "under_limit" {
        for step in ["lookup", "stored", "out_stream", "text", "archive"] {
            steps.push(Step::of(step, "absent").says("a reading that is no violation ends at the filter"));
        }
    }
    steps.extend(traces.letters.iter().map(|letter| letter_step(letter, names)));
    steps
}

fn stream_step(name: &'static str, look: &Look<Hit>, before: Option<(&'static str, SystemTime)>) -> Step {
    let step = Step::of(name, look.label());
    let Some(hit) = look.found() else { return step.says(look.why()) };
    let step = match hit.arrived {
        Some(at) => step.at(at, before),
        None => step,
    };
    let strayed = if hit.strayed { "in another shard than its plate's" } else { "" };
    step.says(strayed).place(Place::Stream {
        stream: hit.stream.clone(),
        shard: hit.shard.as_str().to_owned(),
        sequence: hit.position.sequence.as_str().to_owned(),
        sub: hit.position.sub,
    })
}

/// Whether the cache answered is not kept for single events; whether a driver was known shows in what was published.
fn lookup_step(traces: &Traces) -> Step {
    let today = match &traces.known_now {
        Look::Found(true) => "the warehouse knows a driver today".to_owned(),
        Look::Found(false) => "the warehouse knows no driver today".to_owned(),
        look => format!("the warehouse was not asked: {}", look.why()),
    };
    let was_published = traces.outgoing.found().is_some() || traces.claim.is_some();
    match (&traces.outgoing, &traces.stored) {
        _ if was_published => Step::of("lookup", "found").says(format!("hit: its driver was known; {today}")),
        (Look::Absent(_), Look::Found(())) => {
            Step::of("lookup", "absent").says(format!("miss: it was stored and not published; {today}"))
        }
        (Look::Expired(_), _) => Step::of("lookup", "expired").says(format!("what was published is not kept that long; {today}")),
        _ => Step::of("lookup", "unknown").says(format!("no trace of its end was found; {today}")),
    }
}

fn text_step(traces: &Traces, published: Option<SystemTime>) -> Step {
    let Some(claim) = &traces.claim else {
        return match &traces.outgoing {
            Look::Found(_) => Step::of("text", "absent").says("nobody has claimed it; claims are kept for 30 days"),
            Look::Absent(_) => Step::of("text", "absent").says("nobody to text"),
            look => Step::of("text", look.label()).says("no claim on it; claims are kept for 30 days"),
        };
    };
    let parsed =
        |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(SystemTime::from);
    let before = published.map(|at| ("out_stream", at));
    let step = Step::of("text", "found");
    let step = match parsed(&claim.sent_at).or(parsed(&claim.claimed_at)) {
        Some(at) => step.at(at, before),
        None => step,
    };
    let claimed = claim.claimed_at.as_deref().map_or_else(String::new, |at| format!(", claimed {at}"));
    let step = step.says(format!("{}{claimed} by {}", claim.state, claim.owner.split('/').next().unwrap_or_default()));
    match &claim.message_id {
        Some(message_id) => step.place(Place::Message { message_id: message_id.clone() }),
        None => step,
    }
}

fn archive_step(look: &Look<Line>, before: Option<(&'static str, SystemTime)>) -> Step {
    let step = Step::of("archive", look.label());
    let Some(line) = look.found() else { return step.says(look.why()) };
    let step = match line.written {
        Some(at) => step.at(at, before),
        None => step,
    };
    step.says("Firehose collects lines before it writes them").place(Place::Object {
        bucket: line.bucket.clone(),
        key: line.key.clone(),
        line: line.number,
    })
}

fn letter_step(letter: &StoredLetter, names: &Names<'_>) -> Step {
    let step = Step::of("dead_letter", "found");
    let step = match letter.first_seen.parse::<jiff::Timestamp>() {
        Ok(at) => step.at(at.into(), None),
        Err(_) => step,
    };
    let StoredLetter { stage, reason, state, tries, source, .. } = letter;
    step.says(format!("{state}, {tries} tries at stage {stage}, from {source}: {reason}"))
        .place(Place::Letter { table: names.letters_table.to_owned(), letter_id: letter.id.clone() })
}

impl Step {
    fn of(step: &'static str, state: &'static str) -> Self {
        Self { step, state, at: None, delay_ms: None, after: None, place: None, text: String::new() }
    }

    fn at(mut self, at: SystemTime, before: Option<(&'static str, SystemTime)>) -> Self {
        self.at = jiff::Timestamp::try_from(at).ok().map(|at| format!("{at:.3}"));
        if let Some((after, before)) = before {
            let millis = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            self.delay_ms = Some(at.duration_since(before).map_or_else(|early| -millis(early.duration()), millis));
            self.after = Some(after);
        }
        self
    }

    fn says(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    fn place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}
