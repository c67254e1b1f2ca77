//! Event ids `<device>-<boot>-<sequence>`: unique over devices, restarts and readings, and the same for every repeat of
//! one reading.

use std::hash::{BuildHasher, RandomState};

pub(crate) struct EventIds {
    device: String,
    boot: String,
}

impl EventIds {
    /// `start_micros` is the wall clock at the start. A Pi without network starts with a wrong clock, and may start twice
    /// with the same one, hence the random part. The sequence number goes on over restarts, as long as the outbox is kept;
    /// with a new one it begins anew, and the boot part keeps the ids apart.
    pub(crate) fn new(device: String, start_micros: u64, random: u64) -> Self {
        let boot = format!("{}{:0>4}", base36(start_micros), base36(random % 36_u64.pow(4)));
        Self { device, boot }
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(crate) fn id(&self, seq: u64) -> String {
        format!("{}-{}-{seq}", self.device, self.boot)
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
    fn ids_of_two_starts_differ_also_with_the_same_clock() {
        let first = EventIds::new("RTRPIIOT".to_owned(), 1_700_000_000_000_000, 5);
        assert_eq!(first.id(1), "RTRPIIOT-gqll7vatq80005-1");
        assert_eq!(first.id(2), "RTRPIIOT-gqll7vatq80005-2");
        let second = EventIds::new("RTRPIIOT".to_owned(), 1_700_000_000_000_000, 6);
        assert_ne!(second.id(1), first.id(1));
    }

    #[test]
    fn the_longest_id_fits_into_64_characters() {
        let id = EventIds::new("d".repeat(32), u64::MAX, u64::MAX).id(9_999_999_999);
        assert!(id.len() <= 64, "{} characters", id.len());
    }
}
