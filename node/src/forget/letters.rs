//! The dead letters of one plate: rows, and the objects of payloads that were too long for a row.

use aws_sdk_dynamodb::types::AttributeValue;
use speedtrap_actors::domain::PlateKey;

use super::matching::{About, about};
use crate::exit::Stop;
use crate::wiring::{Clients, refusal};

/// A letter of the plate.
#[derive(Debug)]
pub(super) struct Letter {
    id: String,
    object: Option<String>,
    pub(super) event_id: Option<String>,
}

/// What the table of letters holds.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) of_plate: Vec<Letter>,
    /// Letters that may be about it: somebody has to look.
    pub(super) perhaps: Vec<String>,
}

/// Where letters and their payloads are.
pub(super) struct Places<'a> {
    pub(super) clients: &'a Clients,
    pub(super) table: &'a str,
    pub(super) bucket: &'a str,
}

impl Places<'_> {
    pub(super) async fn find(&self, plate: &PlateKey) -> Result<Letters, Stop> {
        let scan = self.clients.dynamodb.scan().table_name(self.table).consistent_read(true);
        let mut pages = scan.projection_expression("letterId, payload, payloadObject").into_paginator().send();
        let mut letters = Letters::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.refused("read", &error))?;
            for item in page.items() {
                let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
                let Some(id) = text("letterId") else { continue };
                let object = text("payloadObject");
                let in_row =
                    item.get("payload").and_then(|value| value.as_b().ok()).map(|blob| blob.as_ref()).unwrap_or_default();
                let whole = match &object {
                    Some(key) => Some(self.payload(key).await?),
                    None => None,
                };
                match about(whole.as_deref().unwrap_or(in_row), plate) {
                    About::This(event_id) => letters.of_plate.push(Letter { id, object, event_id }),
                    About::Perhaps => letters.perhaps.push(id),
                    About::Another => {}
                }
            }
        }
        Ok(letters)
    }

    /// The payload first: a row without its object still says what is missing, an object without its row is found by nobody.
    pub(super) async fn delete(&self, letter: &Letter) -> Result<(), Stop> {
        if let Some(key) = &letter.object {
            let deleted = self.clients.s3.delete_object().bucket(self.bucket).key(key).send().await;
            deleted.map_err(|error| {
                refusal(&format!("cannot delete `{key}` from `{}`", self.bucket), &error, &self.clients.place)
            })?;
        }
        let key = AttributeValue::S(letter.id.clone());
        let deleted = self.clients.dynamodb.delete_item().table_name(self.table).key("letterId", key).send().await;
        deleted.map(drop).map_err(|error| self.refused("delete from", &error))
    }

    async fn payload(&self, key: &str) -> Result<Vec<u8>, Stop> {
        let object = self.clients.s3.get_object().bucket(self.bucket).key(key).send().await;
        let object = object.map_err(|error| refusal(&format!("cannot read `{key}`"), &error, &self.clients.place))?;
        let bytes = object.body.collect().await;
        let failed = |error| Stop::new(crate::exit::Exit::Unreachable, format!("`{key}` broke off")).why(error);
        Ok(bytes.map_err(failed)?.to_vec())
    }

    fn refused<E, R>(&self, what: &str, error: &aws_sdk_dynamodb::error::SdkError<E, R>) -> Stop
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        refusal(&format!("cannot {what} table `{}`", self.table), error, &self.clients.place)
    }
}
