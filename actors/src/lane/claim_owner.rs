//! Who holds a claim on a text, and whether he can still send it (pure).

use std::fmt;

/// One try at one record by one generation of one lane of one boot of a node. It is written into the claim as
/// `<node>#<boot>/<shard>#<generation>@<sequence>`, with `.<n>` for the n-th further user record in it, so that two records with
/// one event id never mistake each other's claim for their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClaimOwner<'a> {
    node: &'a str,
    boot: &'a str,
    shard: &'a str,
    generation: u64,
    sequence: &'a str,
    sub: u64,
}

impl<'a> ClaimOwner<'a> {
    pub(super) fn new(worker: &'a str, shard: &'a str, generation: u64, (sequence, sub): (&'a str, u64)) -> Self {
        let (node, boot) = worker.rsplit_once('#').unwrap_or((worker, ""));
        Self { node, boot, shard, generation, sequence, sub }
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (worker, rest) = text.split_once('/')?;
        let (lane, sequence) = rest.rsplit_once('@')?;
        let (shard, generation) = lane.rsplit_once('#')?;
        Some(Self::new(worker, shard, generation.parse().ok()?, (sequence, 0)))
    }

    /// Whether the holder named in a claim is known to be dead: an earlier boot of this very node, or an earlier generation of
    /// this very lane. Anybody else may be alive until his claim expires.
    pub(super) fn knows_dead(&self, holder: &str) -> bool {
        let Some(holder) = ClaimOwner::parse(holder) else { return false };
        let earlier_boot =
            holder.boot.len() < self.boot.len() || (holder.boot.len() == self.boot.len() && holder.boot < self.boot);
        holder.node == self.node
            && (earlier_boot || (holder.boot == self.boot && holder.shard == self.shard && holder.generation < self.generation))
    }
}

impl fmt::Display for ClaimOwner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}/{}#{}@{}", self.node, self.boot, self.shard, self.generation, self.sequence)?;
        if self.sub > 0 {
            write!(f, ".{}", self.sub)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_lives_of_ones_own_are_known_dead() {
        let me = ClaimOwner::new("n1#1000", "shard-1", 3, ("42", 0));
        assert_eq!(me.to_string(), "n1#1000/shard-1#3@42");
        let in_aggregate = ClaimOwner::new("n1#1000", "shard-1", 3, ("42", 7));
        assert_eq!(in_aggregate.to_string(), "n1#1000/shard-1#3@42.7");
        for (holder, dead) in [
            ("n1#1000/shard-1#2@42.7", true),
            ("n1#1000/shard-1#3@42.7", false),
            ("n1#999/shard-9#8@1", true),
            ("n1#1000/shard-1#2@42", true),
            ("n1#1000/shard-1#3@41", false),
            ("n1#1000/shard-2#1@42", false),
            ("n2#5/shard-1#1@42", false),
            ("n1#1001/shard-1#1@42", false),
            ("somebody", false),
        ] {
            assert_eq!(me.knows_dead(holder), dead, "{holder}");
        }
    }
}
