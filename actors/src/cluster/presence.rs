//! Who is there (pure): from the rows of the node table, when they were seen to move, and the links.
//!
//! Rows carry no time, and only one's own monotonic clock is asked: how long a heartbeat stood still is the time from the end of
//! the first scan that showed it to the begin of the last one that did. A table that cannot be read proves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::wire_message::About;
use super::{ClusterNode, ClusterView, Presence};
use crate::ports::NodeRow;

/// A node that has no row to watch is forgotten so long after its link was lost.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Rows of nodes that ended without removing them are kept for a day, for whoever wonders where a node has gone.
const KEPT_WHEN_DEAD: Duration = Duration::from_secs(86_400);

/// What was seen of the rows.
#[derive(Debug)]
pub(super) struct NodeSightings {
    /// How long a heartbeat must stand still before its node counts as dead.
    still_for: Duration,
    rows: BTreeMap<String, Sighting>,
    /// Rows that were taken away, as they were last; from the first scan without them to the last one.
    gone: BTreeMap<String, Sighting>,
    /// When the last scan that succeeded began.
    scanned: Option<Instant>,
}

#[derive(Debug)]
struct Sighting {
    row: NodeRow,
    /// The end of the first scan that showed this heartbeat, or no row.
    since: Instant,
    /// The begin of the last one.
    until: Instant,
    /// Whether it was ever seen to move: a row that was always there may be a dead node's.
    moved: bool,
}

/// A link as it is or was.
#[derive(Debug, Clone)]
pub(super) struct LinkSeen {
    /// What the node said of itself last.
    pub(super) about: About,
    /// When the link was lost, if it is.
    pub(super) lost: Option<Instant>,
    pub(super) round_trip: Option<Duration>,
    pub(super) misses: u32,
}

impl NodeSightings {
    pub(super) fn new(still_for: Duration) -> Self {
        Self { still_for, rows: BTreeMap::new(), gone: BTreeMap::new(), scanned: None }
    }

    /// Notes what a scan showed that lasted from `begun` to `ended`.
    pub(super) fn note(&mut self, rows: Vec<NodeRow>, begun: Instant, ended: Instant) {
        self.scanned = Some(begun);
        let is_there = |name: &str| rows.iter().any(|row| row.name == name);
        for seen in self.gone.values_mut() {
            seen.until = begun.max(seen.until);
        }
        self.gone.retain(|name, seen| !is_there(name) && seen.until - seen.since < KEPT_WHEN_DEAD);
        let taken_away = self.rows.extract_if(.., |name, _| !is_there(name));
        self.gone.extend(taken_away.map(|(name, seen)| (name, Sighting { since: ended, until: ended, ..seen })));
        for row in rows {
            match self.rows.get_mut(&row.name) {
                Some(seen) if seen.row.boot == row.boot && seen.row.heartbeat == row.heartbeat => {
                    seen.row = row;
                    seen.until = begun.max(seen.until);
                }
                seen => {
                    let moved = seen.is_some();
                    self.rows.insert(row.name.clone(), Sighting { row, since: ended, until: ended, moved });
                }
            }
        }
    }

    /// The view of all of it. `me` is this node; links are by worker.
    pub(super) fn view(&self, me: &About, links: &BTreeMap<String, LinkSeen>, now: Instant) -> ClusterView {
        let mut nodes = vec![node(me, Presence::Here)];
        for seen in self.rows.values().filter(|seen| seen.row.name != me.name) {
            let link = links.get(&seen.row.worker());
            let about = About {
                name: seen.row.name.clone(),
                boot: seen.row.boot,
                address: seen.row.address.clone(),
                dashboard: seen.row.dashboard.clone(),
                roles: seen.row.roles.clone(),
                draining: seen.row.draining || link.is_some_and(|link| link.about.draining),
            };
            nodes.push(measured(node(&about, self.presence(seen, link)), link));
        }
        let without_row = links.iter().filter(|(worker, _)| !nodes.iter().any(|node| node.worker == **worker));
        let without_row: Vec<_> = without_row
            .filter_map(|(_, link)| {
                let presence = self.presence_without_row(link, links, now)?;
                let draining = link.about.draining || (presence == Presence::Dead && self.took_its_row_away(&link.about));
                Some(measured(node(&About { draining, ..link.about.clone() }, presence), Some(link)))
            })
            .collect();
        nodes.extend(without_row);
        nodes.sort_by(|a, b| (&a.name, &a.worker).cmp(&(&b.name, &b.worker)));
        ClusterView { nodes }
    }

    /// Rows that nobody will come back to: name and boot.
    pub(super) fn long_dead(&self) -> impl Iterator<Item = (&str, u64)> {
        let old = self.rows.values().filter(|seen| seen.until - seen.since >= KEPT_WHEN_DEAD);
        old.map(|seen| (seen.row.name.as_str(), seen.row.boot))
    }

    fn presence(&self, seen: &Sighting, link: Option<&LinkSeen>) -> Presence {
        let still = seen.until - seen.since;
        let lost = match link {
            Some(LinkSeen { lost: None, .. }) => return Presence::Linked,
            Some(LinkSeen { lost, .. }) => *lost,
            None => None,
        };
        let moved_since = seen.moved && lost.is_none_or(|lost| seen.since > lost);
        if still >= self.still_for {
            Presence::Dead
        } else if moved_since && still < self.still_for.mul_f64(0.75) {
            Presence::Unlinked
        } else {
            Presence::Suspect
        }
    }

    /// `None` when the node is not to be spoken of any more.
    fn presence_without_row(&self, link: &LinkSeen, links: &BTreeMap<String, LinkSeen>, now: Instant) -> Option<Presence> {
        let Some(lost) = link.lost else { return Some(Presence::Linked) };
        if now - lost >= FORGOTTEN_AFTER {
            return None;
        }
        let About { name, boot, draining, .. } = &link.about;
        if self.rows.get(name).or_else(|| self.gone.get(name)).is_some_and(|seen| seen.row.boot > *boot) {
            return Some(Presence::Dead);
        }
        // Whoever is there under its name came after it, even if a clock that went back gave it the smaller boot.
        let is_back =
            self.rows.contains_key(name) || links.values().any(|other| other.lost.is_none() && other.about.name == *name);
        if is_back {
            return None;
        }
        let scanned_since = self.scanned.is_some_and(|begun| begun > lost);
        match self.gone.get(name).filter(|seen| seen.row.boot == *boot) {
            // A node that works writes a row that somebody deleted again before this.
            Some(seen) => (*draining || seen.row.draining || seen.until - seen.since >= self.still_for).then_some(Presence::Dead),
            None if *draining => scanned_since.then_some(Presence::Dead),
            None => (!scanned_since).then_some(Presence::Unlinked),
        }
    }

    fn took_its_row_away(&self, node: &About) -> bool {
        self.gone.get(&node.name).is_some_and(|seen| seen.row.boot == node.boot)
    }
}

fn node(about: &About, presence: Presence) -> ClusterNode {
    ClusterNode {
        name: about.name.clone(),
        worker: about.worker(),
        address: about.address.clone(),
        dashboard: about.dashboard.clone(),
        roles: about.roles.clone(),
        draining: about.draining,
        presence,
        round_trip: None,
        misses: 0,
    }
}

fn measured(node: ClusterNode, link: Option<&LinkSeen>) -> ClusterNode {
    match link {
        Some(link) if link.lost.is_none() => ClusterNode { round_trip: link.round_trip, misses: link.misses, ..node },
        _ => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STILL_FOR: Duration = Duration::from_secs(2);

    /// A clock that begins anywhere: nothing but differences counts.
    struct Watch {
        start: Instant,
        seen: NodeSightings,
        links: BTreeMap<String, LinkSeen>,
    }

    fn about(name: &str, boot: u64) -> About {
        About { name: name.into(), boot, address: None, dashboard: None, roles: Vec::new(), draining: false }
    }

    fn row(name: &str, boot: u64, heartbeat: u64) -> NodeRow {
        let address = Some(format!("{name}:1"));
        NodeRow { name: name.into(), boot, address, dashboard: None, roles: Vec::new(), heartbeat, draining: false }
    }

    impl Watch {
        fn new() -> Self {
            Self { start: Instant::now(), seen: NodeSightings::new(STILL_FOR), links: BTreeMap::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn scan(&mut self, ms: u64, rows: &[NodeRow]) {
            self.seen.note(rows.to_vec(), self.at(ms), self.at(ms + 5));
        }

        fn link(&mut self, name: &str, boot: u64, lost: Option<u64>) {
            let about = about(name, boot);
            let lost = lost.map(|ms| self.at(ms));
            let seen = LinkSeen { about: about.clone(), lost, round_trip: Some(Duration::from_millis(1)), misses: 1 };
            self.links.insert(about.worker(), seen);
        }

        fn shows(&self, ms: u64) -> Vec<(String, Presence)> {
            let view = self.seen.view(&about("me", 9), &self.links, self.at(ms));
            view.nodes.into_iter().filter(|node| node.name != "me").map(|node| (node.worker, node.presence)).collect()
        }

        fn has_left_b(&self, ms: u64) -> bool {
            self.seen.view(&about("me", 9), &self.links, self.at(ms)).worker("b#1").expect("b is shown").has_left()
        }

        fn shows_b(&self, ms: u64) -> Presence {
            self.shows(ms).into_iter().find(|(worker, _)| worker == "b#1").expect("b is shown").1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_dead_when_its_link_is_lost_and_its_heartbeat_stood_still() {
        let mut watch = Watch::new();
        watch.scan(0, &[row("b", 1, 5)]);
        watch.link("b", 1, None);
        assert_eq!(watch.shows_b(10), Presence::Linked);
        watch.link("b", 1, Some(100));
        assert_eq!(watch.shows_b(100), Presence::Suspect);
        watch.scan(2_004, &[row("b", 1, 5)]);
        assert_eq!(watch.shows_b(2_010), Presence::Suspect, "from the end of one scan to the begin of another");
        watch.scan(2_005, &[row("b", 1, 5)]);
        assert_eq!(watch.shows_b(2_010), Presence::Dead);
        watch.scan(2_200, &[row("b", 1, 6)]);
        assert_eq!(watch.shows_b(2_210), Presence::Unlinked, "it woke up");
        watch.link("b", 1, None);
        assert_eq!(watch.shows_b(2_220), Presence::Linked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_row_moves_is_unlinked_and_one_that_answers_is_linked_whatever_its_row() {
        let mut watch = Watch::new();
        watch.link("b", 1, Some(100));
        for beat in 0..10 {
            watch.scan(beat * 1_000, &[row("b", 1, beat)]);
        }
        assert_eq!(watch.shows_b(9_000), Presence::Unlinked);
        watch.scan(10_600, &[row("b", 1, 9)]);
        assert_eq!(watch.shows_b(10_600), Presence::Suspect);
        watch.link("b", 1, None);
        watch.scan(60_000, &[row("b", 1, 9)]);
        assert_eq!(watch.shows_b(60_000), Presence::Linked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_cannot_be_read_proves_nothing() {
        let mut watch = Watch::new();
        watch.scan(0, &[row("b", 1, 5)]);
        watch.link("b", 1, Some(50));
        watch.scan(1_000, &[row("b", 1, 5)]);
        assert_eq!(watch.shows_b(3_600_000), Presence::Suspect);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_was_always_there_may_be_a_dead_nodes() {
        let mut watch = Watch::new();
        watch.scan(0, &[row("b", 1, 5)]);
        assert_eq!(watch.shows_b(10), Presence::Suspect);
        watch.scan(900, &[row("b", 1, 6)]);
        assert_eq!(watch.shows_b(910), Presence::Unlinked);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_boot_is_dead_once_its_link_is_gone() {
        let mut watch = Watch::new();
        watch.link("b", 1, None);
        watch.scan(0, &[row("b", 2, 1)]);
        assert_eq!(watch.shows(10), [("b#1".to_owned(), Presence::Linked), ("b#2".to_owned(), Presence::Suspect)]);
        watch.link("b", 1, Some(20));
        assert_eq!(watch.shows_b(30), Presence::Dead);
        watch.links.clear();
        let view = watch.seen.view(&about("me", 9), &watch.links, watch.at(40));
        assert!(view.is_dead("b#1") && view.is_dead("me#8"), "also to whoever never met it");
        assert!(!view.is_dead("b#2") && !view.is_dead("b#3") && !view.is_dead("stranger#1") && !view.is_dead("kcl-worker"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_drained_and_took_its_row_away_has_left_at_once() {
        for its_row_said_so in [true, false] {
            let mut watch = Watch::new();
            watch.scan(0, &[NodeRow { draining: its_row_said_so, ..row("b", 1, 5) }]);
            watch.link("b", 1, None);
            watch.links.get_mut("b#1").expect("linked").about.draining = !its_row_said_so;
            watch.scan(200, &[]);
            assert_eq!(watch.shows_b(210), Presence::Linked);
            watch.links.get_mut("b#1").expect("linked").lost = Some(watch.at(300));
            assert_eq!(watch.shows_b(300), Presence::Dead);
            assert!(watch.has_left_b(60_299));
            assert_eq!(watch.shows(60_300), []);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_is_gone_for_long_is_a_node_that_left_and_one_that_was_deleted_comes_back() {
        let mut watch = Watch::new();
        watch.scan(0, &[row("b", 1, 5)]);
        watch.link("b", 1, Some(100));
        watch.scan(200, &[]);
        watch.scan(2_204, &[]);
        assert_eq!(watch.shows(2_210), [], "it may be written again");
        watch.scan(2_205, &[]);
        assert!(watch.has_left_b(2_210));
        watch.scan(2_300, &[row("b", 1, 6)]);
        assert_eq!(watch.shows_b(2_310), Presence::Suspect);
        watch.scan(2_400, &[]);
        assert_eq!(watch.shows(2_410), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_left_and_starts_again_is_there_as_its_later_boot() {
        let mut watch = Watch::new();
        watch.scan(0, &[NodeRow { draining: true, ..row("b", 1, 5) }]);
        watch.link("b", 1, Some(100));
        watch.scan(200, &[]);
        watch.link("b", 2, None);
        let both = |later| [("b#1".to_owned(), Presence::Dead), ("b#2".to_owned(), later)];
        assert_eq!(watch.shows(210), [("b#2".to_owned(), Presence::Linked)], "before its row was seen");
        watch.scan(300, &[row("b", 2, 1)]);
        assert_eq!(watch.shows(310), both(Presence::Linked));
        watch.scan(400, &[]);
        watch.link("b", 2, Some(450));
        assert_eq!(watch.shows(500), [("b#1".to_owned(), Presence::Dead)], "its row may be written again");
        watch.scan(2_500, &[]);
        assert_eq!(watch.shows(2_510), both(Presence::Dead));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_left_does_not_make_dead_what_starts_again_with_a_clock_gone_back() {
        let mut watch = Watch::new();
        watch.scan(0, &[NodeRow { draining: true, ..row("b", 2, 5) }]);
        watch.link("b", 2, Some(100));
        watch.links.get_mut("b#2").expect("lost").about.draining = true;
        watch.scan(200, &[]);
        assert_eq!(watch.shows(210), [("b#2".to_owned(), Presence::Dead)]);
        watch.link("b", 1, None);
        assert_eq!(watch.shows(220), [("b#1".to_owned(), Presence::Linked)]);
        watch.links.remove("b#1");
        watch.scan(300, &[row("b", 1, 1)]);
        watch.scan(400, &[row("b", 1, 2)]);
        assert_eq!(watch.shows(410), [("b#1".to_owned(), Presence::Unlinked)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_node_that_works_on_is_not_dead() {
        let mut watch = Watch::new();
        watch.link("b", 1, Some(100));
        watch.links.get_mut("b#1").expect("lost").about.draining = true;
        assert_eq!(watch.shows(110), [], "without a table nobody is declared dead");
        for beat in 0..10 {
            watch.scan(beat * 1_000, &[NodeRow { draining: true, ..row("b", 1, beat) }]);
        }
        assert_eq!(watch.shows_b(9_000), Presence::Unlinked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_a_row_is_never_dead_but_forgotten() {
        let mut watch = Watch::new();
        watch.link("b", 1, Some(0));
        assert_eq!(watch.shows_b(59_999), Presence::Unlinked);
        assert_eq!(watch.shows(60_000), []);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_cleaned_up_after_a_day() {
        let mut watch = Watch::new();
        watch.scan(0, &[row("b", 1, 5), row("c", 1, 5)]);
        watch.scan(86_400_005, &[row("b", 1, 5), row("c", 1, 6)]);
        assert_eq!(watch.seen.long_dead().collect::<Vec<_>>(), [("b", 1)]);
    }
}
