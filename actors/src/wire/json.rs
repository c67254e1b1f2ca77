//! The strict object reader that all stream formats share: no duplicate names, bounded depth, numbers kept as their text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of a record; the record's own object is level 1.
const MAX_DEPTH: usize = 32;

/// The wanted members of an object, each with its raw JSON.
pub(super) type Members<'a, const N: usize> = [Option<&'a RawValue>; N];

/// Reads one JSON object and picks out the members called `names`. Names may not repeat at any level, whether wanted or not.
pub(super) fn read_object<'a, const N: usize>(
    data: &'a [u8],
    names: &'static [&'static str; N],
) -> Result<Members<'a, N>, String> {
    let text = std::str::from_utf8(data).map_err(|e| format!("not UTF-8 (at byte {})", e.valid_up_to()))?;
    if !text.trim_start().starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Wanted { names }).map_err(|e| shown(&e))?;
    json.end().map_err(|e| shown(&e))?;
    Ok(members)
}

/// serde's message quotes no more of the record than a member's name or one character.
fn shown(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if text.len() > 200 {
        text.truncate(text.char_indices().map(|(at, _)| at).take_while(|at| *at <= 200).last().unwrap_or(0));
    }
    if error.is_data() { text } else { format!("not JSON: {text}") }
}

/// The text of a string or number; a number keeps its text as it stands in the record.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    match json.as_bytes().first()? {
        b'"' if !json.contains('\\') => Some(Cow::Borrowed(&json[1..json.len() - 1])),
        b'"' => serde_json::from_str(json).ok().map(Cow::Owned),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(json)),
        _ => None,
    }
}

struct Wanted<const N: usize> {
    names: &'static [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for Wanted<N> {
    type Value = Members<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        let mut others: Vec<Cow<'de, str>> = Vec::new();
        while let Some(Name(name)) = map.next_key_seed(NameSeed)? {
            let value: &'de RawValue = map.next_value()?;
            if matches!(value.get().as_bytes().first(), Some(b'{' | b'[')) {
                check_nested(value.get()).map_err(A::Error::custom)?;
            }
            match self.names.iter().position(|wanted| *wanted == name) {
                Some(at) if found[at].is_none() => found[at] = Some(value),
                None if !others.contains(&name) => others.push(name),
                _ => return Err(A::Error::custom("a member name occurs twice")),
            }
        }
        Ok(found)
    }
}

/// A name that borrows from the record unless it holds escapes.
struct Name<'a>(Cow<'a, str>);

struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

fn check_nested(json: &str) -> Result<(), String> {
    let mut nested = serde_json::Deserializer::from_str(json);
    Nested { depth: 2 }.deserialize(&mut nested).map_err(|e| e.to_string())
}

/// Walks a nested value that nobody wants, only to hold it to the same rules.
struct Nested {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let raw: &'de RawValue = serde::Deserialize::deserialize(deserializer)?;
        let json = raw.get();
        if !matches!(json.as_bytes().first(), Some(b'{' | b'[')) {
            return Ok(());
        }
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        let mut inner = serde_json::Deserializer::from_str(json);
        inner.deserialize_any(self).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names: std::collections::HashSet<Cow<'de, str>> = std::collections::HashSet::new();
        while let Some(Name(name)) = map.next_key_seed(NameSeed)? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member name occurs twice"));
            }
            map.next_value_seed(Self { depth: self.depth + 1 })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self { depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }
}
