//! Plates as a pure function of seed and row number, so that a file of any size has no plate twice without remembering
//! one, and readings can be drawn from drivers that were never written down.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::args::Dirt;

/// Three letters and four digits.
const CODES: u64 = 26 * 26 * 26 * 10_000;
/// Coprime to `CODES` (it is odd and no multiple of 5 or 13), so multiplying by it permutes the codes.
const STRIDE: u64 = 104_729_441;

/// Keeps the random streams of one seed apart.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Driver = 1,
    Reading = 2,
    Plate = 3,
}

/// Every row has its own random stream, so row `i` does not depend on what dirt the rows before it got.
pub(crate) fn row_rng(seed: u64, purpose: Purpose, row: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((purpose as u64) << 56));
    rng.set_stream(row);
    rng
}

/// The plate of driver `row` (from 0).
pub(crate) fn driver_plate(seed: u64, row: u64, dirt: &Dirt) -> String {
    if dirt.excel_plate && row == 499 {
        return "6.00E+272".to_owned();
    }
    let mut rng = row_rng(seed, Purpose::Plate, row);
    // Plain integer steps on u64 would overflow for absurd seeds; the offset only has to move the sequence.
    let code = (row % CODES * (STRIDE % CODES) + seed % CODES) % CODES;
    let (letters, digits) = (code / 10_000, code % 10_000);
    let letter = |n: u64| char::from(b'A' + u8::try_from(n % 26).unwrap_or(0));
    let (a, b, c) = (letter(letters / 676), letter(letters / 26), letter(letters));
    // Each shape shows the whole code and no two shapes can be confused, so distinct rows keep distinct plates.
    let mut plate = match rng.random_range(0..4) {
        _ if rng.random_bool(dirt.non_ascii) => format!("{a}{b}{c}•{digits:04}"),
        0 => format!("{a}{b}{c} {digits:04}"),
        1 => format!("{}-{:03}{a}{b}{c}", digits / 1_000, digits % 1_000),
        2 => format!("{digits:04} {a}{b}{c}"),
        _ => format!("{a}{b}{c}-{digits:04}"),
    };
    if row >= CODES {
        plate = format!("{plate}-{}", row / CODES);
    }
    plate
}

/// A plate in a shape that `driver_plate` never makes.
pub(crate) fn unknown_plate(rng: &mut ChaCha8Rng) -> String {
    let letter = |n: u8| char::from(b'A' + n);
    let (a, b) = (letter(rng.random_range(0..26)), letter(rng.random_range(0..26)));
    format!("{a}{b}-{:06}-X", rng.random_range(0..1_000_000))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::args::Dirt;

    fn dirt(non_ascii: f64) -> Dirt {
        Dirt {
            crlf: false,
            final_newline: true,
            non_ascii,
            quoted: 0.0,
            lost_zip_zeros: false,
            odd_phones: false,
            excel_plate: false,
            bad_myphone: 0.0,
            bad_rows: 0.0,
            bad_speeds: 0.0,
        }
    }

    #[test]
    fn plates_stay_unique_also_past_the_number_of_codes() {
        let mut seen = HashSet::new();
        for row in (0..20_000).chain(CODES..CODES + 5_000) {
            let plate = driver_plate(7, row, &dirt(0.1));
            assert!(plate.len() <= 64, "{plate}");
            assert!(seen.insert(plate.trim().to_uppercase()), "{plate} twice");
        }
    }

    #[test]
    fn stride_permutes_the_codes() {
        let gcd = |mut a: u64, mut b: u64| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        assert_eq!(gcd(STRIDE, CODES), 1);
    }
}
