//! Putting many dead letters back on their streams, or giving them up: the oldest first, at a pace, until somebody breaks it off.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use axum::http::StatusCode;
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use speedtrap_actors::adapters::{LetterDesk, Settled, StoredLetter};

use super::desk::{End, Record};
use super::plan::{Kind, Plan, Planned, Risk};
use super::{Options, Progress, Target};
use crate::api::cluster::Api;
use crate::api::letters::{LeftLetter, desk, unreachable, why_left};
use crate::api::problem::Problem;

/// Letters of one action: more of one kind are a fault to mend first, and would flood the streams.
const MOST: usize = 5_000;
/// Letters a second unless others are asked for, so that what comes in meanwhile is not held up.
const PER_SECOND: u32 = 10;
const MOST_PER_SECOND: u32 = 1_000;
/// Letters of one action that are named as left: more than anybody looks at one by one, and 200 actions are kept.
const MOST_LEFT_NAMED: usize = 1_000;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Redrive,
    Discard,
}

/// Open letters that have all of this in common.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LetterFilter {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) stage: Option<String>,
    /// Words in their reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
    /// Only `open`: of others nothing is left to be done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) state: Option<String>,
}

impl LetterFilter {
    fn matches(&self, letter: &StoredLetter) -> bool {
        letter.state == "open"
            && self.stage.as_ref().is_none_or(|stage| *stage == letter.stage)
            && self.reason.as_ref().is_none_or(|words| letter.reason.contains(words))
    }

    fn words(&self) -> String {
        let stage = self.stage.as_ref().map_or_else(String::new, |stage| format!(" of stage {stage}"));
        let reason = self.reason.as_ref().map_or_else(String::new, |words| format!(" with `{words}` in their reason"));
        format!("open letters{stage}{reason}")
    }
}

pub(super) async fn plan(api: &Api, verb: Verb, target: Target, options: &Options) -> Result<Planned, Problem> {
    let bad = |detail: String| Err(Problem::new(StatusCode::BAD_REQUEST, "bad_target", detail));
    let per_second = options.per_second.unwrap_or(PER_SECOND);
    if !(1..=MOST_PER_SECOND).contains(&per_second) {
        return bad(format!("`per_second` is 1 to {MOST_PER_SECOND}, not {per_second}"));
    }
    let Found { mut open, ended, target, mut effects } = match target {
        Target::Filter(filter) if filter.state.as_deref().is_some_and(|state| state != "open") => {
            return bad("`state` of a filter is open: of other letters nothing is left to be done".to_owned());
        }
        Target::Filter(filter) => {
            let (letters, whole) = desk(api)?.list().await.map_err(|failure| unreachable(&failure))?;
            let open: Vec<_> = letters.into_iter().filter(|letter| filter.matches(letter)).collect();
            let more = if whole { Vec::new() } else { vec!["the table holds more letters than were read".to_owned()] };
            Found { open, ended: Vec::new(), target: filter.words(), effects: more }
        }
        Target::Ids(ids) if !(1..=MOST).contains(&ids.len()) => {
            return bad(format!("1 to {MOST} letters may be named, not {}", ids.len()));
        }
        Target::Ids(ids) => named(desk(api)?, &ids, options.each).await?,
        Target::Name(id) => named(desk(api)?, &[id], options.each).await?,
    };
    open.sort_by(|one, other| (&one.first_seen, &one.id).cmp(&(&other.first_seen, &other.id)));
    let found = open.len();
    open.truncate(MOST);
    if open.is_empty() && ended.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_open_letter", format!("there are none: {target}")));
    }
    effects.splice(0..0, words(verb, &open, found, per_second));
    let risk = match verb {
        Verb::Discard => Risk::High,
        Verb::Redrive if open.len() > 100 => Risk::Medium,
        Verb::Redrive => Risk::Low,
    };
    let confirm_text = open.len().to_string();
    // One that was named needs no count beside it.
    let target = if found + ended.len() == 1 { target } else { format!("{target} ({})", open.len()) };
    let ids = open.into_iter().map(|letter| letter.id).chain(ended).collect();
    let plan = Plan::Letters { verb, ids, per_second };
    Ok(Planned { kind: Kind::Letters(verb), target, effects, risk, confirm_text, plan })
}

/// The letters that were meant.
struct Found {
    open: Vec<StoredLetter>,
    /// Those that are not open or do not exist and are gone through all the same.
    ended: Vec<String>,
    target: String,
    effects: Vec<String>,
}

/// The letters of these ids. Without `each`, one of them at least must be open.
async fn named(desk: &LetterDesk, ids: &[String], each: bool) -> Result<Found, Problem> {
    let wanted: BTreeSet<&String> = ids.iter().collect();
    let mut known = BTreeMap::new();
    // A few are asked for one by one; for many the table is read once.
    if wanted.len() > 20 {
        let (letters, _) = desk.list().await.map_err(|failure| unreachable(&failure))?;
        known.extend(letters.into_iter().filter(|letter| wanted.contains(&letter.id)).map(|letter| (letter.id.clone(), letter)));
    }
    for id in &wanted {
        if !known.contains_key(*id)
            && let Some(letter) = desk.get(id).await.map_err(|failure| unreachable(&failure))?
        {
            known.insert((*id).clone(), letter);
        }
    }
    if known.is_empty() && !each {
        let detail = format!("there is no letter `{}`", ids[0]);
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_letter", detail));
    }
    let unknown: Vec<String> = wanted.iter().filter(|id| !known.contains_key(**id)).map(|id| (*id).clone()).collect();
    let (open, ended): (Vec<_>, Vec<_>) = known.into_values().partition(|letter| letter.state == "open");
    let mut effects = Vec::new();
    if !ended.is_empty() {
        effects.push(format!("{} of those named are redriven or discarded already and stay as they are", ended.len()));
    }
    if !unknown.is_empty() {
        effects.push(format!("{} of those named do not exist", unknown.len()));
    }
    if open.is_empty() && !each {
        return Err(Problem::new(StatusCode::CONFLICT, "not_open", effects.join("; ")));
    }
    let target = match ids {
        [id] => id.clone(),
        ids => format!("{} letters, {} to {}", ids.len(), ids[0], ids[ids.len() - 1]),
    };
    let ended = ended.into_iter().map(|letter| letter.id).chain(unknown).filter(|_| each).collect();
    Ok(Found { open, ended, target, effects })
}

fn words(verb: Verb, open: &[StoredLetter], found: usize, per_second: u32) -> Vec<String> {
    let n = open.len();
    let mut words = vec![match verb {
        Verb::Redrive => {
            format!("{n} records go back to the streams they came from, the oldest first, and each letter is marked as redriven")
        }
        Verb::Discard => format!("{n} letters are marked as given up; their rows and payloads stay"),
    }];
    if found > n {
        words.push(format!("{found} letters match; these are the oldest {n}, the most of one action"));
    }
    if verb == Verb::Redrive {
        words.push("each is processed as if it came for the first time; effects that stand already stay one, and what fails again becomes a letter again, with its history".to_owned());
    }
    let seconds = n.div_ceil(per_second as usize);
    words.push(format!("at {per_second} a second it takes about {seconds} s; it may be broken off, and what is done stays done"));
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for letter in open {
        *stages.entry(&letter.stage).or_default() += 1;
    }
    let stages: Vec<_> = stages.into_iter().map(|(stage, n)| format!("{stage} {n}")).collect();
    words.push(format!("by stage: {}", stages.join(", ")));
    words
}

/// Goes through the letters one after the other.
pub(super) async fn settle(api: &Api, verb: Verb, ids: Vec<String>, per_second: u32, record: &Record) -> End {
    let desk = match desk(api) {
        Ok(desk) => desk,
        Err(problem) => return End::failed("refused", problem.detail()),
    };
    let total = ids.len() as u64;
    // No more than one at a time in a burst, so that a pace of ten a second is ten a second from the first moment.
    let pace = RateLimiter::direct(
        Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN)).allow_burst(NonZeroU32::MIN),
    );
    let (mut done, mut left) = (0_u64, Left::default());
    for (n, id) in ids.iter().enumerate() {
        let seen = n as u64;
        record.progress(Progress { done, left: total - seen, total });
        tokio::select! {
            biased;
            () = record.cancelled() => {}
            () = pace.until_ready() => {}
        }
        let why = match record.cancelled_by() {
            Some(by) => Some(format!("broken off by {by}")),
            None if api.node.is_ending() => Some("broken off because this node ends".to_owned()),
            None => None,
        };
        if let Some(why) = why {
            let said = format!("{why}: {}, {} not come to", said(verb, done, &left.by_reason), total - seen);
            ids[n..].iter().for_each(|id| left.add(id, "it was broken off before it came to this one".to_owned()));
            record.leaves(left.named);
            return End::Cancelled(said);
        }
        let settled = match verb {
            Verb::Redrive => desk.redrive(id).await,
            Verb::Discard => desk.discard(id).await,
        };
        match settled {
            Ok(Settled::Done) => done += 1,
            other => left.add(id, why_left(other)),
        }
    }
    record.progress(Progress { done, left: 0, total });
    record.leaves(left.named);
    let said = said(verb, done, &left.by_reason);
    if left.by_reason.is_empty() { End::Done(said) } else { End::failed("left_some", said) }
}

/// The letters that stay as they are.
#[derive(Default)]
struct Left {
    by_reason: BTreeMap<String, u64>,
    named: Vec<LeftLetter>,
}

impl Left {
    fn add(&mut self, id: &str, why: String) {
        if self.named.len() < MOST_LEFT_NAMED {
            self.named.push(LeftLetter { id: id.to_owned(), why: why.clone() });
        }
        *self.by_reason.entry(why).or_default() += 1;
    }
}

/// Such as `12 redriven, 3 left: it is redriven or discarded already (3)`.
fn said(verb: Verb, done: u64, left: &BTreeMap<String, u64>) -> String {
    let past = match verb {
        Verb::Redrive => "redriven",
        Verb::Discard => "discarded",
    };
    let n: u64 = left.values().sum();
    let reasons: Vec<_> = left.iter().take(5).map(|(why, n)| format!("{why} ({n})")).collect();
    if n == 0 { format!("{done} {past}") } else { format!("{done} {past}, {n} left: {}", reasons.join("; ")) }
}
