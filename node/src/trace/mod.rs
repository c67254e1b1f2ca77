//! What became of one event, read from what the tables, the streams and the archive still hold of it.
//!
//! Nothing here goes through a node: the operator's own access to AWS decides what can be seen, and a node that is down hides nothing.
//! What cannot be looked at is told as unknown, and what is not kept so long as expired; neither is ever called absent.

mod archive_search;
mod facts;
mod look;
mod seeds;
mod story;
#[cfg(test)]
mod story_tests;
mod stream_search;

use std::time::{Duration, SystemTime};

use speedtrap_actors::adapters::{StoredClaim, StoredLetter, StreamReach};
use speedtrap_actors::domain::{PlateKey, Position, SequenceNumber, ShardId, SpeedMph};
use speedtrap_actors::ports::{FailureKind, RemoteFailure, ShardSource as _};

use crate::config::NodeConfig;
use crate::exit::{Exit, Stop};
use crate::wiring::{self, TraceTools};
use facts::Facts;
pub(crate) use facts::taken_at;
use look::Look;
use seeds::Seed;
use story::{Names, Traces};
pub(crate) use story::{Place, Story, TracePage};
use stream_search::{Hit, Span, StreamSearch};

/// How much earlier than the device says a record may have arrived, by clocks that differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// A record is on the out-stream within seconds after its reading came, so it is looked for close to the one before the other.
const CLOSE: Duration = Duration::from_secs(120);
/// Longest wait for the warehouse.
const WAREHOUSE_WITHIN: Duration = Duration::from_secs(6);

/// What an operator wants to know.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// An event id or a plate.
    pub(crate) asked: String,
    /// The plate of the event that was asked for.
    pub(crate) plate: Option<String>,
    /// The event of the plate that was asked for.
    pub(crate) event: Option<String>,
    /// When it was taken.
    pub(crate) at: Option<SystemTime>,
    /// How long after it was taken it may have arrived.
    pub(crate) within: Duration,
    /// Events of a plate, at most.
    pub(crate) most_events: usize,
    /// Reads of each stream for one event, at most.
    pub(crate) most_reads: u32,
    /// Whether persons are shown.
    pub(crate) reveal: bool,
}

/// Answers it.
///
/// # Errors
/// When nothing is found, or the tables cannot be read.
pub(crate) async fn trace(config: &NodeConfig, question: &Question, progress: &dyn Fn(&str)) -> Result<TracePage, Stop> {
    let tools = wiring::trace_tools(config).await?;
    let mut tracer = Tracer {
        config,
        question,
        tools: &tools,
        incoming: StreamSearch::new(&tools.in_stream, question.most_reads, progress),
        outgoing: StreamSearch::new(&tools.out_stream, question.most_reads, progress),
        letters: Vec::new(),
        notes: Vec::new(),
        progress,
    };
    tracer.read_letters().await;
    let (seeds, more) = tracer.seeds().await?;
    let limit = SpeedMph::new(config.rule.limit_mph).ok_or_else(|| Stop::new(Exit::BadConfig, "rule.limit_mph is no speed"))?;
    let names = Names { speeding_table: &config.dynamodb.speeding_table, letters_table: &config.dynamodb.dead_letters_table };
    let mut events = Vec::with_capacity(seeds.len());
    for seed in seeds {
        events.push(Story::of(&tracer.traces(seed).await?, limit, &names, question.reveal));
    }
    let stream_reads = tracer.incoming.effort.reads + tracer.outgoing.effort.reads;
    Ok(TracePage { schema: 1, revealed: question.reveal, events, more, stream_reads, notes: tracer.notes })
}

struct Tracer<'a> {
    config: &'a NodeConfig,
    question: &'a Question,
    tools: &'a TraceTools,
    incoming: StreamSearch<'a>,
    outgoing: StreamSearch<'a>,
    letters: Vec<(StoredLetter, Facts)>,
    notes: Vec<String>,
    progress: &'a dyn Fn(&str),
}

impl Tracer<'_> {
    /// Finds everything of one event. What is known of it narrows down where the rest is looked for.
    async fn traces(&mut self, seed: Seed) -> Result<Traces, Stop> {
        let id = seed.event_id;
        for search in [&mut self.incoming, &mut self.outgoing] {
            search.most_reads = search.effort.reads + self.question.most_reads;
        }
        let claim = match seed.claim {
            Some(claim) => Some(claim),
            None => self.tools.desk.claim(&id).await.map_err(|failure| self.stop(&failure))?,
        };
        let letters: Vec<&(StoredLetter, Facts)> =
            self.letters.iter().filter(|(_, facts)| facts.event_id.as_deref() == Some(&*id)).collect();
        let of_letters = letters.first().map(|(_, facts)| facts.clone());
        let places: Vec<_> = letters.iter().filter_map(|(letter, _)| place_of(&letter.source)).collect();
        let letters: Vec<StoredLetter> = letters.into_iter().map(|(letter, _)| letter.clone()).collect();

        let mut incoming = seed.hit;
        if incoming.is_none() {
            incoming = known_place(&mut self.incoming, &places, self.tools.in_stream.stream(), &id).await;
        }
        let mut known: Vec<_> = claim.as_ref().and_then(|claim| claimed_place(&claim.owner)).into_iter().collect();
        let out_stream = self.tools.out_stream.stream();
        known.extend(places.iter().filter(|(stream, ..)| stream == out_stream).map(|(_, shard, at)| (shard.clone(), at.clone())));
        let known: Vec<_> = known.into_iter().map(|(shard, at)| (out_stream.to_owned(), shard, at)).collect();
        let mut outgoing = known_place(&mut self.outgoing, &known, out_stream, &id).await;

        let read = |hit: &Option<Hit>| hit.as_ref().and_then(|hit| Facts::of(&hit.data));
        let facts = read(&outgoing).or(seed.facts).or_else(|| read(&incoming)).or(of_letters);
        let facts = match facts {
            Some(facts) => facts,
            // A claim outlives the record that it was made for, and does not name the plate.
            None => self.scan(&id).await?.as_ref().map(Facts::from).unwrap_or_default(),
        };
        let stored = match &facts.plate {
            Some(plate) => self.stored(plate, &id).await?,
            None => Look::Unknown("its plate is not known".to_owned()),
        };

        let taken = facts.taken().or(self.question.at);
        let upper = outgoing.as_ref().and_then(|hit| hit.arrived).or_else(|| claimed_at(claim.as_ref()));
        let incoming = match incoming.take() {
            Some(hit) => Look::Found(hit),
            None => {
                let spans = spans(taken, upper, self.question.within);
                find(&mut self.incoming, &self.tools.reach[0], facts.plate.as_deref(), &spans, &id).await
            }
        };
        let outgoing = match outgoing.take() {
            Some(hit) => Look::Found(hit),
            None if stored.found().is_none() => Look::Absent("only stored violations are published".to_owned()),
            None => {
                let came = incoming.found().and_then(|hit| hit.arrived);
                let spans = match came {
                    Some(came) => vec![Span { from: came, to: came + self.question.within }],
                    None => spans(taken, claimed_at(claim.as_ref()), self.question.within),
                };
                find(&mut self.outgoing, &self.tools.reach[1], facts.plate.as_deref(), &spans, &id).await
            }
        };
        let seen = [&incoming, &outgoing].into_iter().find_map(|look| look.found()?.arrived).or(taken);
        let archived = match (&stored, &self.tools.bucket, seen) {
            (Look::Found(()), Some(bucket), Some(at)) => {
                archive_search::find(&self.tools.desk, bucket, &id, at, self.progress).await
            }
            (Look::Found(()), None, _) => Look::Unknown("the archive's bucket is not known; archive.bucket names it".to_owned()),
            (Look::Found(()), ..) => Look::Unknown("when it was taken is not known; --at tells it".to_owned()),
            _ => Look::Absent("only stored violations are archived".to_owned()),
        };
        let driver = outgoing.found().and_then(|hit| Facts::of(&hit.data)?.driver);
        let facts = Facts { driver, ..facts };
        let known_now = if stored.found().is_some() { self.known_now(facts.plate.as_deref()).await } else { not_needed() };
        Ok(Traces { event_id: id, facts, incoming, stored, outgoing, claim, archived, known_now, letters })
    }

    async fn stored(&self, plate: &str, id: &str) -> Result<Look<()>, Stop> {
        let found = self.tools.desk.violation(plate, id).await.map_err(|failure| self.stop(&failure))?;
        Ok(match found {
            Some(_) => Look::Found(()),
            None => Look::Absent("the table has no such item".to_owned()),
        })
    }

    async fn known_now(&self, plate: Option<&str>) -> Look<bool> {
        let Some(plate) = plate.map(PlateKey::of) else { return not_needed() };
        let drivers = match &self.tools.drivers {
            Ok(drivers) => drivers,
            Err(why) => return Look::Unknown(why.clone()),
        };
        match tokio::time::timeout(WAREHOUSE_WITHIN, drivers.drivers(std::slice::from_ref(&plate))).await {
            Ok(Ok(found)) => Look::Found(found.contains_key(&plate)),
            Ok(Err(failure)) => failure.into(),
            Err(_) => Look::Unknown(format!("no answer within {} s", WAREHOUSE_WITHIN.as_secs())),
        }
    }

    async fn read_letters(&mut self) {
        (self.progress)("reading the dead letters");
        match self.tools.letters.list().await {
            Ok((letters, whole)) => {
                if !whole {
                    self.notes.push("there are more dead letters than were read; one of them may be about it".to_owned());
                }
                let facts = |letter: StoredLetter| Some((Facts::of(&letter.payload)?, letter));
                self.letters = letters.into_iter().filter_map(facts).map(|(facts, letter)| (letter, facts)).collect();
            }
            Err(failure) => self.notes.push(format!("dead letters are not shown: {failure}")),
        }
    }

    /// A table that cannot be read ends the trace: without it nothing can be told.
    fn stop(&self, failure: &RemoteFailure) -> Stop {
        let exit = if failure.kind == FailureKind::Refused { Exit::Refused } else { Exit::Unreachable };
        Stop::new(exit, format!("the tables cannot be read ({})", self.tools.place))
            .why(failure)
            .next("check AWS_ENDPOINT_URL, AWS_REGION, the credentials and what they may do, and the names in --config")
    }
}

fn not_needed() -> Look<bool> {
    Look::Unknown("there is nothing to ask for".to_owned())
}

/// Reads the records at places that are known, until one is of the event.
async fn known_place(
    search: &mut StreamSearch<'_>,
    places: &[(String, ShardId, Position)],
    stream: &str,
    id: &str,
) -> Option<Hit> {
    for (_, shard, position) in places.iter().filter(|(of, ..)| of == stream) {
        let look = search.at(shard, position).await;
        if let Look::Found(hit) = look
            && Facts::of(&hit.data).is_some_and(|facts| facts.event_id.as_deref() == Some(id))
        {
            return Some(hit);
        }
    }
    None
}

/// Looks for an event's first record on a stream.
async fn find(
    search: &mut StreamSearch<'_>,
    reach: &Result<StreamReach, RemoteFailure>,
    plate: Option<&str>,
    spans: &[Span],
    id: &str,
) -> Look<Hit> {
    let keeps = match reach {
        Ok(reach) => reach.keeps,
        Err(failure) => return Look::Unknown(failure.to_string()),
    };
    let kept = SystemTime::now().checked_sub(keeps).unwrap_or(SystemTime::UNIX_EPOCH);
    let hours = keeps.as_secs() / 3_600;
    if spans.is_empty() {
        return Look::Unknown("when it was taken is not known; --at tells it".to_owned());
    }
    if spans.iter().all(|span| span.to < kept) {
        return Look::Expired(format!("records stay on the stream for {hours} h"));
    }
    let before = search.effort.records;
    for span in spans.iter().filter(|span| span.to >= kept) {
        let is_it = |data: &[u8]| Facts::of(data).is_some_and(|facts| facts.event_id.as_deref() == Some(id));
        match search.find(plate, *span, false, |record| is_it(&record.data)).await {
            Ok(mut hits) => {
                if let Some(hit) = hits.pop() {
                    return Look::Found(hit);
                }
            }
            Err(error) => return error.into(),
        }
    }
    let records = search.effort.records - before;
    if std::mem::take(&mut search.effort.cut) {
        return Look::Unknown(format!("not among the {records} records that were read; --reads allows more of them"));
    }
    if spans.iter().any(|span| span.from < kept) {
        return Look::Expired(format!("not among {records} records; those of more than {hours} h ago are gone"));
    }
    Look::Absent(format!("not among the {records} records that arrived around its time; --within widens that"))
}

/// When a record may have arrived that was taken at one time and whose effect was seen at another.
fn spans(taken: Option<SystemTime>, seen: Option<SystemTime>, within: Duration) -> Vec<Span> {
    let earlier = |at: SystemTime, by: Duration| at.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH);
    let after = taken.map(|taken| Span { from: earlier(taken, CLOCKS_DIFFER), to: taken + within });
    let before = seen.map(|seen| Span { from: earlier(seen, CLOSE), to: seen + CLOCKS_DIFFER });
    match (before, after) {
        // A device that was without a network sends late, so the effect tells more than the device's clock.
        (Some(before), Some(after)) if before.from <= after.to && after.from <= before.to => {
            vec![Span { from: before.from.min(after.from), to: before.to }]
        }
        (before, after) => before.into_iter().chain(after).collect(),
    }
}

fn claimed_at(claim: Option<&StoredClaim>) -> Option<SystemTime> {
    let time: jiff::Timestamp = claim?.claimed_at.as_ref()?.parse().ok()?;
    Some(time.into())
}

/// The place on the out-stream in `<node>#<boot>/<shard>#<generation>@<sequence>[.<sub>]`.
fn claimed_place(owner: &str) -> Option<(ShardId, Position)> {
    let (_, lane) = owner.split_once('/')?;
    let (lane, place) = lane.rsplit_once('@')?;
    let (shard, _) = lane.rsplit_once('#')?;
    let (sequence, sub) = place.split_once('.').unwrap_or((place, "0"));
    Some((ShardId::new(shard), Position { sequence: SequenceNumber::parse(sequence).ok()?, sub: sub.parse().ok()? }))
}

/// The place in a letter's `stream/shard/sequence/sub`.
fn place_of(source: &str) -> Option<(String, ShardId, Position)> {
    let mut parts = source.splitn(4, '/');
    let (stream, shard) = (parts.next()?, parts.next()?);
    let (sequence, sub) = (SequenceNumber::parse(parts.next()?).ok()?, parts.next()?.parse().ok()?);
    Some((stream.to_owned(), ShardId::new(shard), Position { sequence, sub }))
}
