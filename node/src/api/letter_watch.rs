//! Which of the new dead letters somebody has redriven or discarded, and how many letters are open. The table is asked beside
//! whatever is going on, so that nobody waits for it; until it has answered, a letter counts as open and the number is unknown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use speedtrap_actors::adapters::LetterDesk;
use tokio::time::Instant;

use super::cost::Cost;
use crate::findings::FreshLetterFact;

/// Time between two looks at new letters.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Letters of one look.
const MOST_LOOKED_AT: usize = 50;
/// The whole table is counted at most so often, and never for more than a twentieth of the time.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const COUNT_SHARE: u32 = 20;

/// What is known of the letters.
#[derive(Default)]
pub(super) struct LetterWatch {
    known: Mutex<Known>,
    cost: Arc<Cost>,
}

#[derive(Default)]
struct Known {
    /// Letters that were settled when they were looked at.
    settled: BTreeMap<String, Instant>,
    next_look: Option<Instant>,
    open: Option<u64>,
    next_count: Option<Instant>,
}

impl LetterWatch {
    /// Nothing is known yet; what it takes to know more is counted there.
    pub(super) fn counted_by(cost: &Arc<Cost>) -> Arc<Self> {
        Arc::new(Self { cost: Arc::clone(cost), ..Self::default() })
    }

    /// Whether somebody has settled a letter since it was made.
    pub(super) fn is_settled(&self, letter: &FreshLetterFact) -> bool {
        let made = Instant::now().checked_sub(Duration::from_millis(letter.age_ms));
        self.lock().settled.get(&letter.id).is_some_and(|seen| made.is_none_or(|made| made <= *seen))
    }

    /// How many letters are open; `None` while nobody has counted them.
    pub(super) fn open(&self) -> Option<u64> {
        self.lock().open
    }

    /// Looks at the letters that are not known to be settled, if it is time.
    pub(super) fn look(self: &Arc<Self>, desk: Option<&Arc<LetterDesk>>, fresh: &[FreshLetterFact]) {
        let Some(desk) = desk.map(Arc::clone) else { return };
        let ids: Vec<String> =
            fresh.iter().filter(|it| !self.is_settled(it)).map(|it| it.id.clone()).take(MOST_LOOKED_AT).collect();
        let now = Instant::now();
        {
            let mut known = self.lock();
            if ids.is_empty() || known.next_look.is_some_and(|next| now < next) {
                return;
            }
            known.next_look = Some(now + LOOK_EVERY);
            known.settled.retain(|id, _| fresh.iter().any(|letter| letter.id == *id));
        }
        let watch = Arc::clone(self);
        let look = async move {
            for id in ids {
                let looked = Instant::now();
                // What cannot be read now is read at the next look.
                if let Ok(letter) = desk.get(&id).await
                    && letter.is_none_or(|letter| letter.state != "open")
                {
                    watch.lock().settled.insert(id, looked);
                }
            }
        };
        let cost = Arc::clone(&self.cost);
        tokio::spawn(async move { cost.of(look).await });
    }

    /// Counts the open letters, if it is time.
    pub(super) fn count(self: &Arc<Self>, desk: Option<&Arc<LetterDesk>>) {
        let Some(desk) = desk.map(Arc::clone) else { return };
        let begun = Instant::now();
        {
            let mut known = self.lock();
            if known.next_count.is_some_and(|next| begun < next) {
                return;
            }
            // Nobody else counts until this one has ended.
            known.next_count = Some(begun + Duration::from_secs(3_600));
        }
        let watch = Arc::clone(self);
        let count = async move {
            let listed = desk.list().await;
            let mut known = watch.lock();
            known.open = listed.ok().map(|(letters, _)| letters.iter().filter(|letter| letter.state == "open").count() as u64);
            known.next_count = Some(Instant::now() + COUNT_EVERY.max(begun.elapsed() * COUNT_SHARE));
        };
        let cost = Arc::clone(&self.cost);
        tokio::spawn(async move { cost.of(count).await });
    }

    /// The maps hold whole entries only, so a panic while they were locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
