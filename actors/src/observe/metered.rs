//! Times the handler of whatever actor it wraps.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use super::Meter;

/// An actor with its meter.
pub(super) struct Metered<A> {
    pub(super) inner: A,
    pub(super) meter: Arc<Meter>,
}

impl<A: Actor> Actor for Metered<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(&self, myself: ActorRef<A::Msg>, args: A::Arguments) -> Result<A::State, ActorProcessingErr> {
        self.inner.pre_start(myself, args).await
    }

    async fn post_start(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.inner.post_start(myself, state).await
    }

    async fn post_stop(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.inner.post_stop(myself, state).await
    }

    async fn handle(&self, myself: ActorRef<A::Msg>, message: A::Msg, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let called = Instant::now();
        self.meter.begun(called);
        self.meter.thawed().await;
        let result = self.inner.handle(myself, message, state).await;
        self.meter.handled(called);
        result
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.inner.handle_supervisor_evt(myself, event, state).await
    }
}
