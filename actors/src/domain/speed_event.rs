//! One speed reading, borrowed while it is judged and owned once it travels on.

use std::borrow::Cow;
use std::fmt;

use super::{EventId, LicensePlate, PlateKey, SpeedMph};

/// A valid reading that still borrows from its record, so that one under the limit costs no allocation.
#[derive(Clone)]
pub struct Reading<'a> {
    /// `iottimestamp, licensePlate, longitude, latitude, city, state, speed`: the values as received.
    pub values: [Cow<'a, str>; 7],
    /// The id that the device gave, if it gave one.
    pub given_id: Option<Cow<'a, str>>,
    /// The speed that the last value stands for.
    pub speed: SpeedMph,
}

/// A valid reading with texts of its own: one allocation holds them all.
#[derive(Clone, PartialEq, Eq)]
pub struct SpeedEvent {
    text: Box<str>,
    /// Where each of the six carried values and then the event id ends in `text`.
    ends: [u16; 7],
    speed: SpeedMph,
}

impl Reading<'_> {
    /// The id of this reading: the given one, else the derived one.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        match &self.given_id {
            Some(id) => EventId::parse(id).expect("a Reading is made only with a checked id"),
            None => EventId::derive(self.values.each_ref().map(AsRef::as_ref)),
        }
    }

    /// Copies what the outputs carry.
    #[must_use]
    pub fn to_event(&self) -> SpeedEvent {
        let [timestamp, plate, longitude, latitude, city, state, _] = self.values.each_ref().map(AsRef::as_ref);
        SpeedEvent::new([timestamp, plate, longitude, latitude, city, state], self.event_id().as_str(), self.speed)
    }
}

impl SpeedEvent {
    /// Puts an event together from checked parts: `iottimestamp, licensePlate, longitude, latitude, city, state`, the event id
    /// and the speed. `wire::reading` and `wire::published_violation` are the edges that check them.
    pub(crate) fn new(values: [&str; 6], event_id: &str, speed: SpeedMph) -> Self {
        let mut text = String::with_capacity(values.iter().map(|value| value.len()).sum::<usize>() + event_id.len());
        let mut ends = [0; 7];
        for (end, part) in ends.iter_mut().zip(values.into_iter().chain([event_id])) {
            text.push_str(part);
            *end = u16::try_from(text.len()).expect("seven checked values have far fewer than 64 KiB");
        }
        Self { text: text.into_boxed_str(), ends, speed }
    }

    fn part(&self, n: usize) -> &str {
        let start = if n == 0 { 0 } else { usize::from(self.ends[n - 1]) };
        &self.text[start..usize::from(self.ends[n])]
    }

    /// When the reading was taken, as the device wrote it.
    #[must_use]
    pub fn iottimestamp(&self) -> &str {
        self.part(0)
    }

    /// The plate as received.
    #[must_use]
    pub fn license_plate(&self) -> &str {
        self.part(1)
    }

    /// Longitude as received.
    #[must_use]
    pub fn longitude(&self) -> &str {
        self.part(2)
    }

    /// Latitude as received.
    #[must_use]
    pub fn latitude(&self) -> &str {
        self.part(3)
    }

    /// City as received.
    #[must_use]
    pub fn city(&self) -> &str {
        self.part(4)
    }

    /// State as received.
    #[must_use]
    pub fn state(&self) -> &str {
        self.part(5)
    }

    /// The id of the event.
    #[must_use]
    pub fn event_id(&self) -> &str {
        self.part(6)
    }

    /// The speed.
    #[must_use]
    pub fn speed(&self) -> SpeedMph {
        self.speed
    }

    /// What the plate is compared by.
    #[must_use]
    pub fn plate_key(&self) -> PlateKey {
        PlateKey::of(self.license_plate())
    }

    /// The plate as a value of its own.
    #[must_use]
    pub fn plate(&self) -> LicensePlate {
        LicensePlate::parse(self.license_plate()).expect("an event is made only with a checked plate")
    }
}

impl fmt::Debug for SpeedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeedEvent").field("event_id", &self.event_id()).field("speed", &self.speed).finish_non_exhaustive()
    }
}
