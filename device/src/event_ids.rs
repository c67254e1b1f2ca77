//! Event ids `<device>-<boot>-<sequence>`: unique over devices, restarts and readings, and the same for every repeat of
//! one reading.

use std::hash::{BuildHasher, RandomState};

pub(crate) struct EventIds {
    device: String,
    boot: String,
    last: u64,
}

impl EventIds {
    /// `start_micros` is the wall clock at the start. A Pi without network starts with a wrong clock, and may start twice
    /// with the same one, hence the random part.
    pub(crate) fn new(device: String, start_micros: u64, random: u64) -> Self {
        let boot = format!("{}{:0>4}", base36(start_micros), base36(random % 36_u64.pow(4)));
        Self { device, boot, last: 0 }
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// Sequence number and id of the next reading, until `used` is called: a row that is rejected leaves no gap.
    pub(crate) fn peek(&self) -> (u64, String) {
        let seq = self.last + 1;
        (seq, format!("{}-{}-{seq}", self.device, self.boot))
    }

    pub(crate) fn used(&mut self) {
        self.last += 1;
    }
}

/// Good enough to tell two starts apart and to spread reconnects; not for secrets. The standard library seeds each
/// `RandomState` from the operating system, so no further crate is needed.
pub(crate) fn random_u64() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn base36(mut n: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut reversed = Vec::new();
    loop {
        reversed.push(char::from(DIGITS[usize::try_from(n % 36).unwrap_or(0)]));
        n /= 36;
        if n == 0 {
            return reversed.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_and_starts_differ() {
        let mut first = EventIds::new("RTRPIIOT".to_owned(), 1_700_000_000_000_000, 5);
        assert_eq!(first.peek().1, "RTRPIIOT-gqll7vatq80005-1");
        first.used();
        assert_eq!(first.peek().1, "RTRPIIOT-gqll7vatq80005-2");
        let second = EventIds::new("RTRPIIOT".to_owned(), 1_700_000_000_000_000, 6);
        assert_ne!(second.peek().1, "RTRPIIOT-gqll7vatq80005-1");
    }

    #[test]
    fn the_longest_id_fits_into_64_characters() {
        let mut ids = EventIds::new("d".repeat(32), u64::MAX, u64::MAX);
        ids.last = 9_999_999_998;
        let (_, id) = ids.peek();
        assert!(id.len() <= 64, "{} characters", id.len());
    }
}
