//! How the light blinks for each state.

use std::time::Duration;

use super::LightState;

/// Whether the light is on, so long after the state began, and how long until that changes; `None` is for good.
///
/// Queued blinks fast for as long as something is on its way, sent is one long light, and offline a short flash that says
/// that the device lives.
pub(super) fn at(state: LightState, since: Duration) -> (bool, Option<Duration>) {
    let (on_ms, period_ms) = match state {
        LightState::Queued => (125, Some(250)),
        LightState::Sent => (1_000, None),
        LightState::Offline => (100, Some(2_000)),
    };
    let since = since.as_millis();
    let phase = period_ms.map_or(since, |period| since % period);
    let is_on = phase < on_ms;
    let change = if is_on { Some(on_ms - phase) } else { period_ms.map(|period| period - phase) };
    (is_on, change.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes in the first 3 s, as (millisecond, on).
    fn changes(state: LightState) -> Vec<(u64, bool)> {
        let (mut ms, mut seen) = (0, Vec::new());
        while ms < 3_000 {
            let (is_on, next) = at(state, Duration::from_millis(ms));
            seen.push((ms, is_on));
            match next {
                Some(next) => ms += u64::try_from(next.as_millis()).unwrap(),
                None => break,
            }
        }
        seen
    }

    #[test]
    fn each_state_has_its_own_pattern() {
        assert_eq!(changes(LightState::Sent), [(0, true), (1_000, false)]);
        assert_eq!(changes(LightState::Offline), [(0, true), (100, false), (2_000, true), (2_100, false)]);
        let queued = changes(LightState::Queued);
        assert_eq!(queued[..3], [(0, true), (125, false), (250, true)]);
        assert_eq!(queued.len(), 24);
    }
}
