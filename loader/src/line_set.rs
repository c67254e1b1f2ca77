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
        }
    }
}
