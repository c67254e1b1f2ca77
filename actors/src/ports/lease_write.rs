//! What a write needs a lease row to be, what it makes of it, and what its refusal means (pure). The adapter says the first two
//! as expressions of DynamoDB; the fake and the model of the protocol do them to rows of their own.

use super::{Checkpoint, Lease};

/// A write that is fenced by the counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaseWrite {
    /// Makes this worker the owner.
    Take(String),
    /// Shows that the owner lives.
    Renew,
    /// Moves the checkpoint.
    Checkpoint(Checkpoint),
    /// Leaves the row without an owner.
    Release,
    /// Makes another worker the owner.
    Assign(String),
}

/// What a write that was refused means to the worker that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The row is what this very write makes of it: it took effect, and its answer got lost.
    TookEffect,
    /// An earlier write of the same holder took effect unseen. The lease is still its own: try again with the row as it is.
    OneBehind,
    /// Somebody else wrote the row.
    Lost,
}

impl LeaseWrite {
    /// Compare-and-set: the row after this write, or `None` when it is not the row that was read.
    #[must_use]
    pub fn apply(&self, as_read: &Lease, row: &Lease) -> Option<Lease> {
        if row.counter != as_read.counter || row.owner != as_read.owner {
            return None;
        }
        let mut row = Lease { counter: row.counter + 1, ..row.clone() };
        match self {
            Self::Take(owner) | Self::Assign(owner) => row.owner = Some(owner.clone()),
            Self::Renew => {}
            Self::Checkpoint(checkpoint) => row.checkpoint = checkpoint.clone(),
            Self::Release => row.owner = None,
        }
        Some(row)
    }

    /// Judges a refusal. `held` is the lease as its holder knows it, `tried` the one that this try went out with, and `now` the
    /// row as it was read after the refusal.
    ///
    /// A lost answer puts the row one count ahead of its holder, so that far the holder may follow, and no further. That never
    /// takes another consumer's write for one's own: no other worker writes a row and leaves our id in it, an earlier boot of
    /// this node has another id, and a lease that was lost and regained was written at least twice in between, which puts it two
    /// counts ahead of the old holder. (KCL's ids outlive their consumers, so it needs a random token for the last case.) A
    /// hand-over is the exception that does no harm: when the new owner took the lease by itself first, it owns it either way.
    #[must_use]
    pub fn refusal(&self, held: &Lease, tried: &Lease, now: &Lease) -> Refusal {
        let ours = now.owner.is_some() && now.owner == held.owner;
        let effect = match self {
            Self::Take(owner) | Self::Assign(owner) => now.owner.as_ref() == Some(owner),
            Self::Renew => ours,
            Self::Checkpoint(checkpoint) => ours && now.checkpoint == *checkpoint,
            Self::Release => now.owner.is_none(),
        };
        let is_take = matches!(self, Self::Take(_));
        match () {
            () if effect && now.counter == tried.counter + 1 => Refusal::TookEffect,
            // Who takes a lease does not hold it yet, so nothing of it can be behind.
            () if ours && !is_take && now.counter == held.counter + 1 && tried == held => Refusal::OneBehind,
            () => Refusal::Lost,
        }
    }

    /// Whether this write counts in `ownerSwitchesSinceCheckpoint`: it takes the lease from one owner to another.
    #[must_use]
    pub fn switches_owner(&self, as_read: &Lease) -> bool {
        match self {
            Self::Take(owner) | Self::Assign(owner) => as_read.owner.as_ref().is_some_and(|before| before != owner),
            Self::Renew | Self::Checkpoint(_) | Self::Release => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Position, SequenceNumber, ShardId};

    fn row(owner: Option<&str>, counter: u64, done: u64) -> Lease {
        let sequence = SequenceNumber::parse(&done.to_string()).expect("a number");
        Lease {
            shard: ShardId::new("shard"),
            owner: owner.map(str::to_owned),
            counter,
            checkpoint: Checkpoint::At(Position { sequence, sub: 0 }),
            parents: Vec::new(),
            children: Vec::new(),
            has_hash_range: true,
        }
    }

    fn to(done: u64) -> LeaseWrite {
        LeaseWrite::Checkpoint(row(None, 0, done).checkpoint)
    }

    #[test]
    fn a_write_needs_counter_and_owner_as_they_were_read() {
        let held = row(Some("n1#1"), 5, 1);
        assert_eq!(to(2).apply(&held, &held), Some(row(Some("n1#1"), 6, 2)));
        assert_eq!(LeaseWrite::Release.apply(&held, &held), Some(row(None, 6, 1)));
        assert_eq!(to(2).apply(&held, &row(Some("n1#1"), 6, 1)), None);
        assert_eq!(to(2).apply(&held, &row(Some("n2#1"), 5, 1)), None);
    }

    #[test]
    fn refusals_are_told_apart() {
        let held = row(Some("n1#1"), 5, 1);
        let judge = |write: LeaseWrite, tried: &Lease, now: Lease| write.refusal(&held, tried, &now);
        assert_eq!(judge(LeaseWrite::Renew, &held, row(Some("n1#1"), 6, 1)), Refusal::TookEffect);
        assert_eq!(judge(to(2), &held, row(Some("n1#1"), 6, 2)), Refusal::TookEffect);
        assert_eq!(judge(LeaseWrite::Release, &held, row(None, 6, 1)), Refusal::TookEffect);
        assert_eq!(judge(to(2), &held, row(Some("n1#1"), 6, 1)), Refusal::OneBehind, "a renewal went unseen");
        let ahead = row(Some("n1#1"), 6, 1);
        assert_eq!(judge(to(2), &ahead, row(Some("n1#1"), 7, 2)), Refusal::TookEffect, "and then this write too");
        assert_eq!(judge(to(2), &ahead, row(Some("n1#1"), 7, 1)), Refusal::Lost, "one count is all it may be behind");
        assert_eq!(judge(LeaseWrite::Renew, &held, row(Some("n1#1"), 7, 1)), Refusal::Lost, "lost and regained");
        assert_eq!(judge(LeaseWrite::Renew, &held, row(Some("n2#1"), 6, 1)), Refusal::Lost);
        assert_eq!(judge(to(2), &held, row(None, 6, 2)), Refusal::Lost);
        assert_eq!(judge(LeaseWrite::Renew, &held, row(Some("n1#2"), 6, 1)), Refusal::Lost, "another boot of this node");
    }

    #[test]
    fn only_a_change_from_one_owner_to_another_is_a_switch() {
        let take = LeaseWrite::Take("n2#1".to_owned());
        assert!(take.switches_owner(&row(Some("n1#1"), 5, 1)));
        assert!(!take.switches_owner(&row(None, 5, 1)));
        assert!(!take.switches_owner(&row(Some("n2#1"), 5, 1)));
        assert!(!LeaseWrite::Release.switches_owner(&row(Some("n1#1"), 5, 1)));
    }
}
