//! Which lines of a file have been seen (pure): one bit a line, so a million rows cost 125 kB.

/// Lines a file may have. A row that claims a later one is not ours, and must not cost its memory.
const MAX_LINES: u64 = 1 << 32;

/// A set of line numbers.
#[derive(Debug, Default, Clone)]
pub(crate) struct LineSet {
    words: Vec<u64>,
    len: u64,
}

impl LineSet {
    /// Adds a line; false if it was there already, or lies beyond any file.
    pub(crate) fn insert(&mut self, line: u64) -> bool {
        let Ok(word) = usize::try_from(line / 64) else { return false };
        if line >= MAX_LINES {
            return false;
        }
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (line % 64);
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    /// Adds all lines from the first to the last; those beyond any file are left out.
    pub(crate) fn insert_range(&mut self, (first, last): (u64, u64)) {
        for line in first..=last.min(MAX_LINES - 1) {
            self.insert(line);
        }
    }

    /// Adds the lines of another set.
    pub(crate) fn insert_all(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
        self.len = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
    }

    /// Whether a line is in it.
    pub(crate) fn contains(&self, line: u64) -> bool {
        let word = usize::try_from(line / 64).ok().and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & (1 << (line % 64)) != 0)
    }

    /// How many lines are in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_like_a_set(lines in prop::collection::vec(0_u64..500, 0..300)) {
            let mut set = LineSet::default();
            let mut model = BTreeSet::new();
            for line in lines {
                prop_assert_eq!(set.insert(line), model.insert(line));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!((0..600).all(|line| set.contains(line) == model.contains(&line)));
        }

        #[test]
        fn ranges_and_sets_are_added_whole(ranges in prop::collection::vec((0_u64..300, 0_u64..300), 0..10)) {
            let (mut set, mut model) = (LineSet::default(), BTreeSet::new());
            for (place, range) in ranges.into_iter().enumerate() {
                let mut added = LineSet::default();
                if place % 2 == 0 { set.insert_range(range) } else { added.insert_range(range) }
                set.insert_all(&added);
                model.extend(range.0..=range.1);
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!((0..600).all(|line| set.contains(line) == model.contains(&line)));
        }
    }
}
