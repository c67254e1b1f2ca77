//! The text that the driver gets.

use std::fmt::Write;

use crate::domain::PublishedViolation;

/// A text with the places where a violation's values go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    FirstName,
    LastName,
    LicensePlate,
    City,
    State,
    Speed,
    Longitude,
    Latitude,
    Timestamp,
    EventId,
}

const VALUES: [(&str, Value); 10] = [
    ("first_name", Value::FirstName),
    ("last_name", Value::LastName),
    ("licensePlate", Value::LicensePlate),
    ("city", Value::City),
    ("state", Value::State),
    ("speed", Value::Speed),
    ("longitude", Value::Longitude),
    ("latitude", Value::Latitude),
    ("iottimestamp", Value::Timestamp),
    ("eventId", Value::EventId),
];

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace has no partner.
    #[error("`{{` without `}}` after byte {0}")]
    Unclosed(usize),
    /// A name that no violation has.
    #[error(
        "`{{{0}}}` is not a value; known are first_name, last_name, licensePlate, city, state, speed, longitude, latitude, iottimestamp, eventId"
    )]
    Unknown(String),
}

impl SmsTemplate {
    /// The default text.
    pub const DEFAULT: &str = "To {first_name} {last_name}, \n Your vehicle with licenseplate {licensePlate} was clocked with speed above the permissible limit at {city},{state}\n Clocked speed {speed} \n Geo location {longitude}, {latitude} \n Time {iottimestamp}.";

    /// Reads a template with `{name}` where a value goes.
    ///
    /// # Errors
    /// When a brace is not closed or a name is not known.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or(TemplateError::Unclosed(template.len() - rest.len() + open))? + open;
            let name = &rest[open + 1..close];
            let value = VALUES.iter().find(|(known, _)| *known == name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?.1;
            pieces.extend([Piece::Text(rest[..open].to_owned()), Piece::Value(value)]);
            rest = &rest[close + 1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// Fills the template. Braces inside values stay as they are.
    #[must_use]
    pub fn fill(&self, violation: &PublishedViolation) -> String {
        let (event, driver) = (&violation.event, &violation.driver);
        let mut text = String::with_capacity(256);
        for piece in &self.0 {
            match piece {
                Piece::Text(words) => text.push_str(words),
                Piece::Value(Value::Speed) => write!(text, "{}", event.speed()).expect("writing to a String cannot fail"),
                Piece::Value(value) => text.push_str(match value {
                    Value::FirstName => &driver.first_name,
                    Value::LastName => &driver.last_name,
                    Value::LicensePlate => event.license_plate(),
                    Value::City => event.city(),
                    Value::State => event.state(),
                    Value::Longitude => event.longitude(),
                    Value::Latitude => event.latitude(),
                    Value::Timestamp => event.iottimestamp(),
                    Value::EventId => event.event_id(),
                    Value::Speed => unreachable!("handled above"),
                }),
            }
        }
        text
    }
}

impl Default for SmsTemplate {
    fn default() -> Self {
        Self::parse(Self::DEFAULT).expect("the default template is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Driver, SpeedEvent, SpeedMph};

    fn violation() -> PublishedViolation {
        let speed = SpeedMph::new(76).expect("a speed");
        let event = SpeedEvent::new(
            ["2020-07-01 12:00:00.123456", "4-2288B", "101.766855", "79.694526", "West {state}", "Iowa"],
            "e-1",
            speed,
        );
        PublishedViolation {
            event,
            driver: Driver { first_name: "Ada".into(), last_name: "Example".into(), myphone: "2025550123".into() },
        }
    }

    #[test]
    fn the_default_text_is_the_agreed_one() {
        assert_eq!(
            SmsTemplate::default().fill(&violation()),
            "To Ada Example, \n Your vehicle with licenseplate 4-2288B was clocked with speed above the permissible limit at West {state},Iowa\n Clocked speed 76 \n Geo location 101.766855, 79.694526 \n Time 2020-07-01 12:00:00.123456."
        );
    }

    #[test]
    fn bad_templates_are_refused_with_the_reason() {
        assert_eq!(SmsTemplate::parse("hello {name}"), Err(TemplateError::Unknown("name".to_owned())));
        assert_eq!(SmsTemplate::parse("hello {city} {"), Err(TemplateError::Unclosed(13)));
    }
}
