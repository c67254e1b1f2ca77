//! The rule about dead letters: a new one is news until somebody redrives or discards it, or until it has been there for ten
//! minutes; then it is a row in the table like the others.

use std::collections::BTreeMap;

use super::facts::FreshLetterFact;
use super::{Scene, Severity, Suspicion};

pub(super) fn suspicions(scene: &Scene<'_>) -> Vec<Suspicion> {
    let mut stages: BTreeMap<&str, BTreeMap<&str, &FreshLetterFact>> = BTreeMap::new();
    for letter in &scene.letters {
        stages.entry(&letter.stage).or_default().insert(&letter.id, letter);
    }
    stages.into_iter().map(|(stage, letters)| suspicion(stage, &letters)).collect()
}

fn suspicion(stage: &str, letters: &BTreeMap<&str, &FreshLetterFact>) -> Suspicion {
    let newest = letters.values().min_by_key(|letter| letter.age_ms).expect("a stage has a letter");
    let n = letters.len();
    let text = match n {
        1 => format!("a new dead letter of {stage} ({}): {}", newest.shard, newest.reason),
        n => format!("{n} new dead letters of {stage}, the last one: {}", newest.reason),
    };
    Suspicion::new("dead-letters-new", Severity::Warning, stage, text)
        .link(format!("#/dead-letters?stage={stage}"))
        .next("read the reason; redrive it when its cause is mended, or discard it")
}

#[cfg(test)]
mod tests {
    use super::super::sample::scene;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn letters_are_told_of_by_stage_and_each_once() {
        let letter = |id: &str, stage: &str, age_ms| FreshLetterFact {
            id: id.into(),
            stage: stage.into(),
            shard: "a".into(),
            reason: format!("reason {id}"),
            age_ms,
        };
        let letters =
            [letter("1", "enrich", 900), letter("2", "notify", 5), letter("1", "enrich", 900), letter("3", "enrich", 10)];
        assert!(suspicions(&scene(Vec::new())).is_empty());
        let told = suspicions(&Scene { letters: letters.iter().collect(), ..scene(Vec::new()) });
        let texts: Vec<_> = told.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(texts, ["2 new dead letters of enrich, the last one: reason 3", "a new dead letter of notify (a): reason 2"]);
    }
}
