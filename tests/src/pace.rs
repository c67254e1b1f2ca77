//! A proxy that lets calls pass at a pace: a service that does as it is asked, but slowly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::relay::{Between, Message, Relay};

/// Listens until it is dropped.
pub struct Pace {
    relay: Relay,
    turns: Arc<Turns>,
}

#[derive(Default)]
struct Turns(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    /// Time between two calls; none: all pass at once.
    apart: Option<Duration>,
    next: Option<Instant>,
    passed: u64,
}

impl Pace {
    /// Starts it in front of the host and port of a URL; everything passes at once until it is slowed.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(url: &str) -> Result<Self> {
        let turns = Arc::<Turns>::default();
        let relay = Relay::before(url, turns.clone()).await?;
        Ok(Self { relay, turns })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.relay.address
    }

    /// Lets one call pass in so much time from now on; `None` lets all pass at once.
    pub fn one_in(&self, apart: Option<Duration>) {
        self.turns.with(|slots| (slots.apart, slots.next) = (apart, None));
    }

    /// Calls that were let pass so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.turns.with(|slots| slots.passed)
    }
}

impl Turns {
    fn with<T>(&self, change: impl FnOnce(&mut Slots) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Between for Turns {
    fn hold(&self, _: &Message) -> Duration {
        self.with(|slots| slots.hold(Instant::now()))
    }

    fn passed(&self, _: std::time::SystemTime, _: &Message, _: Option<&Message>) {
        self.with(|slots| slots.passed += 1);
    }
}

impl Slots {
    fn hold(&mut self, now: Instant) -> Duration {
        let Some(apart) = self.apart else { return Duration::ZERO };
        let turn = self.next.map_or(now, |next| next.max(now));
        self.next = Some(turn + apart);
        turn - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_come_together_pass_one_after_the_other() {
        let (mut slots, now) = (Slots::default(), Instant::now());
        assert_eq!(slots.hold(now), Duration::ZERO);
        slots.apart = Some(Duration::from_secs(1));
        let holds: Vec<_> = (0..4).map(|_| slots.hold(now).as_secs()).collect();
        assert_eq!(holds, [0, 1, 2, 3]);
        assert_eq!(slots.hold(now + Duration::from_secs(9)), Duration::ZERO, "nobody saves turns up");
    }
}
