//! Sending to an actor so that its meter knows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorRef, Message, MessagingErr};

use super::Meter;

/// The way to an actor's mailbox. Every send is counted in the actor's meter.
pub struct Mailbox<M> {
    actor: ActorRef<M>,
    meter: Arc<Meter>,
}

/// A way to hand values of one type to some actor, whatever its message enum is called.
pub struct Outlet<T>(Arc<dyn Fn(T) -> Result<(), ActorGone> + Send + Sync>);

/// The actor does not take messages any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next actor is gone")]
pub struct ActorGone;

impl<M: Message> Mailbox<M> {
    /// Joins an actor with its meter. An actor makes one of its own in `pre_start`, for its timers and its slow work.
    #[must_use]
    pub fn new(actor: ActorRef<M>, meter: Arc<Meter>) -> Self {
        Self { actor, meter }
    }

    /// Puts a message into the mailbox.
    ///
    /// # Errors
    /// When the actor is gone; its supervisor hears of that by itself.
    pub fn cast(&self, message: M) -> Result<(), ActorGone> {
        self.meter.sent();
        self.actor.cast(message).map_err(|_: MessagingErr<M>| {
            self.meter.unsent();
            ActorGone
        })
    }

    /// Puts a message into the mailbox after a delay, unless the actor is gone by then.
    pub fn cast_after(&self, delay: Duration, message: impl FnOnce() -> M + Send + 'static) {
        let meter = Arc::clone(&self.meter);
        // The handle is not kept: the timer ends with the actor.
        drop(self.actor.send_after(delay, move || {
            meter.sent();
            message()
        }));
    }

    /// An outlet that wraps each value into a message.
    pub fn outlet<T: Send + 'static>(&self, wrap: fn(T) -> M) -> Outlet<T> {
        let mailbox = self.clone();
        Outlet(Arc::new(move |value| mailbox.cast(wrap(value))))
    }

    /// The actor behind it.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// The typed reference behind it.
    #[must_use]
    pub fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    /// The meter that counts for it.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl<T> Outlet<T> {
    /// An outlet into anything, for tests and benchmarks.
    pub fn new(send: impl Fn(T) -> Result<(), ActorGone> + Send + Sync + 'static) -> Self {
        Self(Arc::new(send))
    }

    /// Hands a value on.
    ///
    /// # Errors
    /// When the actor behind it is gone.
    pub fn send(&self, value: T) -> Result<(), ActorGone> {
        (self.0)(value)
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), meter: Arc::clone(&self.meter) }
    }
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}
