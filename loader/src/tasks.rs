//! Slow work of an actor: it ends with the actor, and its result comes back as a message.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use ractor::Message;
use speedtrap_actors::observe::Mailbox;
use tokio::task::JoinSet;

/// The tasks of one actor.
pub(crate) struct Tasks<M: Message> {
    set: JoinSet<()>,
    mailbox: Mailbox<M>,
    crashed: fn(String) -> M,
}

impl<M: Message> Tasks<M> {
    /// `crashed` makes the message that a task panicked; without it the actor would wait for ever.
    pub(crate) fn new(mailbox: Mailbox<M>, crashed: fn(String) -> M) -> Self {
        Self { set: JoinSet::new(), mailbox, crashed }
    }

    /// Runs a task whose result is the message it sends.
    pub(crate) fn run(&mut self, work: impl Future<Output = M> + Send + 'static) {
        // Results came as messages; this only frees what ended tasks still hold.
        while self.set.try_join_next().is_some() {}
        let (mailbox, crashed) = (self.mailbox.clone(), self.crashed);
        self.set.spawn(async move {
            let message = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| crashed(text_of(panic.as_ref())));
            // An actor that is gone needs no result.
            let _gone = mailbox.cast(message);
        });
    }

    /// The mailbox results go to.
    pub(crate) fn mailbox(&self) -> &Mailbox<M> {
        &self.mailbox
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panic without a text").to_owned()
}
