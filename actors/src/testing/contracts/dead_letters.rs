//! The contract of [`DeadLetters`].

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{DeadLetter, DeadLetters};

/// Runs against an empty table. Returns the letters that must be in it afterwards, with their numbers of tries.
///
/// # Panics
/// When the contract is broken.
pub async fn dead_letters_contract(letters: Arc<dyn DeadLetters>) -> Vec<(DeadLetter, u64)> {
    let letter = |stage: &'static str, payload: Vec<u8>| DeadLetter {
        stage,
        reason: "not a JSON object".to_owned(),
        payload: Bytes::from(payload),
        stream: "stream".to_owned(),
        shard: ShardId::new("shardId-000000000000"),
        position: Position { sequence: SequenceNumber::parse("496").expect("these are digits"), sub: 2 },
    };
    let short = letter("enrich", b"\xff\x00 neither text nor JSON".to_vec());
    let other_stage = letter("notify", short.payload.to_vec());
    let long = letter("enrich", vec![b'x'; 100 * 1024]);
    let empty = letter("archive", Vec::new());
    for letter in [&short, &other_stage, &long, &empty, &short] {
        letters.put(letter).await.expect("a letter is stored");
    }
    vec![(short, 2), (other_stage, 1), (long, 1), (empty, 1)]
}
