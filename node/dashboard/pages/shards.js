// Every shard: who holds it, how far it is, and why it does not move.
// @ts-check
import { h, panel, raw, table } from '../dom.js';
import { count, shortShard, span, tail } from '../words.js';

const LATE_MS = 10_000;

export function shards() {
  const body = h('div', { class: 'scroll' });
  return {
    element: panel('Shards of all applications', {}, [], body),
    /** @param {any} state */
    show: (state) => body.replaceChildren(shardsTable(state, { short: false })),
  };
}

/** @param {any} state @param {{ short: boolean }} options */
export function shardsTable(state, { short }) {
  // Done shards are of interest only where there is room for all.
  const rows = state.shards.shards.filter((shard) => !short || shard.state !== 'ended');
  const lag = (shard) => {
    const ms = shard.lane?.lag_ms;
    return [span(ms), `number ${(ms ?? 0) > LATE_MS ? 'bad' : ''}`, raw('lag', ms)];
  };
  const why = (shard) => [h('span', { title: shard.why ?? '' }, shard.why ?? ''), shard.why ? 'busy' : ''];
  const owner = (shard) => [shard.node ?? shard.worker ?? 'nobody', '', { 'data-field': 'owner', 'data-value': shard.worker ?? 'nobody' }];
  const attributes = (shard) => ({ 'data-testid': 'shard-row', 'data-shard': `${shard.role}/${shard.shard}` });
  if (short) {
    const cells = (shard) => ({ attributes: attributes(shard), cells: [shard.role, shortShard(shard.shard), owner(shard), lag(shard), tail(shard.checkpoint), why(shard)] });
    return table('Shards', ['Role', 'Shard', 'Owner', ['Behind', 'number'], 'Checkpoint', 'Why it does not move'], rows.map(cells));
  }
  const cells = (shard) => ({ attributes: attributes(shard), cells: [
    shard.role, shard.shard, owner(shard), shard.state, lag(shard), [count(shard.lane?.in_lane), 'number', raw('in-lane', shard.lane?.in_lane)],
    [h('span', { title: shard.checkpoint }, tail(shard.checkpoint)), ''], [span(shard.lane?.checkpoint_age_ms), 'number'], [count(shard.counter), 'number', raw('counter', shard.counter)],
    [count(shard.lane?.restarts), 'number'], shard.parents.map(shortShard).join(', '), why(shard),
  ] });
  const heads = [
    'Role', 'Shard', 'Owner', 'Lease', ['Behind', 'number'], ['In lane', 'number'], 'Checkpoint', ['Its age', 'number'], ['Counter', 'number'],
    ['Restarts', 'number'], 'Parents', 'Why it does not move',
  ];
  return table('Shards', heads, rows.map(cells));
}
