//! What may be shown of persons: masked where it is read, so that no expression of a statement can get behind it.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};

use speedtrap_actors::domain::PlateKey;
use speedtrap_node::masked_plate;

/// Stands before everything that names a person.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    is_lifted: bool,
    /// Of this run alone: a plate cannot be found out from its stand-in by whoever has only an answer.
    keys: RandomState,
}

impl Veil {
    /// Everything is shown: somebody said why, and that is noted.
    pub(crate) fn lifted() -> Self {
        Self { is_lifted: true, ..Self::default() }
    }

    pub(crate) fn is_lifted(&self) -> bool {
        self.is_lifted
    }

    /// A plate, or its first characters.
    pub(crate) fn plate<'a>(&self, plate: &'a str) -> Cow<'a, str> {
        if self.is_lifted { plate.into() } else { masked_plate(plate).into() }
    }

    /// Something of a person, or nothing of it.
    pub(crate) fn personal<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_lifted { text.into() } else { "…".into() }
    }

    /// What stands for a plate: alike for plates that are the same to the pipeline.
    pub(crate) fn plate_id(&self, plate: &str) -> String {
        format!("{:016x}", self.keys.hash_one(PlateKey::of(plate).as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_seen_only_when_the_veil_is_lifted() {
        let veil = Veil::default();
        assert_eq!((&*veil.plate("4-2288B"), &*veil.personal("A. Driver")), ("4-2…", "…"));
        let veil = Veil::lifted();
        assert_eq!((&*veil.plate("4-2288B"), &*veil.personal("A. Driver")), ("4-2288B", "A. Driver"));
    }

    #[test]
    fn a_plate_has_one_stand_in_however_it_is_written_and_another_in_the_next_run() {
        let (veil, next) = (Veil::default(), Veil::default());
        assert_eq!(veil.plate_id(" ab-1"), veil.plate_id("AB-1"));
        assert_ne!(veil.plate_id("AB-1"), veil.plate_id("AB-2"));
        assert_ne!(veil.plate_id("AB-1"), next.plate_id("AB-1"));
    }
}
