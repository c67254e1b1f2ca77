//! Making a small DynamoDB table: one key attribute, paid by request.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};

use super::failure::Caller;
use crate::ports::RemoteFailure;

/// DynamoDB makes a small table in a few seconds; a minute means that something is wrong.
pub(super) const MOST_CREATION: Duration = Duration::from_secs(60);
/// Time between two looks at a table that is being made.
pub(super) const CREATION_POLL: Duration = Duration::from_millis(250);

/// Begins to make the table. One that another node is making at the same time is fine.
///
/// # Errors
/// When the table cannot be made.
pub(super) async fn create_table(client: &Client, caller: &Caller, table: &str, key_name: &str) -> Result<(), RemoteFailure> {
    let key = KeySchemaElement::builder().attribute_name(key_name).key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder().attribute_name(key_name).attribute_type(ScalarAttributeType::S);
    let (key, attribute) = (key.build().expect("name and type are given"), attribute.build().expect("name and type are given"));
    let made = caller.retried("dynamodb CreateTable", || {
        client
            .create_table()
            .table_name(table)
            .key_schema(key.clone())
            .attribute_definitions(attribute.clone())
            .billing_mode(BillingMode::PayPerRequest)
            .send()
    });
    match made.await {
        Ok(_) => Ok(()),
        Err(failed) if failed.code == "ResourceInUseException" => Ok(()),
        Err(failed) => Err(failed.failure),
    }
}
