//! `GET /api/v1/overview`: the key figures of the cluster and what is not as it should be; and the watch that finds that out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::cluster::{Api, Heard};
use super::cluster_pages::{ClusterStatusPage, NodePage};
use super::cost::Cost;
use super::lanes_page::LanesPage;
use super::letter_watch::LetterWatch;
use super::pages::StatusPage;
use super::shards::{join, silent};
use crate::findings::{Finding, FreshLetterFact, Past, Rates, Scene, SeenNode, SeenShard, SeenStatus, Tracker, suspicions};

/// While nobody asks, the watch looks so often: what has to be known of earlier moments is then known to whoever comes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// `GET /api/v1/overview`.
#[derive(Debug, Serialize)]
pub(crate) struct OverviewPage {
    pub(crate) schema: u32,
    /// Which run of the program `seq` belongs to.
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) at: String,
    /// The name of the application that the nodes share.
    pub(crate) cluster: String,
    pub(crate) served_by: String,
    pub(crate) nodes: Vec<NodePage>,
    pub(crate) kpis: Kpis,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<Finding>,
}

/// The key figures. What is not known is null, never 0.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kpis {
    /// Rates are those of the last 10 s.
    pub(crate) events_per_s: Option<f64>,
    pub(crate) violations_per_s: Option<f64>,
    pub(crate) texts_per_s: Option<f64>,
    /// Of the lane that is furthest behind.
    pub(crate) lag_max_ms: Option<u64>,
    pub(crate) dead_letters_open: Option<u64>,
    /// Restarts of actors since their nodes started.
    pub(crate) restarts: u64,
    pub(crate) actors: u64,
    pub(crate) nodes_up: u64,
    pub(crate) nodes_total: u64,
    /// Of all lookups since the nodes started.
    pub(crate) cache_hit_ratio: Option<f64>,
}

/// What was seen so far, and what is being told.
pub(super) struct Watch {
    inner: Mutex<Inner>,
    looks: AtomicU64,
    pub(super) letters: Arc<LetterWatch>,
}

#[derive(Default)]
struct Inner {
    past: Past,
    tracker: Tracker,
    looked_at: Option<Instant>,
    told: Vec<(&'static str, String)>,
}

/// What one look found.
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// Findings that make nothing unhealthy.
    pub(super) notes: Vec<Finding>,
    pub(super) kpis: Kpis,
}

impl Watch {
    pub(super) fn counted_by(cost: &Arc<Cost>) -> Self {
        Self { inner: Mutex::default(), looks: AtomicU64::new(0), letters: LetterWatch::counted_by(cost) }
    }

    /// A panic in a rule must not silence all others for good; a sample that it left out is missed by nobody.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// Looks from time to time while nobody asks, without end.
    pub(crate) async fn keep_watch(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let looked_at = self.watch.lock().looked_at;
            if looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY - Duration::from_secs(1)) {
                let _for_the_record = self.node.cost.of(self.cluster_status()).await;
            }
        }
    }

    /// The severity and the rule of each finding of the last look.
    pub(super) fn told(&self) -> Vec<(&'static str, String)> {
        self.watch.lock().told.clone()
    }

    /// Judges what all nodes say.
    pub(super) fn judge(&self, statuses: &[Heard<StatusPage>], lanes: &[Heard<LanesPage>]) -> Judged {
        let fresh: Vec<FreshLetterFact> =
            statuses.iter().filter_map(Heard::now).flat_map(|page| page.facts.letters.iter().cloned()).collect();
        self.watch.letters.look(self.letters.as_ref(), &fresh);
        let shards = join(lanes);
        let mut scene =
            Scene { now: Instant::now(), nodes: seen_nodes(statuses, lanes), shards: Vec::new(), letters: Vec::new() };
        scene.letters = fresh.iter().filter(|letter| !self.watch.letters.is_settled(letter)).collect();
        for shard in shards.iter().filter(|shard| shard.state != "ended") {
            scene.shards.push(SeenShard {
                role: &shard.role,
                shard: &shard.shard,
                owner: shard.worker.as_deref(),
                unowned: shard.unowned_ms.map(Duration::from_millis),
                runners: runners(lanes, &shard.role, &shard.shard),
            });
        }
        let told = {
            let mut inner = self.watch.lock();
            let inner = &mut *inner;
            inner.past.note(&scene, &caches(statuses));
            inner.looked_at = Some(scene.now);
            let suspicions = suspicions(&scene, &inner.past);
            let told = inner.tracker.update(scene.now, SystemTime::now(), suspicions);
            inner.told = told.iter().filter_map(|it| Some((it.severity.counted()?, it.rule.clone()))).collect();
            (told, inner.past.rates())
        };
        self.watch.looks.fetch_add(1, Relaxed);
        let (told, rates) = told;
        let (findings, notes) = told.into_iter().partition(|finding| finding.severity.counted().is_some());
        let kpis = Kpis { dead_letters_open: self.watch.letters.open(), ..Kpis::of(statuses, rates) };
        Judged { findings, notes, kpis }
    }

    async fn overview_page(&self) -> OverviewPage {
        self.watch.letters.count(self.letters.as_ref());
        let (status, nodes) = tokio::join!(self.cluster_status(), self.nodes_page());
        let ClusterStatusPage { served_by, at, findings, notes, kpis, .. } = status;
        let cluster = self.node.applications.first().map_or_else(|| self.node.name.clone(), |it| it.name.clone());
        let seq = self.watch.looks.load(Relaxed);
        OverviewPage {
            schema: 1,
            epoch: self.feed.epoch.clone(),
            seq,
            at,
            cluster,
            served_by,
            nodes: nodes.nodes,
            kpis,
            findings,
            notes,
        }
    }
}

/// The key figures and the findings.
pub(super) async fn overview(State(api): State<Arc<Api>>) -> Json<OverviewPage> {
    Json(api.overview_page().await)
}

fn seen_nodes<'a>(statuses: &'a [Heard<StatusPage>], lanes: &[Heard<LanesPage>]) -> Vec<SeenNode<'a>> {
    let missed: BTreeSet<String> = silent(statuses).into_iter().map(|silent| silent.worker).collect();
    let paused: BTreeSet<&str> = lanes
        .iter()
        .filter(|heard| heard.now().is_some_and(|page| page.paused))
        .map(|heard| heard.node.worker.as_str())
        .collect();
    let clock = now_ms();
    let of = |heard: &'a Heard<StatusPage>| SeenNode {
        name: &heard.node.name,
        worker: &heard.node.worker,
        presence: heard.node.presence.label(),
        silent: heard.silent.as_deref().filter(|_| missed.contains(&heard.node.worker)),
        status: heard.now().map(|page| seen_status(page, clock)),
        paused: paused.contains(heard.node.worker.as_str()),
    };
    statuses.iter().map(of).collect()
}

fn seen_status(page: &StatusPage, clock_ms: i64) -> SeenStatus<'_> {
    let ingest = page.ingest.as_ref().filter(|ingest| ingest.leads && !ingest.connected);
    SeenStatus {
        state: &page.state,
        uptime: Duration::from_secs(page.uptime_s),
        ingest_trouble: ingest.map(|ingest| ingest.trouble.as_deref().unwrap_or("it has not answered yet")),
        clock_off_ms: page.facts.at_ms.map(|at| i64::try_from(at).unwrap_or(i64::MAX) - clock_ms),
        facts: &page.facts,
    }
}

/// The nodes that answer and work on a shard.
fn runners<'a>(lanes: &'a [Heard<LanesPage>], role: &str, shard: &str) -> Vec<&'a str> {
    let works = |page: &LanesPage| {
        let lanes = page.applications.iter().filter(|it| it.role == role).flat_map(|it| &it.lanes);
        lanes.filter(|lane| lane.shard == shard).any(|lane| matches!(lane.state.as_str(), "running" | "backoff"))
    };
    lanes.iter().filter(|heard| heard.now().is_some_and(works)).map(|heard| heard.node.name.as_str()).collect()
}

fn caches(statuses: &[Heard<StatusPage>]) -> BTreeMap<String, (u64, u64, u64)> {
    let of = |heard: &Heard<StatusPage>| {
        let cache = heard.now()?.cache?;
        Some((heard.node.worker.clone(), (cache.hits, cache.misses, cache.entries)))
    };
    statuses.iter().filter_map(of).collect()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Kpis {
    fn of(statuses: &[Heard<StatusPage>], rates: Rates) -> Self {
        let pages = || statuses.iter().filter_map(Heard::now);
        let lanes = || pages().flat_map(|page| &page.lanes).filter(|lane| !matches!(lane.state.as_str(), "closed" | "ended"));
        let (hits, lookups) =
            pages().filter_map(|page| page.cache).fold((0, 0), |(hits, all), it| (hits + it.hits, all + it.hits + it.misses));
        Self {
            events_per_s: rates.events,
            violations_per_s: rates.violations,
            texts_per_s: rates.texts,
            lag_max_ms: lanes().filter_map(|lane| lane.millis_behind).max(),
            dead_letters_open: None,
            restarts: pages().map(|page| page.facts.restarts).sum(),
            actors: pages().map(|page| page.facts.actors).sum(),
            nodes_up: pages().count() as u64,
            nodes_total: statuses.iter().map(|heard| &heard.node.name).collect::<BTreeSet<_>>().len() as u64,
            cache_hit_ratio: (lookups > 0).then(|| hits as f64 / lookups as f64),
        }
    }
}
