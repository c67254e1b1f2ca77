//! A proxy before Kinesis that counts the reads of each stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use serde_json::Value;

use crate::relay::{Between, Message, Relay};

/// Listens until it is dropped.
pub struct Reads {
    relay: Relay,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen(Mutex<Streams>);

#[derive(Default)]
struct Streams {
    /// Which stream an iterator leads through.
    iterators: BTreeMap<String, String>,
    reads: BTreeMap<String, u64>,
}

impl Reads {
    /// Starts it in front of the host and port of a URL.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(url: &str) -> Result<Self> {
        let seen = Arc::<Seen>::default();
        let relay = Relay::before(url, seen.clone()).await?;
        Ok(Self { relay, seen })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.relay.address
    }

    /// GetRecords calls on a stream so far that were answered.
    #[must_use]
    pub fn of(&self, stream: &str) -> u64 {
        let streams = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.reads.get(stream).copied().unwrap_or_default()
    }
}

impl Between for Seen {
    fn passed(&self, _: SystemTime, call: &Message, answer: Option<&Message>) {
        let Some(answer) = answer.filter(|answer| answer.status() == Some(200)) else { return };
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.note(call.operation(), &call.json(), &answer.json());
    }
}

impl Streams {
    fn note(&mut self, operation: &str, call: &Value, answer: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (stream, next) = match operation {
            "getsharditerator" => {
                let name = call["StreamName"].as_str().or_else(|| call["StreamARN"].as_str()?.rsplit('/').next());
                (name.map(str::to_owned), text(&answer["ShardIterator"]))
            }
            "getrecords" => {
                let stream = call["ShardIterator"].as_str().and_then(|it| self.iterators.remove(it));
                // What cannot be told apart must not look like a stream that nobody reads.
                let stream = stream.unwrap_or_else(|| "unknown".to_owned());
                *self.reads.entry(stream.clone()).or_default() += 1;
                (Some(stream), text(&answer["NextShardIterator"]))
            }
            _ => return,
        };
        if let (Some(stream), Some(next)) = (stream, next) {
            self.iterators.insert(next, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_read_counts_for_the_stream_that_its_iterator_was_made_for() {
        let mut streams = Streams::default();
        let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/out";
        streams.note("getsharditerator", &json!({"StreamName": "in"}), &json!({"ShardIterator": "i0"}));
        streams.note("getsharditerator", &json!({"StreamARN": arn}), &json!({"ShardIterator": "o0"}));
        for (used, next) in [("i0", "i1"), ("o0", "o1"), ("i1", "i2"), ("stranger", "s1")] {
            streams.note("getrecords", &json!({"ShardIterator": used}), &json!({"NextShardIterator": next}));
        }
        let reads: Vec<_> = streams.reads.iter().map(|(stream, n)| (stream.as_str(), *n)).collect();
        assert_eq!(reads, [("in", 2), ("out", 1), ("unknown", 1)]);
    }
}
