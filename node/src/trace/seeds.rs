//! Which events an operator means by an event id or a plate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use speedtrap_actors::adapters::StoredClaim;
use speedtrap_actors::domain::{EventId, PlateKey, SpeedEvent};
use tokio::time::{Instant, sleep_until};

use super::facts::Facts;
use super::stream_search::{Hit, Span};
use super::{CLOCKS_DIFFER, Tracer};
use crate::exit::{Exit, Stop};

/// Pages of the speeding table that are looked through for an id, one a second: each may take 128 read units.
const MOST_SCANNED: u32 = 300;
const SCAN_GAP: Duration = Duration::from_secs(1);

/// An event that was found somewhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Seed {
    pub(super) event_id: String,
    pub(super) facts: Option<Facts>,
    pub(super) hit: Option<Hit>,
    pub(super) claim: Option<StoredClaim>,
}

impl Tracer<'_> {
    /// The events that are meant, the latest first, and how many more there are.
    pub(super) async fn seeds(&mut self) -> Result<(Vec<Seed>, usize), Stop> {
        let asked = self.question.asked.clone();
        let (id, plate) = match (&self.question.event, &self.question.plate) {
            (Some(event), _) => (event.clone(), Some(asked.clone())),
            (None, plate) => (asked.clone(), plate.clone()),
        };
        let mut seed = self.by_id(&id, plate.as_deref()).await?;
        if let Some(seed) = seed.take() {
            return Ok((vec![seed], 0));
        }
        if plate.is_none() {
            let seeds = self.by_plate(&asked).await?;
            if !seeds.is_empty() {
                return Ok(self.latest(seeds));
            }
        }
        if self.question.at.is_some() {
            let hits = self.around(plate.as_deref(), |facts| facts.event_id.as_deref() == Some(&*id)).await?;
            if let Some(hit) = hits.into_iter().next() {
                return Ok((vec![Seed { event_id: id, facts: Facts::of(&hit.data), hit: Some(hit), ..Seed::default() }], 0));
            }
        }
        if plate.is_none()
            && EventId::check(&id).is_ok()
            && let Some(event) = self.scan(&id).await?
        {
            return Ok((vec![Seed { event_id: id, facts: Some(Facts::from(&event)), ..Seed::default() }], 0));
        }
        Err(self.nothing())
    }

    /// The event of this id, if a table can be asked for it.
    async fn by_id(&mut self, id: &str, plate: Option<&str>) -> Result<Option<Seed>, Stop> {
        if EventId::check(id).is_err() {
            return Ok(None);
        }
        for plate in plate.map(spellings).unwrap_or_default() {
            let found = self.tools.desk.violation(&plate, id).await.map_err(|failure| self.stop(&failure))?;
            if let Some(event) = found {
                let facts = Some(Facts::from(&event));
                return Ok(Some(Seed { event_id: id.to_owned(), facts, ..Seed::default() }));
            }
        }
        let claim = self.tools.desk.claim(id).await.map_err(|failure| self.stop(&failure))?;
        let has_letter = self.letters.iter().any(|(_, facts)| facts.event_id.as_deref() == Some(id));
        Ok((claim.is_some() || has_letter).then(|| Seed { event_id: id.to_owned(), claim, ..Seed::default() }))
    }

    /// The events of a plate: violations, dead letters, and with a time the readings around it.
    async fn by_plate(&mut self, plate: &str) -> Result<Vec<Seed>, Stop> {
        let mut seeds = BTreeMap::new();
        for spelling in spellings(plate) {
            let (events, whole) = self.tools.desk.violations_of(&spelling).await.map_err(|failure| self.stop(&failure))?;
            if !whole {
                self.notes.push("the plate has more violations than were read".to_owned());
            }
            for event in events {
                let seed = Seed { event_id: event.event_id().to_owned(), facts: Some(Facts::from(&event)), ..Seed::default() };
                seeds.insert(seed.event_id.clone(), seed);
            }
        }
        let is_of = |facts: &Facts| facts.plate.as_deref().is_some_and(|of| PlateKey::of(of) == PlateKey::of(plate));
        for (_, facts) in self.letters.iter().filter(|(_, facts)| is_of(facts)) {
            let Some(id) = facts.event_id.clone() else { continue };
            let seed = || Seed { event_id: id.clone(), facts: Some(facts.clone()), ..Seed::default() };
            seeds.entry(id.clone()).or_insert_with(seed);
        }
        if self.question.at.is_some() {
            for hit in self.around(Some(plate), is_of).await? {
                let Some(facts) = Facts::of(&hit.data) else { continue };
                let Some(id) = facts.event_id.clone() else { continue };
                let seed =
                    seeds.entry(id.clone()).or_insert_with(|| Seed { event_id: id, facts: Some(facts), ..Seed::default() });
                seed.hit.get_or_insert(hit);
            }
        }
        Ok(seeds.into_values().collect())
    }

    fn latest(&self, mut seeds: Vec<Seed>) -> (Vec<Seed>, usize) {
        let taken = |seed: &Seed| seed.facts.as_ref().and_then(Facts::taken);
        seeds.sort_by_key(|seed| Reverse(taken(seed)));
        let more = seeds.len().saturating_sub(self.question.most_events);
        seeds.truncate(self.question.most_events);
        (seeds, more)
    }

    /// Records of the in-stream that arrived around the time that was given.
    async fn around(&mut self, plate: Option<&str>, wanted: impl Fn(&Facts) -> bool) -> Result<Vec<Hit>, Stop> {
        let Some(at) = self.question.at else { return Ok(Vec::new()) };
        let span = Span { from: at.checked_sub(CLOCKS_DIFFER).unwrap_or(at), to: at + self.question.within };
        let found =
            self.incoming.find(plate, span, true, |record| Facts::of(&record.data).is_some_and(|facts| wanted(&facts))).await;
        if std::mem::take(&mut self.incoming.effort.cut) {
            self.notes
                .push("not all records around that time were read; --reads allows more, --within looks at fewer".to_owned());
        }
        found.map_err(|error| {
            Stop::new(Exit::Unreachable, format!("the in-stream cannot be read ({})", self.tools.place)).why(error)
        })
    }

    pub(super) async fn scan(&mut self, id: &str) -> Result<Option<SpeedEvent>, Stop> {
        let (mut from, mut began) = (None, Instant::now());
        for page in 1..=MOST_SCANNED {
            (self.progress)(&format!("{}: page {page}; --plate would spare that", self.config.dynamodb.speeding_table));
            let (found, next) = self.tools.desk.scan(id, from).await.map_err(|failure| self.stop(&failure))?;
            if found.is_some() || next.is_none() {
                return Ok(found);
            }
            from = next;
            began += SCAN_GAP;
            sleep_until(began).await;
        }
        self.notes.push(format!("only {MOST_SCANNED} pages of the table were looked through"));
        Ok(None)
    }

    fn nothing(&self) -> Stop {
        let mut why = "no item, no claim and no dead letter names it".to_owned();
        if self.question.at.is_some() {
            why.push_str(", and no record on the in-stream that arrived around that time");
        }
        for note in &self.notes {
            why.push_str("; ");
            why.push_str(note);
        }
        let hours = self.tools.reach[0].as_ref().map_or(24, |reach| reach.keeps.as_secs() / 3_600);
        Stop::new(Exit::NotFound, "nothing is known of that event or plate").why(why).next(format!(
            "a reading that is no violation leaves only its record on the in-stream, for {hours} h: find it with --at TIME, faster with --plate PLATE --at TIME"
        ))
    }
}

/// A plate as it may have been received.
fn spellings(plate: &str) -> BTreeSet<String> {
    [plate.to_owned(), plate.trim().to_owned(), plate.trim().to_uppercase(), plate.trim().to_lowercase()].into()
}
