// The way of an event through the stages of each role: how each stage spends its time, and how many messages go on.
// @ts-check
import { h, panel, table } from '../dom.js';
import { split } from '../charts.js';
import { HELD_UP, NEAR_LIMIT, STAGES, stages } from '../model.js';
import { count, percent, rate } from '../words.js';

const SOURCE = { enrich: 'in-stream', notify: 'out-stream', archive: 'change stream', errors: 'error stream' };
const SINK = { enrich: 'DynamoDB, out-stream', notify: 'SNS', archive: 'Firehose', errors: 'dead letters' };

export function pipeline() {
  const picture = h('div', {});
  const outcomes = h('div', { class: 'scroll' });
  return {
    element: h('div', { class: 'stack' }, picture, panel('How events ended', {}, [], outcomes)),
    /** @param {any} state */
    show(state) {
      picture.replaceChildren(pipelinePicture(state));
      const rows = Object.entries(state.status.outcomes_by_role).flatMap(([role, ends]) =>
        Object.entries(ends).filter(([, n]) => n > 0).map(([outcome, n]) => [role, outcome, [count(n), 'number']])
      );
      outcomes.replaceChildren(table('Outcomes', ['Role', 'Outcome', ['Events', 'number']], rows));
    },
  };
}

const legend = () =>
  h('span', { class: 'legend' }, ...[['idle', 'idle'], ['busy', 'busy'], ['near', 'busy over 80 %'], ['waits', 'waiting']].map(([kind, text]) => h('span', {}, h('i', { class: kind }), text)));

/** @param {any} state */
export function pipelinePicture(state) {
  const roles = Object.keys(STAGES).filter((role) => role in state.status.outcomes_by_role);
  return panel(
    'Pipeline',
    { class: 'pipeline' },
    [h('span', { class: 'muted' }, 'batches a second and shares of time over the last 10 s; the busiest actor of a stage counts'), h('span', { class: 'gap' }), legend()],
    ...roles.map((role) =>
      h('div', { class: 'flow', role: 'group', 'aria-label': `Stages of ${role}` }, outside(role, SOURCE[role]), ...stages(state, role).flatMap((stage) => [arrow(stage), box(stage)]), h('span', { class: 'arrow', 'aria-hidden': 'true' }, '→'), outside('', SINK[role]))
    )
  );
}

const outside = (role, name) => h('div', { class: 'outside' }, role ? h('b', {}, role) : null, h('span', { class: 'muted' }, name));

const arrow = (stage) => h('span', { class: 'arrow', title: `${rate(stage.rate)} messages a second` }, '→');

/** @param {any} stage */
function box(stage) {
  const held = (stage.waiting ?? 0) > HELD_UP;
  const near = (stage.busy ?? 0) > NEAR_LIMIT;
  const words = held ? `${percent(stage.waiting)} waiting` : `${percent(stage.busy)} busy`;
  return h(
    'div',
    { class: `stage ${held ? 'held' : near ? 'near-limit' : ''}`, 'data-stage': stage.kind },
    h('b', {}, `${stage.kind} ×${stage.actors}`),
    split(stage.busy, stage.waiting),
    h('span', { class: held ? 'bad' : 'muted' }, `${words}, ${rate(stage.rate)}/s, ${count(stage.mailbox)} queued`)
  );
}
