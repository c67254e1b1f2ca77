//! A Firehose that does what no emulator does: it refuses single records, throttles, loses its answer after it has taken the
//! records in, and delivers late, twice and out of order. What it takes in goes into the real bucket of a local cloud.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

const PREFIX: &str = "drivers/";

/// How often what goes wrong; shares are of calls, or of records where that is said.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Of records: not taken in, with an error of their own.
    pub failed_records: f64,
    /// The call is refused as a whole.
    pub throttled: f64,
    /// All is taken in, and the connection is cut before the answer.
    pub lost_answers: f64,
    /// Of records: delivered twice, in two objects.
    pub duplicates: f64,
    /// Of records: a row of another load and a line of junk stand in the same object.
    pub mixed: f64,
    /// Objects come after a while of up to this, so that later ones overtake earlier ones.
    pub latest: Duration,
}

/// What it did.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub calls: u64,
    pub throttled: u64,
    pub failed_records: u64,
    pub lost_answers: u64,
    pub records: u64,
    pub objects: u64,
    /// Calls beyond Firehose's limits.
    pub violations: Vec<String>,
}

/// A running one; it ends when this is dropped.
pub struct ScriptedFirehose {
    pub url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    faults: Mutex<Faults>,
    facts: Mutex<Facts>,
    random: Mutex<SmallRng>,
    s3: aws_sdk_s3::Client,
    bucket: String,
    deliveries: Mutex<JoinSet<()>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordBatch {
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    data: String,
}

impl ScriptedFirehose {
    /// Starts one that delivers into a bucket.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(s3: aws_sdk_s3::Client, bucket: &str, faults: Faults) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port is free")?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            faults: Mutex::new(faults),
            facts: Mutex::default(),
            random: Mutex::new(SmallRng::seed_from_u64(7)),
            s3,
            bucket: bucket.to_owned(),
            deliveries: Mutex::default(),
        });
        let router = Router::new()
            .route("/", post(put_record_batch))
            .layer(axum::extract::DefaultBodyLimit::max(16 << 20))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // It serves until it is aborted.
            let _never = axum::serve(listener, router).await;
        });
        Ok(Self { url, shared, serving })
    }

    /// From now on this goes wrong.
    pub fn set(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// What it has done so far.
    #[must_use]
    pub fn facts(&self) -> Facts {
        lock(&self.shared.facts).clone()
    }
}

impl Drop for ScriptedFirehose {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn happens(&self, share: f64) -> bool {
        lock(&self.random).random_bool(share)
    }

    /// Puts the object after a while; its key says nothing about time.
    fn deliver(self: &Arc<Self>, content: Vec<u8>, faults: &Faults) {
        let mut random = lock(&self.random);
        let key = format!("{PREFIX}{:016x}", random.random::<u64>());
        let wait = faults.latest.mul_f64(random.random_range(0.0..=1.0));
        drop(random);
        let shared = Arc::clone(self);
        lock(&self.deliveries).spawn(async move {
            tokio::time::sleep(wait).await;
            let put = shared.s3.put_object().bucket(&shared.bucket).key(key).body(content.into()).send().await;
            match put {
                Ok(_) => lock(&shared.facts).objects += 1,
                Err(error) => lock(&shared.facts).violations.push(format!("an object was not put: {error:?}")),
            }
        });
    }
}

async fn put_record_batch(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let faults = lock(&shared.faults).clone();
    lock(&shared.facts).calls += 1;
    if shared.happens(faults.throttled) {
        lock(&shared.facts).throttled += 1;
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "ServiceUnavailableException", "Slow down.");
    }
    let Ok(call) = serde_json::from_slice::<PutRecordBatch>(&body) else {
        return refused(StatusCode::BAD_REQUEST, "SerializationException", "the body is no PutRecordBatch");
    };
    let decoded: Result<Vec<Vec<u8>>, _> = call.records.iter().map(|record| STANDARD.decode(&record.data)).collect();
    let Ok(records) = decoded else {
        return refused(StatusCode::BAD_REQUEST, "SerializationException", "a record is not base64");
    };
    let bytes: usize = records.iter().map(Vec::len).sum();
    if records.len() > 500 || bytes > 4 << 20 || records.iter().any(|record| record.len() > 1000 << 10) {
        let what = format!("{} records of {bytes} bytes", records.len());
        lock(&shared.facts).violations.push(what.clone());
        return refused(StatusCode::BAD_REQUEST, "InvalidArgumentException", &what);
    }
    let mut outcomes = Vec::new();
    let mut n_failed = 0;
    for record in records {
        if shared.happens(faults.failed_records) {
            n_failed += 1;
            outcomes.push(json!({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}));
            continue;
        }
        outcomes.push(json!({"RecordId": "scripted"}));
        take_in(&shared, record, &faults);
    }
    lock(&shared.facts).failed_records += n_failed;
    if shared.happens(faults.lost_answers) {
        lock(&shared.facts).lost_answers += 1;
        // Unwinding ends the connection without an answer, and says nothing to the log.
        std::panic::resume_unwind(Box::new("the answer is lost"));
    }
    axum::Json(json!({"FailedPutCount": n_failed, "Encrypted": false, "RequestResponses": outcomes})).into_response()
}

fn take_in(shared: &Arc<Shared>, mut record: Vec<u8>, faults: &Faults) {
    lock(&shared.facts).records += 1;
    if shared.happens(faults.duplicates) {
        shared.deliver(record.clone(), faults);
    }
    if shared.happens(faults.mixed) {
        record.extend_from_slice(b"{\"_load_id\":\"another load\",\"_src_line\":2,\"licenseplate\":\"X\"}\nnot even JSON\n");
    }
    shared.deliver(record, faults);
}

fn refused(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({"__type": kind, "message": message}).to_string();
    (status, [("content-type", "application/x-amz-json-1.1")], body).into_response()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A connection that is cut on purpose holds no lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
