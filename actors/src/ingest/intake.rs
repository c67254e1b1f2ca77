//! What becomes of a message (pure): a record for the in-stream, or a dead letter.

use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{DeadLetter, Message, OutRecord};
use crate::wire::read_reading;

/// The stage of dead letters that never reached a stream.
pub(super) const STAGE: &str = "ingest";

/// One message, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Record(OutRecord),
    Letter(DeadLetter),
}

impl Piece {
    /// Reads the `n`th message of a client. A reading goes on as it came, under its plate, as the IoT rule puts it.
    pub(super) fn of(message: Message, client: &str, n: u64) -> Self {
        match read_reading(&message.payload) {
            Ok(reading) => {
                let partition_key = reading.values[1].clone().into_owned();
                Self::Record(OutRecord { partition_key, data: message.payload })
            }
            Err(error) => Self::Letter(DeadLetter {
                stage: STAGE,
                reason: error.to_string(),
                payload: message.payload,
                stream: format!("mqtt:{client}"),
                shard: ShardId::new(&message.topic),
                position: place(n),
            }),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Record(record) => record.data.len() + record.partition_key.len(),
            Self::Letter(letter) => letter.payload.len(),
        }
    }
}

fn place(n: u64) -> Position {
    Position { sequence: SequenceNumber::parse(&n.to_string()).expect("a number is made of digits"), sub: 0 }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ports::Receipt;

    fn message(payload: &'static str) -> Message {
        Message { topic: "rtr/iot/trafficdata".into(), payload: Bytes::from(payload), receipt: Some(Receipt(1)) }
    }

    #[test]
    fn a_reading_goes_on_as_it_came_under_its_plate() {
        let text = r#"{"iottimestamp":"2020-07-01 12:00:00","licensePlate":" 4-2288B","longitude":"1","latitude":"2",
            "city":"c","state":"s","speed":"68","more":1}"#;
        let Piece::Record(record) = Piece::of(message(text), "client", 1) else { panic!("a reading") };
        assert_eq!((record.partition_key.as_str(), record.data.as_ref()), (" 4-2288B", text.as_bytes()));
    }

    #[test]
    fn what_is_no_reading_tells_topic_and_client() {
        let Piece::Letter(letter) = Piece::of(message("{}"), "IotFastCarSensor-ingest", 17) else { panic!("no reading") };
        assert_eq!(letter.source(), "mqtt:IotFastCarSensor-ingest/rtr/iot/trafficdata/17/0");
        assert_eq!((letter.stage, letter.reason.as_str()), ("ingest", "member iottimestamp is missing"));
    }
}
