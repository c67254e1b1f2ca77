//! Tells presses from the bouncing of a button's contacts.

use std::time::{Duration, Instant};

/// One change of the button's line, as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) kind: EdgeKind,
    pub(crate) at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeKind {
    Down,
    Up,
}

/// A press is an edge down after the line was quiet for a while. Every edge, up as well, begins the wait anew, so contacts
/// may bounce for as long as they like at either end of a press; and the press is known at its first edge, not after it.
pub(crate) struct Bounce {
    quiet: Duration,
    last_edge: Option<Instant>,
}

impl Bounce {
    pub(crate) fn new(quiet: Duration) -> Self {
        Self { quiet, last_edge: None }
    }

    /// Whether this edge is a press. Edges come in the order of their time.
    pub(crate) fn is_press(&mut self, edge: Edge) -> bool {
        let was_quiet = self.last_edge.is_none_or(|last| edge.at.saturating_duration_since(last) >= self.quiet);
        self.last_edge = Some(edge.at);
        was_quiet && edge.kind == EdgeKind::Down
    }
}

#[cfg(test)]
mod tests {
    use super::EdgeKind::{Down, Up};
    use super::*;

    /// Presses among edges at these milliseconds, with 50 ms of quiet.
    fn presses(edges: impl IntoIterator<Item = (u64, EdgeKind)>) -> usize {
        let start = Instant::now();
        let mut bounce = Bounce::new(Duration::from_millis(50));
        let at = |ms| start + Duration::from_millis(ms);
        edges.into_iter().filter(|(ms, kind)| bounce.is_press(Edge { kind: *kind, at: at(*ms) })).count()
    }

    /// So many edges from `begin` on, every `step` milliseconds, down first.
    fn bouncing(begin: u64, n: u64, step: u64) -> impl Iterator<Item = (u64, EdgeKind)> {
        (0..n).map(move |i| (begin + i * step, if i % 2 == 0 { Down } else { Up }))
    }

    #[test]
    fn thirty_bounces_in_300_ms_are_one_press() {
        assert_eq!(presses(bouncing(0, 60, 5)), 1);
        assert_eq!(presses(bouncing(0, 30, 10)), 1);
        // Only edges down, as a line that is read too seldom would show them.
        assert_eq!(presses((0..30).map(|i| (i * 10, Down))), 1);
    }

    #[test]
    fn bouncing_at_the_release_is_no_press() {
        let released = (0..30).map(|i| (2_000 + i * 10, if i % 2 == 0 { Up } else { Down }));
        assert_eq!(presses(bouncing(0, 31, 10).chain(released)), 1);
    }

    #[test]
    fn irregular_bouncing_is_one_press_too() {
        // A full period of a linear congruence: every gap below the quiet time comes in some order.
        let mut gap = 7;
        let mut ms = 0;
        let edges = (0..1_000).map(|i| {
            gap = (gap * 21 + 13) % 50;
            ms += gap;
            (ms, if i % 2 == 0 { Down } else { Up })
        });
        assert_eq!(presses(edges), 1);
    }

    #[test]
    fn presses_of_a_quick_finger_are_all_counted() {
        let quick = (0..5).flat_map(|i| [(i * 160, Down), (i * 160 + 80, Up)]);
        assert_eq!(presses(quick), 5);
        let bouncing_each = (0..5).flat_map(|i| bouncing(i * 500, 60, 5));
        assert_eq!(presses(bouncing_each), 5);
        assert_eq!(presses([(0, Down), (50, Down), (99, Down)]), 2, "quiet for exactly as long as asked is enough");
    }
}
