//! Rules about leases.

use std::time::Duration;

use super::{Past, Scene, SeenShard, Severity, Suspicion};

/// A shard whose node died has a new one by then; one that has none for longer is a fault.
const FAILOVER: Duration = Duration::from_secs(5);
/// Nodes do not answer at the same moment, so a lease that moves may be seen twice for a moment.
const TWICE_AFTER: Duration = Duration::from_secs(1);
/// A lease moves a few times while nodes come and go, and not again and again.
const FLAPS: usize = 4;
/// It is over when the lease has stayed for so long.
const FLAPPING_OVER: Duration = Duration::from_secs(8);

pub(super) fn suspicions(scene: &Scene<'_>, past: &Past) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for shard in &scene.shards {
        found.extend(unowned(shard));
        found.extend(claimed_twice(shard));
        found.extend(flaps(scene, past, shard));
    }
    found
}

fn about(rule: &'static str, severity: Severity, shard: &SeenShard<'_>, text: String) -> Suspicion {
    let target = format!("{}/{}", shard.role, shard.shard);
    let link = format!("#/shards?shard={target}");
    Suspicion::new(rule, severity, target, text).link(link)
}

fn unowned(shard: &SeenShard<'_>) -> Option<Suspicion> {
    let lasts = shard.unowned.filter(|lasts| *lasts > FAILOVER)?;
    let text = format!("{} {} has had no live owner for {} s", shard.role, shard.shard, lasts.as_secs());
    let next = "a node with this role takes it by itself: see that one runs and reaches the lease table";
    Some(about("shard-unowned", Severity::Critical, shard, text).next(next))
}

fn claimed_twice(shard: &SeenShard<'_>) -> Option<Suspicion> {
    if shard.runners.len() < 2 {
        return None;
    }
    let text = format!("{} {} is worked on by {} at once", shard.role, shard.shard, shard.runners.join(" and "));
    let next = "the lease table lets only one of them write a checkpoint; the other closes its lane once it has noticed";
    Some(about("shard-claimed-twice", Severity::Critical, shard, text).after(TWICE_AFTER).next(next))
}

fn flaps(scene: &Scene<'_>, past: &Past, shard: &SeenShard<'_>) -> Option<Suspicion> {
    let (moves, ago) = past.moves(shard.role, shard.shard, scene.now)?;
    if moves < FLAPS || ago > FLAPPING_OVER {
        return None;
    }
    let text = format!("{} {} changed its owner {moves} times within a minute", shard.role, shard.shard);
    let next = "nodes lose it again and again: see whether their heartbeats are late, and whether a KCL worker shares the table";
    Some(about("lease-flapping", Severity::Warning, shard, text).next(next))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::sample::{rules, scene};
    use super::*;

    fn shard<'a>() -> SeenShard<'a> {
        SeenShard { role: "enrich", shard: "a", owner: Some("n1#1"), unowned: None, runners: vec!["n1"] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_has_one_owner() {
        let found = |shard| suspicions(&Scene { shards: vec![shard], ..scene(Vec::new()) }, &Past::default());
        assert!(found(shard()).is_empty());
        assert!(found(SeenShard { unowned: Some(FAILOVER), ..shard() }).is_empty(), "it is being taken over");
        let told = found(SeenShard { unowned: Some(Duration::from_secs(6)), ..shard() });
        assert_eq!((rules(&told), told[0].text.as_str()), (vec!["shard-unowned"], "enrich a has had no live owner for 6 s"));
        let told = found(SeenShard { runners: vec!["n1", "n2"], ..shard() });
        assert_eq!(
            (rules(&told), told[0].text.as_str()),
            (vec!["shard-claimed-twice"], "enrich a is worked on by n1 and n2 at once")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_goes_to_and_fro_flaps_until_it_stays() {
        let mut past = Past::default();
        let mut told = Vec::new();
        for second in 0..20 {
            let owner = if second < 10 && second % 2 == 0 { "n2#1" } else { "n1#1" };
            let scene = Scene { shards: vec![SeenShard { owner: Some(owner), ..shard() }], ..scene(Vec::new()) };
            past.note(&scene, &BTreeMap::new());
            if !suspicions(&scene, &past).is_empty() {
                told.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!((told.first(), told.last()), (Some(&4), Some(&17)), "{told:?}");
    }
}
