//! What the local cloud adds to Kinesis, asked for over plain HTTP: a split loses no record, and its lineage can be followed.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

struct Up {
    process: Child,
    endpoint: String,
}

impl Up {
    fn start(dir: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap-local"));
        let mut process = command.args(["up", "--json", "--dir"]).arg(dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        Self { process, endpoint: said["aws_endpoint_url"].as_str().unwrap().to_owned() }
    }

    /// One call; the local cloud wants to know who calls, but checks no signature of its root user.
    fn kinesis(&self, action: &str, body: Value) -> Value {
        let who = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";
        let mut answer = ureq::post(&self.endpoint)
            .header("X-Amz-Target", format!("Kinesis_20131202.{action}"))
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("Authorization", who)
            .send(body.to_string())
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    fn put(&self, keys: std::ops::Range<u32>) {
        let records: Vec<Value> = keys.map(|key| json!({"Data": "eA==", "PartitionKey": key.to_string()})).collect();
        assert_eq!(self.kinesis("PutRecords", json!({"StreamName": "s", "Records": records}))["FailedRecordCount"], 0);
    }

    /// Reads a shard from its start until it ends or has nothing more; gives keys and children.
    fn drain(&self, shard: &str) -> (Vec<String>, Option<Vec<String>>) {
        let start = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let mut iterator = self.kinesis("GetShardIterator", start)["ShardIterator"].clone();
        let mut keys = Vec::new();
        loop {
            let answer = self.kinesis("GetRecords", json!({"ShardIterator": iterator, "Limit": 30}));
            let records = answer["Records"].as_array().unwrap();
            keys.extend(records.iter().map(|record| record["PartitionKey"].as_str().unwrap().to_owned()));
            if answer["NextShardIterator"].is_null() {
                let children = answer["ChildShards"].as_array().unwrap();
                return (keys, Some(children.iter().map(|child| child["ShardId"].as_str().unwrap().to_owned()).collect()));
            }
            if records.is_empty() {
                return (keys, None);
            }
            iterator = answer["NextShardIterator"].clone();
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // SAFETY: plain system call on a child that has not been waited for.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        drop(self.process.wait());
    }
}

#[test]
fn a_split_shard_is_read_to_its_end_and_names_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path());
    up.kinesis("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    up.put(0..100);
    let parent = "shardId-000000000000";
    let middle = (1_u128 << 127).to_string();
    up.kinesis("SplitShard", json!({"StreamName": "s", "ShardToSplit": parent, "NewStartingHashKey": middle}));
    up.put(100..200);

    let (mut keys, children) = up.drain(parent);
    assert_eq!(keys.len(), 100, "the parent keeps what it had");
    let children = children.expect("a drained, closed shard ends");
    assert_eq!(children.len(), 2);
    for child in &children {
        let (more, end) = up.drain(child);
        assert!(!more.is_empty() && end.is_none(), "{child} is open");
        keys.extend(more);
    }
    assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (200, 200));

    let shards = up.kinesis("ListShards", json!({"StreamName": "s"}));
    let ending = &shards["Shards"][0]["SequenceNumberRange"]["EndingSequenceNumber"];
    assert_eq!(ending.as_str().map(str::len), Some(56), "as long as in AWS, which no 128 bits hold");
}
