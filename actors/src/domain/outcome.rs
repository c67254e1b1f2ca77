//! Every way an event may end.

use std::fmt;

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $label:literal),+ $(,)?) => {
        /// How an event ended. Each record that a lane lets in ends with exactly one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Outcome {
            $($(#[$doc])* $name),+
        }

        impl Outcome {
            /// All outcomes, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in metrics and in the API.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),+ }
            }
        }
    };
}

outcomes! {
    /// Enrich: not above the limit; nothing else happened with it.
    UnderLimit = "under_limit",
    /// Enrich: stored, and accepted by the out-stream.
    Published = "published",
    /// Enrich: stored, but the warehouse knows no driver for the plate.
    OwnerUnknown = "owner_unknown",
    /// Notify: the driver was texted before for this event.
    Duplicate = "duplicate",
    /// Any lane: became a dead letter.
    Rejected = "rejected",
    /// Notify: the text was accepted for delivery.
    Notified = "notified",
    /// Notify: held back by the cool-down option.
    Suppressed = "suppressed",
    /// Archive: accepted by the archive's delivery stream.
    Archived = "archived",
    /// Archive: a removal, which is not archived.
    Skipped = "skipped",
}

/// How many events ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts([u64; Outcome::ALL.len()]);

impl OutcomeCounts {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// Adds another count to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// How many ended so.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// How many ended at all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
