// What an operator wants to see first: findings, seven numbers, the way of an event, the trees, shards and nodes.
// @ts-check
import { h, panel } from '../dom.js';
import { spark } from '../charts.js';
import { cpu, perSecond, rateSeries, series, totals } from '../model.js';
import { treegrid } from '../tree.js';
import { count, percent, rate, span } from '../words.js';
import { findings } from './findings.js';
import { nodesTable } from './nodes.js';
import { pipelinePicture } from './pipeline.js';
import { shardsTable } from './shards.js';

/** @param {{ go: (page: string, query?: Record<string, string>) => void }} context */
export function overview({ go }) {
  const tree = treegrid({ onChoose: (place) => go('actors', { open: place.row.name }) });
  const places = {
    found: h('div', { class: 'wide' }),
    numbers: h('dl', { class: 'kpis wide' }),
    pipeline: h('div', { class: 'wide' }),
    count: h('span', { class: 'muted' }),
    shards: h('div', { class: 'scroll' }),
    nodes: h('div', {}),
  };
  const element = h(
    'div',
    { class: 'overview' },
    places.found,
    places.numbers,
    places.pipeline,
    panel('Supervision trees', { class: 'left' }, [places.count], tree.element),
    h('div', { class: 'right' }, panel('Shards', { class: 'grow' }, [], places.shards), panel('Nodes', {}, [], places.nodes))
  );
  return {
    element,
    /** @param {any} state */
    show(state) {
      places.found.replaceChildren(findings(state));
      places.numbers.replaceChildren(...numbers(state));
      places.pipeline.replaceChildren(pipelinePicture(state));
      places.count.textContent = `${count(state.rows.size)} actors on ${state.status.nodes.length} nodes`;
      tree.show(state);
      places.shards.replaceChildren(shardsTable(state, { short: true }));
      places.nodes.replaceChildren(nodesTable(state, { short: true }));
    },
  };
}

/** @param {any} state */
function numbers(state) {
  const now = totals(state);
  const events = perSecond(state, (it) => it.events);
  const looked = now.cache.hits + now.cache.misses;
  const lagging = state.shards.shards.filter((shard) => shard.lane?.lag_ms === now.lag && now.lag !== null)[0];
  const busiest = state.nodes.nodes.map((node) => cpu(state, node)).filter((share) => share !== null);
  return [
    number('events', 'Events in', now.events, `${rate(events)}/s`, `${count(now.events)} in all, ${share(now.under, now.events)} within the limit`, rateSeries(state, (it) => it.events)),
    number('cache', 'Cache hits', now.cache.known && looked ? now.cache.hits / looked : null, now.cache.known && looked ? percent(now.cache.hits / looked) : 'unknown', `${count(now.cache.entries)} plates remembered`, null),
    number('queries', 'Warehouse queries', now.cache.queries, `${rate(perSecond(state, (it) => it.cache.queries))}/s`, `${count(now.cache.queries)} in all`, rateSeries(state, (it) => it.cache.queries)),
    number('texts', 'Texts sent', now.texts, count(now.texts), `${rate(perSecond(state, (it) => it.texts))}/s, ${count(now.repeats)} may be repeats`, rateSeries(state, (it) => it.texts)),
    number('lag', 'Worst lag', now.lag, span(now.lag), lagging ? `${lagging.role} ${lagging.shard}` : 'of the shards that are read', series(state, (it) => it.lag), (now.lag ?? 0) > 10_000),
    number('queued', 'Messages waiting', now.waiting, count(now.waiting), 'in all mailboxes', series(state, (it) => it.waiting)),
    number('cpu', 'Busiest node', busiest.length ? Math.max(...busiest) : null, busiest.length ? percent(Math.max(...busiest)) : 'unknown', 'of one core', null),
  ];
}

const share = (part, whole) => (whole ? percent(part / whole) : 'unknown');

function number(id, name, known, value, more, values, bad = false) {
  return h('div', { class: bad ? 'bad-number' : null, 'data-testid': `kpi-${id}`, 'data-value': known ?? 'unknown' }, h('dt', {}, name), h('dd', {}, value), h('dd', { class: 'more', title: more }, more), values ? spark(values) : null);
}
