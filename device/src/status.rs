//! Whether the device is connected, as a retained message that any subscriber finds on its status topic.
//!
//! The broker itself publishes the last will when the connection breaks; the device says the same when it ends in good
//! order, since a proper farewell makes the broker forget the will.

use rumqttc::{AsyncClient, LastWill, QoS};
use serde::Serialize;

pub(crate) struct Status {
    topic: String,
    device: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    device_id: &'a str,
    status: &'a str,
    /// Readings on disk and not acknowledged; a broker that speaks for the device does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
}

impl Status {
    pub(crate) fn new(topic: String, device: String) -> Self {
        Self { topic, device }
    }

    pub(crate) fn last_will(&self) -> LastWill {
        LastWill::new(&self.topic, self.message("offline", None), QoS::AtLeastOnce, true)
    }

    pub(crate) fn tell_online(&self, client: &AsyncClient, waiting: u64) {
        self.tell(client, self.message("online", Some(waiting)));
    }

    pub(crate) fn tell_offline(&self, client: &AsyncClient, waiting: u64) {
        self.tell(client, self.message("offline", Some(waiting)));
    }

    /// QoS 0, so that no acknowledgement of it is mixed with those of readings; the next connection tells it again.
    fn tell(&self, client: &AsyncClient, message: Vec<u8>) {
        drop(client.try_publish(self.topic.as_str(), QoS::AtMostOnce, true, message));
    }

    fn message(&self, status: &str, waiting: Option<u64>) -> Vec<u8> {
        serde_json::to_vec(&Message { device_id: &self.device, status, waiting }).unwrap_or_default()
    }
}
