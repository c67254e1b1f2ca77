//! The lease protocol, checked exhaustively: workers that crash, freeze and lose answers share a closed parent shard and its child.
//!
//! Every order of steps is tried. The rules under test are the real ones: `LeaseWrite` decides what each write needs, does and
//! means when it is refused, and `Ledger` how far a lane may checkpoint. There is no clock: a worker may find a lease of another
//! expired at any moment, so a worker that does nothing for a while is a frozen one that still believes in its leases when it
//! wakes. What would go on for ever (crashes, lost answers, leases taken from the living) has a budget, and when all budgets are
//! used up everything must be done.

mod model;

use std::collections::BTreeSet;
use std::time::Instant;

use speedtrap_actors::ports::Refusal;
use stateright::{Checker, HasDiscoveries, Model, Property};

use model::{
    Budget, CHILD, Lane, PARENT, Phase, Request, Row, SHARD_END, Slot, State, Worker, Write, lease, real, row, watermark,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Scans the table, and asks for a lease that the scan shows free. The answer may be as late as the scan is old.
    Take(usize, usize),
    End(usize, usize, u8),
    Send(usize, usize, Write),
    Arrive(usize, usize),
    ArriveAndLoseAnswer(usize, usize),
    ArriveLate,
    ReadAgain(usize, usize),
    GiveUp(usize, usize),
    Crash(usize),
    DeleteParent,
}

/// A rule that is broken on purpose, to see that the checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    TakesWithoutComparing,
    TrustsItsNameInTheRow,
    CheckpointsTheLatestEvent,
    StartsAChildAtOnce,
    ChecksNothingAtACheckpoint,
}

#[derive(Clone)]
struct Protocol {
    n_workers: usize,
    n_events: [u8; 2],
    budget: Budget,
    broken: Broken,
}

impl Protocol {
    fn all(&self, shard: usize) -> u8 {
        (1 << self.n_events[shard]) - 1
    }

    /// What a lane would write next, if anything.
    fn next_checkpoint(&self, shard: usize, lane: &Lane) -> Option<u8> {
        let n_events = self.n_events[shard];
        let mut may = watermark(lane, n_events);
        if self.broken == Broken::CheckpointsTheLatestEvent {
            may = may.max(u8::try_from(u8::BITS - lane.ended.leading_zeros()).expect("8 bits"));
        }
        let next = if may == n_events { SHARD_END } else { may };
        (next != lane.held.checkpoint).then_some(next)
    }

    fn may_take(&self, state: &State, worker: usize, shard: usize) -> bool {
        let Some(row) = state.rows[shard] else { return false };
        let may_start = shard == PARENT
            || self.broken == Broken::StartsAChildAtOnce
            || state.rows[PARENT].is_none_or(|parent| parent.checkpoint == SHARD_END);
        let is_free = row.owner.is_none_or(|owner| {
            usize::from(owner) == worker || state.workers[usize::from(owner)].crashed || state.budget.expiries > 0
        });
        row.checkpoint != SHARD_END && may_start && is_free
    }

    fn steps_of_lane(&self, state: &State, worker: usize, shard: usize, lane: &Lane, steps: &mut Vec<Step>) {
        let open = (lane.start..self.n_events[shard]).filter(|event| lane.ended & (1 << event) == 0);
        steps.extend(open.map(|event| Step::End(worker, shard, event)));
        if lane.request.is_some() {
            return;
        }
        let next = self.next_checkpoint(shard, lane);
        steps.extend(next.map(|done| Step::Send(worker, shard, Write::Checkpoint(done))));
        if state.budget.renewals > 0 {
            steps.push(Step::Send(worker, shard, Write::Renew));
        }
        // Given away with everything that ended written down.
        if state.budget.gifts > 0 && next.is_none() {
            steps.push(Step::Send(worker, shard, Write::Release));
            let others = (0..self.n_workers).filter(|to| *to != worker && !state.workers[*to].crashed);
            steps.extend(others.map(|to| Step::Send(worker, shard, Write::Assign(to.try_into().expect("few workers")))));
        }
    }

    /// Compare-and-set, as the lease table does it.
    fn apply(&self, state: &mut State, shard: usize, request: &Request) -> Option<Row> {
        let now = state.rows[shard]?;
        let unfenced = matches!(
            (self.broken, request.write),
            (Broken::TakesWithoutComparing, Write::Take(_)) | (Broken::ChecksNothingAtACheckpoint, Write::Checkpoint(_))
        );
        let as_read = if unfenced { request.tried } else { now };
        let written = row(&real(request.write).apply(&lease(request.tried), &lease(as_read))?);
        state.counter_written_twice |= written.counter <= state.highest[shard];
        state.checkpoint_went_back |= written.checkpoint < now.checkpoint;
        state.highest[shard] = state.highest[shard].max(written.counter);
        state.rows[shard] = Some(written);
        Some(written)
    }

    fn arrive(&self, state: &mut State, worker: usize, shard: usize, lose_answer: bool) {
        let Some(request) = state.request(worker, shard) else { return };
        let written = self.apply(state, shard, &request);
        if state.workers[worker].crashed {
            state.workers[worker].slots[shard] = Slot::Idle;
            return;
        }
        match written {
            Some(_) if lose_answer => {
                state.budget.lost_answers -= 1;
                state.set_request(worker, shard, Request { phase: Phase::Unanswered, ..request });
            }
            Some(written) => state.succeed(worker, shard, request.write, written),
            None => state.set_request(worker, shard, Request { phase: Phase::Refused, ..request }),
        }
    }

    fn read_again(&self, state: &mut State, worker: usize, shard: usize) {
        let Some(request) = state.request(worker, shard) else { return };
        let Some(now) = state.rows[shard] else {
            state.workers[worker].slots[shard] = Slot::Idle;
            return;
        };
        let refusal = if self.broken == Broken::TrustsItsNameInTheRow && now.owner.map(usize::from) == Some(worker) {
            Refusal::OneBehind
        } else {
            real(request.write).refusal(&lease(request.held), &lease(request.tried), &lease(now))
        };
        match refusal {
            Refusal::TookEffect => state.succeed(worker, shard, request.write, now),
            Refusal::OneBehind => state.set_request(worker, shard, Request { tried: now, phase: Phase::Sent, ..request }),
            Refusal::Lost => state.workers[worker].slots[shard] = Slot::Idle,
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let row = Row { owner: None, counter: 0, checkpoint: 0 };
        let worker = Worker { crashed: false, slots: [Slot::Idle; 2] };
        vec![State {
            rows: self.n_events.map(|n_events| (n_events > 0).then_some(row)),
            workers: vec![worker; self.n_workers],
            effects: [0; 2],
            late: None,
            budget: self.budget,
            highest: [0; 2],
            counter_written_twice: false,
            checkpoint_went_back: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.late.is_some() {
            steps.push(Step::ArriveLate);
        }
        let is_done = |row: Row| row.checkpoint == SHARD_END;
        if state.rows[PARENT].is_some_and(is_done) && state.rows[CHILD].is_some_and(|child| child.checkpoint != 0) {
            steps.push(Step::DeleteParent);
        }
        let n_alive = state.workers.iter().filter(|worker| !worker.crashed).count();
        for (w, worker) in state.workers.iter().enumerate() {
            for shard in [PARENT, CHILD] {
                if let Some(request) = state.request(w, shard) {
                    match request.phase {
                        Phase::Sent | Phase::Unanswered => steps.push(Step::Arrive(w, shard)),
                        Phase::Refused => steps.push(Step::ReadAgain(w, shard)),
                    }
                    let may_lose = state.budget.lost_answers > 0 && !worker.crashed;
                    if request.phase == Phase::Sent && may_lose {
                        steps.push(Step::ArriveAndLoseAnswer(w, shard));
                    }
                    if request.phase == Phase::Unanswered || (request.phase == Phase::Sent && may_lose && state.late.is_none()) {
                        steps.push(Step::GiveUp(w, shard));
                    }
                }
            }
            if worker.crashed {
                continue;
            }
            for shard in [PARENT, CHILD] {
                match &worker.slots[shard] {
                    Slot::Lane(lane) => self.steps_of_lane(state, w, shard, lane, steps),
                    Slot::Idle if self.may_take(state, w, shard) => steps.push(Step::Take(w, shard)),
                    Slot::Idle | Slot::Taking(_) => {}
                }
            }
            if state.budget.crashes > 0 && n_alive > 1 {
                steps.push(Step::Crash(w));
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Take(w, shard) => {
                let held = state.rows[shard]?;
                let me = u8::try_from(w).expect("few workers");
                if held.owner.is_some_and(|owner| owner != me && !state.workers[usize::from(owner)].crashed) {
                    state.budget.expiries -= 1;
                }
                state.set_request(w, shard, Request { write: Write::Take(me), held, tried: held, phase: Phase::Sent });
            }
            Step::End(w, shard, event) => {
                let Slot::Lane(lane) = &mut state.workers[w].slots[shard] else { return None };
                lane.ended |= 1 << event;
                state.effects[shard] |= 1 << event;
            }
            Step::Send(w, shard, write) => {
                let Slot::Lane(lane) = &mut state.workers[w].slots[shard] else { return None };
                lane.request = Some(Request { write, held: lane.held, tried: lane.held, phase: Phase::Sent });
                match write {
                    Write::Renew => state.budget.renewals -= 1,
                    Write::Release | Write::Assign(_) => state.budget.gifts -= 1,
                    Write::Take(_) | Write::Checkpoint(_) => {}
                }
            }
            Step::Arrive(w, shard) => self.arrive(&mut state, w, shard, false),
            Step::ArriveAndLoseAnswer(w, shard) => self.arrive(&mut state, w, shard, true),
            Step::ArriveLate => {
                let (shard, request) = state.late.take()?;
                self.apply(&mut state, shard, &request);
            }
            Step::ReadAgain(w, shard) => self.read_again(&mut state, w, shard),
            Step::GiveUp(w, shard) => state.give_up(w, shard),
            Step::Crash(w) => state.crash(w),
            Step::DeleteParent => state.rows[PARENT] = None,
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no checkpoint passes an unfinished event", |model: &Self, state: &State| {
                [PARENT, CHILD].iter().all(|&shard| {
                    let done = state.rows[shard].map_or(model.all(shard), |row| match row.checkpoint {
                        SHARD_END => model.all(shard),
                        done => (1 << done) - 1,
                    });
                    state.effects[shard] & done == done
                })
            }),
            Property::always("a counter value has one writer", |_, state: &State| {
                let holders = |shard| state.lanes(shard).map(|lane| lane.held.counter);
                let twice = |shard| holders(shard).any(|counter| holders(shard).filter(|other| *other == counter).count() > 1);
                !state.counter_written_twice && !twice(PARENT) && !twice(CHILD)
            }),
            Property::always("a checkpoint never goes back", |_, state: &State| !state.checkpoint_went_back),
            Property::always("a child starts when its parent is done", |model: &Self, state: &State| {
                let child_began = state.effects[CHILD] != 0 || state.lanes(CHILD).next().is_some();
                let parent_done = state.rows[PARENT].is_none_or(|row| row.checkpoint == SHARD_END);
                !child_began || (parent_done && state.effects[PARENT] == model.all(PARENT))
            }),
            // No step is left over at the end of any path, so this says that nothing is lost and nothing gets stuck.
            Property::eventually("everything is done", |model: &Self, state: &State| {
                let ended = |row: Option<Row>| row.is_none_or(|row| row.checkpoint == SHARD_END);
                state.rows.into_iter().all(ended) && [PARENT, CHILD].iter().all(|&shard| state.effects[shard] == model.all(shard))
            }),
        ]
    }
}

const NOTHING: Budget = Budget { crashes: 0, lost_answers: 0, expiries: 0, renewals: 0, gifts: 0 };

fn check(what: &str, protocol: Protocol) {
    let started = Instant::now();
    let checker = protocol.checker().threads(2).spawn_dfs().join();
    let (states, seconds) = (checker.unique_state_count(), started.elapsed().as_secs_f64());
    println!("{what}: {states} states, {seconds:.1} s");
    checker.assert_properties();
}

#[test]
fn a_lease_is_shared_whatever_happens_to_two_workers() {
    let budget = Budget { crashes: 1, lost_answers: 1, expiries: 1, renewals: 1, gifts: 1 };
    check("one lease, two workers", Protocol { n_workers: 2, n_events: [2, 0], budget, broken: Broken::Nothing });
}

#[test]
fn a_lease_is_shared_by_three_workers() {
    let budget = Budget { crashes: 1, expiries: 1, gifts: 1, ..NOTHING };
    check("one lease, three workers", Protocol { n_workers: 3, n_events: [2, 0], budget, broken: Broken::Nothing });
}

#[test]
fn a_child_follows_its_parent_whatever_happens_to_two_workers() {
    let budget = Budget { crashes: 1, lost_answers: 1, expiries: 1, ..NOTHING };
    check("parent and child", Protocol { n_workers: 2, n_events: [2, 1], budget, broken: Broken::Nothing });
}

#[test]
fn a_broken_rule_is_found() {
    let budget = Budget { expiries: 1, gifts: 1, ..NOTHING };
    for (broken, n_events, violated) in [
        (Broken::TakesWithoutComparing, [2, 0], "a counter value has one writer"),
        (Broken::TrustsItsNameInTheRow, [3, 0], "a checkpoint never goes back"),
        (Broken::CheckpointsTheLatestEvent, [2, 0], "no checkpoint passes an unfinished event"),
        (Broken::StartsAChildAtOnce, [1, 1], "a child starts when its parent is done"),
        (Broken::ChecksNothingAtACheckpoint, [2, 0], "a checkpoint never goes back"),
    ] {
        let protocol = Protocol { n_workers: 2, n_events, budget, broken };
        let finish = HasDiscoveries::AnyOf(BTreeSet::from([violated]));
        let checker = protocol.checker().threads(2).finish_when(finish).spawn_bfs().join();
        let found = checker.discovery(violated).map(|path| path.into_actions());
        println!("{broken:?}: {found:?}");
        assert!(found.is_some(), "{broken:?} goes unnoticed");
    }
}
