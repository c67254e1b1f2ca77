//! Removes what the pipeline keeps of one driver, for a request to delete personal data, and tells what nobody can remove.
//!
//! It works with the operator's own access to AWS, not through a node: no node may delete.

mod letters;
mod matching;
mod remains;
mod tables;

use serde::Serialize;
use speedtrap_actors::domain::PlateKey;

use crate::config::NodeConfig;
use crate::exit::Stop;
use crate::wiring::{Clients, archive_bucket, driver_directory};
use letters::{Letters, Places};
pub(crate) use remains::Remains;
use tables::{Claims, EventKey};

/// What there was of the driver, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Forgotten {
    pub(crate) schema: u32,
    /// Its first characters.
    pub(crate) plate: String,
    pub(crate) dry_run: bool,
    /// Deleted; in a dry run, what would be.
    pub(crate) deleted: Deleted,
    /// What should be gone and is not: the same command again, or somebody, has to see to it.
    pub(crate) kept: Vec<String>,
    /// What lies elsewhere.
    pub(crate) remains: Vec<Remains>,
}

/// Counts of what was deleted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Deleted {
    pub(crate) violations: usize,
    pub(crate) raw_events: usize,
    pub(crate) alerts: usize,
    pub(crate) dead_letters: usize,
}

/// What there is of one driver.
pub(crate) struct Traces<'a> {
    config: &'a NodeConfig,
    clients: &'a Clients,
    bucket: String,
    plate: PlateKey,
    violations: Vec<EventKey>,
    raw_events: Vec<EventKey>,
    letters: Letters,
}

impl<'a> Traces<'a> {
    /// Looks everywhere where something can be deleted.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) async fn find(config: &'a NodeConfig, clients: &'a Clients, plate: PlateKey) -> Result<Self, Stop> {
        let bucket = archive_bucket(config, clients).await?;
        let tables = &config.dynamodb;
        let events = |table: &'a str| tables::events_of(&clients.dynamodb, &clients.place, table, &plate);
        let violations = events(&tables.speeding_table).await?;
        let raw_events = match config.persist.raw_table.as_str() {
            "" => Vec::new(),
            raw => events(raw).await?,
        };
        let letters = Places { clients, table: &tables.dead_letters_table, bucket: &bucket }.find(&plate).await?;
        Ok(Self { config, clients, bucket, plate, violations, raw_events, letters })
    }

    /// Whether there is anything that can be deleted, or somebody has to look at.
    pub(crate) fn is_empty(&self) -> bool {
        let letters = &self.letters;
        self.violations.is_empty() && self.raw_events.is_empty() && letters.of_plate.is_empty() && letters.perhaps.is_empty()
    }

    /// What would be deleted. Which events have a claim shows when it is deleted.
    pub(crate) fn counts(&self) -> Deleted {
        Deleted {
            violations: self.violations.len(),
            raw_events: self.raw_events.len(),
            alerts: 0,
            dead_letters: self.letters.of_plate.len(),
        }
    }

    /// Deletes all of it. Letters go first, so that no redrive brings an event back; the claims of texts last, so that an event that
    /// is stored once more meanwhile is not texted again.
    ///
    /// # Errors
    /// When something cannot be deleted; the same again deletes the rest.
    pub(crate) async fn delete(&self) -> Result<(Deleted, Vec<String>), Stop> {
        let (dynamodb, place, tables) = (&self.clients.dynamodb, &self.clients.place, &self.config.dynamodb);
        let places = Places { clients: self.clients, table: &tables.dead_letters_table, bucket: &self.bucket };
        for letter in &self.letters.of_plate {
            places.delete(letter).await?;
        }
        tables::delete_events(dynamodb, place, &tables.speeding_table, &self.violations).await?;
        if !self.raw_events.is_empty() {
            tables::delete_events(dynamodb, place, &self.config.persist.raw_table, &self.raw_events).await?;
        }
        let Claims { deleted: alerts, busy } =
            tables::delete_claims(dynamodb, place, &tables.alerts_table, self.event_ids()).await?;
        let mut kept = self.perhaps();
        if busy > 0 {
            kept.push(format!("{busy} texts are being sent at this moment; run the same command again in a minute"));
        }
        Ok((Deleted { alerts, ..self.counts() }, kept))
    }

    /// Letters that somebody has to look at.
    pub(crate) fn perhaps(&self) -> Vec<String> {
        let look = |id: &String| {
            format!(
                "dead letter {id} cannot be read, but has the plate's characters in it; look with `speedtrap dead-letters show {id}`"
            )
        };
        self.letters.perhaps.iter().map(look).collect()
    }

    /// What lies where nothing can be deleted.
    ///
    /// # Errors
    /// When a stream or the archive cannot be looked at.
    pub(crate) async fn remains(&self) -> Result<Vec<Remains>, Stop> {
        let mut remains = remains::find(self.config, self.clients, &self.bucket, &self.plate).await?;
        remains.extend(self.in_warehouse().await);
        Ok(remains)
    }

    /// The driver's own row is the loader's, and comes back with the next load of a file that has it.
    async fn in_warehouse(&self) -> Option<Remains> {
        let directory = match driver_directory(self.config, self.clients).await {
            Ok(directory) => directory,
            Err(stop) => return Some(warehouse(&format!("not looked at: {stop}"))),
        };
        match directory.drivers(std::slice::from_ref(&self.plate)).await {
            Ok(drivers) if drivers.is_empty() => None,
            Ok(_) => Some(warehouse("the driver's row: the next violation is texted again")),
            Err(failure) => Some(warehouse(&format!("not looked at: {failure}"))),
        }
    }

    fn event_ids(&self) -> Vec<String> {
        let of_events = self.violations.iter().chain(&self.raw_events).map(|key| key.event_id.clone());
        let of_letters = self.letters.of_plate.iter().filter_map(|letter| letter.event_id.clone());
        let mut ids: Vec<String> = of_events.chain(of_letters).collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

fn warehouse(what: &str) -> Remains {
    let next = "delete the driver's row there and from the next drivers file, before or right after this";
    Remains { place: "warehouse".to_owned(), what: what.to_owned(), until: None, next: Some(next.to_owned()) }
}
