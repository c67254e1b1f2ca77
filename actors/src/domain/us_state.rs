//! The states of the USA, as readings name them.

/// One of the 50 states or the District of Columbia.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsState(u8);

struct Row {
    name: &'static str,
    code: &'static str,
    /// West, south, east and north in degrees. A box whose west lies east of its east crosses the 180th meridian.
    within: [f64; 4],
}

/// By name, and so by the first letter of name and code alike. The boxes are the extents that the Census Bureau publishes for its
/// cartographic boundaries (<https://www.census.gov/geographies/mapping-files/time-series/geo/cartographic-boundary.html>), rounded
/// to hundredths.
const ROWS: [Row; UsState::COUNT] = [
    state("Alabama", "AL", [-88.48, 30.14, -84.88, 35.01]),
    state("Alaska", "AK", [172.4, 51.2, -129.97, 71.44]),
    state("Arizona", "AZ", [-114.82, 31.33, -109.04, 37.01]),
    state("Arkansas", "AR", [-94.62, 33.0, -89.64, 36.5]),
    state("California", "CA", [-124.49, 32.53, -114.13, 42.01]),
    state("Colorado", "CO", [-109.06, 36.99, -102.04, 41.01]),
    state("Connecticut", "CT", [-73.73, 40.95, -71.78, 42.06]),
    state("Delaware", "DE", [-75.79, 38.45, -74.98, 39.84]),
    state("District of Columbia", "DC", [-77.12, 38.79, -76.9, 39.0]),
    state("Florida", "FL", [-87.64, 24.39, -79.97, 31.01]),
    state("Georgia", "GA", [-85.61, 30.35, -80.75, 35.01]),
    state("Hawaii", "HI", [-178.45, 18.86, -154.75, 28.52]),
    state("Idaho", "ID", [-117.25, 41.98, -111.04, 49.01]),
    state("Illinois", "IL", [-91.52, 36.97, -87.01, 42.51]),
    state("Indiana", "IN", [-88.1, 37.77, -84.78, 41.77]),
    state("Iowa", "IA", [-96.64, 40.37, -90.14, 43.51]),
    state("Kansas", "KS", [-102.06, 36.99, -94.58, 40.01]),
    state("Kentucky", "KY", [-89.58, 36.49, -81.96, 39.15]),
    state("Louisiana", "LA", [-94.05, 28.85, -88.75, 33.02]),
    state("Maine", "ME", [-71.09, 42.92, -66.88, 47.46]),
    state("Maryland", "MD", [-79.49, 37.88, -74.98, 39.73]),
    state("Massachusetts", "MA", [-73.51, 41.18, -69.85, 42.89]),
    state("Michigan", "MI", [-90.42, 41.69, -82.12, 48.31]),
    state("Minnesota", "MN", [-97.24, 43.49, -89.48, 49.39]),
    state("Mississippi", "MS", [-91.66, 30.13, -88.09, 35.01]),
    state("Missouri", "MO", [-95.78, 35.99, -89.09, 40.62]),
    state("Montana", "MT", [-116.06, 44.35, -104.03, 49.01]),
    state("Nebraska", "NE", [-104.06, 39.99, -95.3, 43.01]),
    state("Nevada", "NV", [-120.01, 35.0, -114.03, 42.01]),
    state("New Hampshire", "NH", [-72.56, 42.69, -70.57, 45.31]),
    state("New Jersey", "NJ", [-75.57, 38.78, -73.88, 41.36]),
    state("New Mexico", "NM", [-109.06, 31.33, -102.99, 37.01]),
    state("New York", "NY", [-79.77, 40.47, -71.77, 45.02]),
    state("North Carolina", "NC", [-84.33, 33.75, -75.4, 36.59]),
    state("North Dakota", "ND", [-104.05, 45.93, -96.55, 49.01]),
    state("Ohio", "OH", [-84.83, 38.4, -80.51, 42.33]),
    state("Oklahoma", "OK", [-103.01, 33.61, -94.43, 37.01]),
    state("Oregon", "OR", [-124.71, 41.98, -116.46, 46.3]),
    state("Pennsylvania", "PA", [-80.52, 39.71, -74.68, 42.52]),
    state("Rhode Island", "RI", [-71.91, 41.09, -71.08, 42.02]),
    state("South Carolina", "SC", [-83.36, 32.03, -78.49, 35.22]),
    state("South Dakota", "SD", [-104.06, 42.47, -96.43, 45.95]),
    state("Tennessee", "TN", [-90.32, 34.98, -81.64, 36.68]),
    state("Texas", "TX", [-106.65, 25.83, -93.5, 36.51]),
    state("Utah", "UT", [-114.06, 36.99, -109.03, 42.01]),
    state("Vermont", "VT", [-73.44, 42.72, -71.46, 45.02]),
    state("Virginia", "VA", [-83.68, 36.54, -75.16, 39.47]),
    state("Washington", "WA", [-124.85, 45.54, -116.91, 49.01]),
    state("West Virginia", "WV", [-82.65, 37.2, -77.71, 40.64]),
    state("Wisconsin", "WI", [-92.89, 42.49, -86.24, 47.31]),
    state("Wyoming", "WY", [-111.06, 40.99, -104.05, 45.01]),
];

/// Where the states of each letter begin, and after the last one where they end.
const STARTS: [u8; 27] = starts();

const fn state(name: &'static str, code: &'static str, within: [f64; 4]) -> Row {
    Row { name, code, within }
}

const fn starts() -> [u8; 27] {
    let mut starts = [0; 27];
    let (mut letter, mut at) = (0, 0);
    while letter < 27 {
        while at < ROWS.len() && ROWS[at].name.as_bytes()[0] < b'A' + letter {
            at += 1;
        }
        starts[letter as usize] = at as u8;
        letter += 1;
    }
    starts
}

impl UsState {
    /// How many there are.
    pub const COUNT: usize = 51;

    /// All of them, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// The state that a text means: its name or its postal code in letters of any case, blanks around it aside. It allocates
    /// nothing, since it is asked for every reading.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let text = text.trim();
        let letter = text.as_bytes().first()?.to_ascii_uppercase().checked_sub(b'A').filter(|letter| *letter < 26)?;
        let (from, to) = (STARTS[usize::from(letter)], STARTS[usize::from(letter) + 1]);
        let means = |row: &Row| (if text.len() == 2 { row.code } else { row.name }).eq_ignore_ascii_case(text);
        (from..to).find(|at| means(&ROWS[usize::from(*at)])).map(Self)
    }

    /// Its place among all, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its postal code.
    #[must_use]
    pub fn code(self) -> &'static str {
        ROWS[self.index()].code
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ROWS[self.index()].name
    }

    /// Whether a point lies in the box around the state. One outside certainly lies outside the state, one inside may do so.
    #[must_use]
    pub fn may_hold(self, longitude: f64, latitude: f64) -> bool {
        let [west, south, east, north] = ROWS[self.index()].within;
        let is_between = if west <= east {
            (west..=east).contains(&longitude)
        } else {
            (west..=180.0).contains(&longitude) || (-180.0..=east).contains(&longitude)
        };
        is_between && (south..=north).contains(&latitude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_found_by_name_and_code_in_any_case() {
        assert_eq!(UsState::all().count(), UsState::COUNT);
        for state in UsState::all() {
            for text in [state.name(), state.code()] {
                for text in [text.to_owned(), text.to_lowercase(), text.to_uppercase(), format!("\t {text} ")] {
                    assert_eq!(UsState::named(&text), Some(state), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_names_no_state_is_none() {
        for text in ["", " ", "XX", "I", "Iow", "Iowa City", "Puerto Rico", "PR", "Ünited", "[A", "@", "{z", "New York\0", "ＩＡ"]
        {
            assert_eq!(UsState::named(text), None, "{text}");
        }
    }

    #[test]
    fn points_are_judged_by_the_box_of_the_state() {
        let named = |name| UsState::named(name).expect("a state");
        assert!(named("Massachusetts").may_hold(-71.057_083, 42.361_145));
        assert!(!named("Massachusetts").may_hold(-93.6, 41.6) && named("IA").may_hold(-93.6, 41.6));
        assert!(
            named("AK").may_hold(-149.9, 61.2) && named("AK").may_hold(173.1, 52.9),
            "the Aleutians lie beyond the date line"
        );
        assert!(!named("AK").may_hold(0.0, 61.2) && !named("Iowa").may_hold(101.766_855, 79.694_526));
        assert!(!named("Iowa").may_hold(f64::NAN, 41.6) && !named("AK").may_hold(181.0, 61.0));
    }
}
