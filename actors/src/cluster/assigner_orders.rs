//! What operators have a `ShardAssigner` do: part of it.

use tokio::time::Instant;

use super::orders::OrderAnswer;
use super::shard_assigner::AssignerState;
use crate::domain::ShardId;

impl AssignerState {
    pub(super) fn ask_now(&mut self) {
        (self.next_ask, self.refusals) = (Instant::now(), 0);
        self.look(true);
    }

    pub(super) fn hand_over_as_ordered(&mut self, shard: ShardId, to: Option<String>) -> OrderAnswer {
        if !self.lanes.contains_key(&shard) {
            return OrderAnswer::not_found(format!("no lane of {shard} runs here now"));
        }
        if self.draining || self.leaving.contains_key(&shard) {
            return OrderAnswer::not_now(format!("{shard} is being handed over already"));
        }
        match self.survey(|survey| survey.taker(&shard, to.as_deref())) {
            Some(taker) => {
                self.hand_over(shard, Some(taker));
                OrderAnswer::Begun
            }
            None => {
                let taker = to.unwrap_or_else(|| "nobody".to_owned());
                OrderAnswer::not_now(format!("{taker} can take {shard}: it must be linked, run that role, and not drain"))
            }
        }
    }

    pub(super) fn stand_aside(&mut self) {
        self.aside = true;
        self.coming.clear();
        for (shard, to) in self.survey(|survey| survey.away()) {
            self.hand_over(shard, to);
        }
    }
}
