//! How many texts a second a node may send.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// A rate limit shared by the notify lanes of a node.
///
/// SNS accepts about 20 texts a second per account by default
/// (<https://docs.aws.amazon.com/general/latest/gr/sns.html>, "Service quotas").
#[derive(Debug)]
pub struct TextRate(DefaultDirectRateLimiter);

impl TextRate {
    /// So many texts a second, with no more than that many at once.
    #[must_use]
    pub fn per_second(texts: NonZeroU32) -> Self {
        Self(RateLimiter::direct(Quota::per_second(texts)))
    }

    pub(super) async fn wait(&self) {
        self.0.until_ready().await;
    }
}
