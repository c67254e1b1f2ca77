//! How often somebody may do what should be rare.

use std::num::NonZeroU32;

use axum::http::StatusCode;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::Problem;

/// Names that are remembered before those with all their turns back are forgotten.
const MOST_NAMES: usize = 1_000;

/// So many times a minute for each name, all of them at once if need be.
pub(super) struct Limit {
    turns: DefaultKeyedRateLimiter<String>,
    what: &'static str,
}

impl Limit {
    /// `what` names the thing in the answer to those who do it too often.
    pub(super) fn a_minute(times: NonZeroU32, what: &'static str) -> Self {
        Self { turns: RateLimiter::keyed(Quota::per_minute(times)), what }
    }

    /// Takes a turn.
    ///
    /// # Errors
    /// With the answer that says when the next one comes.
    pub(super) fn take(&self, name: &str) -> Result<(), Problem> {
        if self.turns.len() > MOST_NAMES {
            self.turns.retain_recent();
        }
        self.turns.check_key(&name.to_owned()).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let detail = format!("too many {} of `{name}` within a minute", self.what);
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_often", detail).retry_after(wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn each_name_has_its_own_turns_and_is_told_when_the_next_one_comes() {
        let limit = Limit::a_minute(const { NonZeroU32::new(3).expect("more than none") }, "actions");
        assert!((0..3).all(|_| limit.take("desk").is_ok()));
        let response = limit.take("desk").expect_err("the fourth").into_response();
        assert_eq!(response.status(), 429);
        let wait: u64 = response.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=20).contains(&wait), "{wait}");
        assert!(limit.take("reader").is_ok());
    }
}
