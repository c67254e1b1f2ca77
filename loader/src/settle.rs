//! Decides which files of a folder are complete (pure: looks and times are passed in).
//!
//! A file is complete when its size and time have stood still for a while, or when it was moved into the folder in one piece.
//! Each file is given out once for each shape it has; a new name alone is no new shape.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::FileMark;

/// What stays the same when a file is renamed, and changes when it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    inode: u64,
    size: u64,
    modified: i64,
}

/// One file of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) shape: Shape,
    /// How long ago it was written to, by the wall clock.
    pub(crate) age: Duration,
}

/// What earlier looks saw.
#[derive(Debug)]
pub(crate) struct Settle {
    wait: Duration,
    changed: HashMap<PathBuf, (Shape, Instant)>,
    given: HashSet<Shape>,
}

impl Shape {
    pub(crate) fn of(mark: &FileMark) -> Self {
        Self { inode: mark.inode, size: mark.size, modified: mark.modified }
    }
}

impl Settle {
    /// Files must stand still for `wait`. Those of the shapes `given` are known already.
    pub(crate) fn new(wait: Duration, given: HashSet<Shape>) -> Self {
        Self { wait, changed: HashMap::new(), given }
    }

    /// Takes a look; gives the files that are complete and were not given before, and how many are not complete yet.
    pub(crate) fn look(&mut self, files: Vec<Found>, moved_in: &HashSet<PathBuf>, now: Instant) -> (Vec<Found>, usize) {
        let mut complete = Vec::new();
        let mut changed = HashMap::new();
        for file in files {
            if self.given.contains(&file.shape) {
                continue;
            }
            let since = match self.changed.get(&file.path) {
                Some((shape, since)) if *shape == file.shape => *since,
                _ => now,
            };
            if now.duration_since(since) >= self.wait || file.age >= self.wait || moved_in.contains(&file.path) {
                self.given.insert(file.shape);
                complete.push(file);
            } else {
                changed.insert(file.path, (file.shape, since));
            }
        }
        // Files that are gone are forgotten with this.
        self.changed = changed;
        (complete, self.changed.len())
    }

    /// Gives a file out again that could not be found under its name.
    pub(crate) fn forget(&mut self, shape: Shape) {
        self.given.remove(&shape);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    fn found(path: &str, inode: u64, size: u64, age_s: u64) -> Found {
        let shape = Shape { inode, size, modified: 0 };
        Found { path: path.into(), shape, age: Duration::from_secs(age_s) }
    }

    fn settle() -> Settle {
        Settle::new(WAIT, HashSet::new())
    }

    #[test]
    fn a_file_that_still_grows_is_waited_for() {
        let (mut settle, start, none) = (settle(), Instant::now(), HashSet::new());
        for second in 0..5 {
            let growing = vec![found("a", 1, second, 0)];
            assert_eq!(settle.look(growing, &none, start + Duration::from_secs(second)), (vec![], 1));
        }
        assert_eq!(settle.look(vec![found("a", 1, 4, 1)], &none, start + Duration::from_secs(5)), (vec![], 1));
        let complete = found("a", 1, 4, 1);
        assert_eq!(settle.look(vec![complete.clone()], &none, start + Duration::from_secs(6)), (vec![complete.clone()], 0));
        assert_eq!(settle.look(vec![complete], &none, start + Duration::from_secs(9)), (vec![], 0), "once");
    }

    #[test]
    fn old_files_and_those_moved_into_place_need_no_wait() {
        let moved = HashSet::from([PathBuf::from("b")]);
        let files = vec![found("a", 1, 1, 60), found("b", 2, 1, 0), found("c", 3, 1, 0)];
        let (complete, waiting) = settle().look(files, &moved, Instant::now());
        assert_eq!((complete.len(), waiting), (2, 1));
    }

    #[test]
    fn a_rename_is_no_news_but_new_content_under_the_old_name_is() {
        let (mut settle, now, none) = (settle(), Instant::now(), HashSet::new());
        assert_eq!(settle.look(vec![found("a", 1, 1, 9)], &none, now).0.len(), 1);
        assert_eq!(settle.look(vec![found("a.1", 1, 1, 9)], &none, now).0.len(), 0);
        assert_eq!(settle.look(vec![found("a.1", 1, 1, 9), found("a", 2, 1, 9)], &none, now).0.len(), 1);
        settle.forget(found("a", 1, 1, 9).shape);
        assert_eq!(settle.look(vec![found("a.1", 1, 1, 9)], &none, now).0.len(), 1);
    }
}
