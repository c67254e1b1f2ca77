//! What plain clients see of the same streams and tables, and what the README's statements must say of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use aws_sdk_kinesis::types::Record;
use serde_json::{Value, json};
use speedtrap_actors::testing::aggregated_record;
use speedtrap_tests::evidence::{Evidence, SPEEDING_TABLE, items};
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, ERROR_STREAM, IN_STREAM, OUT_STREAM};

use super::examples::UNDELIVERED;

/// What plain clients see.
pub(super) struct Seen {
    /// What is on the in-stream; `None` for what is no reading.
    pub(super) readings: Vec<Option<Value>>,
    pub(super) violations: Vec<Value>,
    pub(super) errors: usize,
    pub(super) evidence: Evidence,
    /// Plates and event ids of the table.
    pub(super) stored: Vec<(String, String)>,
    /// The state of each driver, by plate.
    pub(super) drivers: BTreeMap<String, String>,
    pub(super) shard_of: BTreeMap<String, usize>,
    pub(super) bad_of: BTreeMap<String, usize>,
}

impl Seen {
    pub(super) async fn look(sandbox: &Sandbox) -> Result<Self> {
        let kinesis = &sandbox.clients.kinesis;
        let (mut shard_of, mut bad_of, mut readings) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (shard, records) in streams::records_by_shard(kinesis, IN_STREAM).await? {
            let events: Vec<_> = records.iter().flat_map(events).collect();
            shard_of.insert(shard.clone(), events.len());
            bad_of.insert(shard, events.iter().filter(|event| event.is_none()).count());
            readings.extend(events);
        }
        let violations = streams::all_records(kinesis, OUT_STREAM).await?;
        let violations =
            violations.iter().map(|record| Ok(serde_json::from_slice(record.data.as_ref())?)).collect::<Result<_>>()?;
        let text = |item: &std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>, name: &str| {
            item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
        };
        let stored = items(&sandbox.clients.dynamodb, SPEEDING_TABLE).await?;
        let (client, connection) = tokio_postgres::connect(&sandbox.endpoints.warehouse_url, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let drivers = client.query("SELECT licenseplate, state FROM public.rtr_iot_driver_data", &[]).await?;
        let drivers = drivers.iter().map(|row| (row.get(0), row.get(1))).collect();
        drop(client);
        connection.await??;
        Ok(Self {
            readings,
            violations,
            errors: streams::all_records(kinesis, ERROR_STREAM).await?.len(),
            evidence: sandbox.evidence().await?,
            stored: stored.iter().map(|item| (text(item, "licensePlate"), text(item, "eventId"))).collect(),
            drivers,
            shard_of,
            bad_of,
        })
    }

    /// What an example must tell.
    pub(super) fn expected(&self, title: &str) -> Result<Vec<Value>> {
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Ok(match title {
            "where people speed, over the last quarter of an hour" => {
                let mut cities = BTreeMap::<String, (u64, u64)>::new();
                for violation in &self.violations {
                    let (count, fastest) = cities.entry(text(violation, "city")).or_default();
                    *count += 1;
                    *fastest = (*fastest).max(violation["speed"].as_u64().unwrap_or_default());
                }
                cities
                    .into_iter()
                    .map(|(city, (n, max))| json!({"city": city, "count(*)": n, "max(violations.speed)": max}))
                    .collect()
            }
            "what each shard got, and how much of it is no reading" => {
                let row = |(shard, n): (&String, &usize)| json!({"shard": shard, "records": n, "bad": self.bad_of[shard]});
                self.shard_of.iter().map(row).collect()
            }
            "the share of violations by state" => {
                let mut states = BTreeMap::<String, (u64, u64)>::new();
                for event in self.readings.iter().flatten() {
                    let (all, above) = states.entry(text(event, "state")).or_default();
                    *all += 1;
                    *above += u64::from(text(event, "speed").parse::<u64>()? > 75);
                }
                states.into_iter().map(|(state, (all, above))| json!({"state": state, "readings": all, "above": above})).collect()
            }
            "how many drivers were caught how often, with no plate shown" => {
                let mut plates = BTreeMap::<String, BTreeSet<String>>::new();
                for violation in &self.violations {
                    plates.entry(text(violation, "licensePlate")).or_default().insert(text(violation, "eventId"));
                }
                let mut times = BTreeMap::<usize, u64>::new();
                plates.values().for_each(|events| *times.entry(events.len()).or_default() += 1);
                times.into_iter().map(|(times, plates)| json!({"times": times, "plates": plates})).collect()
            }
            "why the rule could not deliver" => {
                let reason = |why: &str| format!("IoT rule rtr_iot_trafficdata failed: KinesisAction: {why}");
                ensure!(self.errors == UNDELIVERED, "{} records are on the error stream", self.errors);
                vec![
                    json!({"reason": reason("no plate"), "messages": 1}),
                    json!({"reason": reason("too long"), "messages": UNDELIVERED - 1}),
                ]
            }
            "violations by the state where the car is registered" => {
                let mut states = BTreeMap::<&str, u64>::new();
                for (plate, _) in &self.stored {
                    if let Some(state) = self.drivers.get(plate) {
                        *states.entry(state).or_default() += 1;
                    }
                }
                states.into_iter().map(|(state, n)| json!({"state": state, "violations": n})).collect()
            }
            "texted, but not in the archive yet" => {
                let published = self.evidence.published.keys();
                let missing = published.filter(|id| !self.evidence.archived.contains_key(*id)).count();
                vec![json!({"missing": missing})]
            }
            other => bail!("nobody counts what the README's `{other}` must tell"),
        })
    }
}

/// What stands in a record: one reading, several, or something else.
fn events(record: &Record) -> Vec<Option<Value>> {
    let (aggregated, inside) = aggregated_record();
    let event = |data: &[u8]| {
        let value: Value = serde_json::from_slice(data).ok()?;
        value["licensePlate"].is_string().then_some(value)
    };
    if record.data.as_ref() == aggregated {
        return inside.iter().map(|reading| event(reading.as_bytes())).collect();
    }
    vec![event(record.data.as_ref())]
}
