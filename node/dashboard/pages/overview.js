// What an operator wants to see first: findings, seven numbers, the way of an event, the trees, shards, nodes, map and dead letters.
// @ts-check
import { choropleth, histogram, spark } from '../charts.js';
import { h, panel, tell } from '../dom.js';
import { newest } from '../history.js';
import { grid } from '../grid.js';
import { STATES } from '../map_model.js';
import { LATE_MS, perSecond, rateSeries, series, slowest, totals } from '../model.js';
import { picture } from '../picture.js';
import { remote } from '../remote.js';
import { treegrid } from '../tree.js';
import { ago, count, many, percent, rate, shortShard, span } from '../words.js';
import { actionButton } from '../actions.js';
import { findings } from './findings.js';
import { outlines } from './map.js';
import { nodesTable } from './nodes.js';
import { legend } from './pipeline.js';
import { shardsTable } from './shards.js';

const MAP_EVERY_MS = 5_000;
/** Reading letters reads their whole table. */
const LETTERS_EVERY_MS = 10_000;
const HOUR_MS = 3_600_000;

/** @param {{ go: (page: string, query?: Record<string, string>) => void, windowOf: () => string, history: () => any }} context */
export function overview({ go, windowOf, history }) {
  const found = findings();
  const tiles = new Map(['events', 'cache', 'warehouse', 'texts', 'lag', 'restarts', 'dead-letters'].map((id) => [id, tile(id)]));
  const way = picture();
  const tree = treegrid({ wide: false, onChoose: (name) => go('actors', { open: name }) });
  const few = h('span', { class: 'muted' });
  const search = h('input', { id: 'tree-filter', size: 14, placeholder: 'name, state, node', 'aria-label': 'Filter the actors' });
  const problems = h('button', { type: 'button', 'aria-pressed': 'false' }, 'Only problems');
  const narrow = () => tree.narrow(search.value, problems.getAttribute('aria-pressed') === 'true');
  search.addEventListener('input', narrow);
  problems.addEventListener('click', () => {
    problems.setAttribute('aria-pressed', String(problems.getAttribute('aria-pressed') !== 'true'));
    narrow();
  });
  const shards = shardsTable({ short: true });
  const nodes = nodesTable({ short: true, history });
  const map = choropleth(outlines());
  const mapSays = h('p', { class: 'muted' }, 'not read yet');
  const most = grid({ label: 'States with the most events', key: (row) => row.state, testid: 'state-row', attributes: (row) => ({ 'data-state': row.state }), columns: mostColumns(() => topEvents) });
  let topEvents = 1;
  const speeds = h('div', { class: 'speeds' });
  const [mapWindow, speedWindow] = [h('span', { class: 'muted' }), h('span', { class: 'muted' })];
  const letters = grid({ label: 'Dead letters', key: (row) => row.id, testid: 'letter-row', attributes: (row) => ({ 'data-letter': row.id }), columns: letterColumns(() => now), empty: 'None is open.' });
  const lettersSay = h('span', { class: 'muted' });
  let now = '';
  let openLetters = /** @type {any} */ (null);

  const mapPage = remote(() => `/api/v1/map?window=${windowOf()}`, MAP_EVERY_MS, (page, error) => {
    if (error) {
      tell(mapSays, `The map cannot be read: ${error.message}`);
      return;
    }
    map.update(page);
    const rows = page.states.filter((row) => row.events > 0).sort((one, other) => other.events - one.events).slice(0, 5);
    topEvents = Math.max(1, rows[0]?.events ?? 1);
    most.show(rows);
    const off = page.events ? `${percent(page.coordinates_off / page.events)} of coordinates lie outside it, so points are off.` : '';
    tell(mapSays, page.events === 0 ? 'No event in this time.' : `By the state that the event names; ${count(page.state_unknown.events)} without one. ${off}`);
    for (const label of [mapWindow, speedWindow]) tell(label, `${label === speedWindow ? 'mph, ' : ''}last ${span(page.window_s * 1_000)}`);
    const box = speeds.getBoundingClientRect();
    speeds.replaceChildren(histogram(page, { width: Math.max(220, box.width), height: Math.max(110, box.height) }));
  });
  const lettersPage = remote(() => '/api/v1/dead-letters?state=open&limit=50', LETTERS_EVERY_MS, (page, error) => {
    if (error) tell(lettersSay, `cannot be read: ${error.message}`);
    openLetters = error ? null : page;
    if (!page) return;
    tell(lettersSay, `${count(page.open)} open${page.whole ? '' : ' at least'}`);
    letters.show(page.letters);
  });

  const element = h(
    'div',
    { class: 'overview' },
    found.element,
    h('dl', { class: 'kpis' }, ...[...tiles.values()].map((it) => it.element)),
    panel('Pipeline', { class: 'pipeline' }, [h('span', { class: 'muted' }, 'events a second and shares of time, mean of the last 10 s'), h('span', { class: 'gap' }), legend()], h('div', { class: 'scroll' }, way.element)),
    panel('Supervision tree', { class: 'trees' }, [few, h('span', { class: 'gap' }), search, problems], tree.element),
    h(
      'div',
      { class: 'side' },
      panel('Shard map', { class: 'grow' }, [h('span', { class: 'gap' }), actionButton('rebalance', () => ({ target: 'all' }))], h('div', { class: 'scroll' }, shards.element)),
      panel('Nodes', {}, [], h('div', { class: 'scroll' }, nodes.element))
    ),
    panel('Events by state', { class: 'map' }, [mapWindow, h('span', { class: 'gap' }), h('a', { href: '#/map' }, 'Map')], h('div', { class: 'map-body' }, map.element, h('aside', {}, most.element, mapSays))),
    panel('Speed', { class: 'hist' }, [speedWindow], speeds),
    panel('Dead letters', { class: 'letters-short' }, [lettersSay, h('span', { class: 'gap' }), h('a', { href: '#/dead-letters' }, 'Redrive or discard')], h('div', { class: 'scroll' }, letters.element))
  );
  return {
    element,
    /** @param {any} state */
    show(state) {
      now = state.at;
      found.show(state);
      numbers(state, tiles, openLetters);
      way.show(state);
      tell(few, `${many(state.rows.size, 'actor')} on ${many(newest(state.nodes.nodes).length, 'node')}`);
      tree.show(state);
      shards.show(state);
      nodes.show(state);
      mapPage.due();
      lettersPage.due();
    },
    window: () => mapPage.read(),
  };
}

const mostColumns = (top) => [
  { id: 'state', head: 'State', show: (row) => ({ text: row.state, title: row.name ?? STATES[row.state] ?? row.state }) },
  {
    id: 'share', head: '', make: () => h('span', { class: 'blue-bar', 'aria-hidden': 'true' }),
    update: (node, row) => node.style.setProperty('width', `${Math.round((row.events / top()) * 74)}px`),
  },
  { id: 'events', head: 'Events', kind: 'number', show: (row) => ({ text: count(row.events), value: row.events }) },
];

const letterColumns = (now) => [
  { id: 'age', head: 'Age', show: (row) => ({ text: ago(row.last_seen, now()), title: row.last_seen }) },
  { id: 'stage', head: 'Stage', show: (row) => row.stage },
  { id: 'reason', head: 'Reason', kind: 'long', show: (row) => ({ text: row.reason, title: row.reason, link: `#/dead-letters?open=${encodeURIComponent(row.id)}` }) },
  { id: 'plate', head: 'Plate', kind: 'mono', show: (row) => row.plate ?? 'unknown' },
  { id: 'tries', head: 'Tries', kind: 'number', show: (row) => ({ text: count(row.tries), value: row.tries }) },
];

/** @param {string} id */
function tile(id) {
  const [name, big, small, more, chart] = [h('dt', {}), h('span', {}), h('small', {}), h('dd', { class: 'more' }), h('span', { class: 'chart' })];
  const element = h('div', { 'data-testid': `kpi-${id}` }, name, h('dd', {}, big, small), more, chart);
  return {
    element,
    /** @param {{ title: string, raw: any, value: string, unit?: string, text: string, values?: (number | null)[] | null, bad?: boolean }} told */
    update({ title, raw: bare, value, unit = '', text, values = null, bad = false }) {
      element.dataset.value = bare ?? 'unknown';
      element.className = bad ? 'bad-number' : '';
      tell(name, title);
      tell(big, value);
      tell(small, unit);
      tell(more, text);
      more.title = text;
      chart.replaceChildren(...(values ? [spark(values, 50, 18)] : []));
    },
  };
}

const share = (part, whole) => (whole ? percent(part / whole) : 'unknown');

/** @param {any} state @param {Map<string, any>} tiles @param {any} letters */
function numbers(state, tiles, letters) {
  const now = totals(state);
  const looked = now.cache.hits + now.cache.misses;
  const late = state.shards.shards.find((shard) => now.lag !== null && shard.lane?.lag_ms === now.lag);
  const recent = state.restarts.filter((it) => Date.parse(state.at) - Date.parse(it.at) < HOUR_MS);
  const soon = recent.filter((it) => Date.parse(state.at) - Date.parse(it.at) < HOUR_MS / 12);
  const put = (id, told) => tiles.get(id).update(told);
  const events = perSecond(state, (it) => it.events);
  put('events', { title: 'Events in', raw: now.events, value: rate(events), unit: '/s', text: `${count(now.events)} in all, ${share(now.events - now.under, now.events)} above the limit`, values: rateSeries(state, (it) => it.events) });
  const ratio = now.cache.known && looked ? now.cache.hits / looked : null;
  put('cache', { title: 'Cache hit ratio', raw: ratio, value: percent(ratio), text: `${count(now.cache.entries)} plates in cache`, bad: ratio !== null && looked > 1_000 && ratio < 0.8, values: series(state, (it) => (it.cache.hits + it.cache.misses ? it.cache.hits / (it.cache.hits + it.cache.misses) : null)) });
  put('warehouse', warehouse(state, now));
  const texts = perSecond(state, (it) => it.texts);
  put('texts', { title: 'Texts sent', raw: now.texts, value: count(now.texts), text: `${texts === null ? 'unknown' : rate(texts * 60)}/min, ${count(now.suppressed)} suppressed, ${count(now.repeats)} may be repeats`, values: rateSeries(state, (it) => it.texts) });
  put('lag', { title: 'Worst shard lag', raw: now.lag, value: span(now.lag), text: late ? `${late.role} ${shortShard(late.shard)} on ${late.node ?? late.worker ?? 'nobody'}` : 'no shard is read', bad: (now.lag ?? 0) > LATE_MS, values: series(state, (it) => it.lag) });
  put('restarts', { title: 'Restarts, 1 h', raw: recent.length, value: count(recent.length), text: `${count(soon.length)} in the last 5 min, ${count(now.restarts)} of all actors there are`, bad: soon.length > 0, values: series(state, (it) => it.restarts) });
  const open = letters?.open ?? state.kpis.dead_letters_open ?? null;
  const stages = new Map();
  for (const letter of letters?.letters ?? []) stages.set(letter.stage, (stages.get(letter.stage) ?? 0) + 1);
  const by = [...stages].map(([stage, n]) => `${n} ${stage}`).join(', ');
  put('dead-letters', { title: 'Dead letters', raw: open, value: count(open), unit: open === null ? '' : ' open', text: letters ? by || 'nothing waits for anybody' : 'not read yet', bad: (open ?? 0) > 0 });
}

/** @param {any} state @param {any} now */
function warehouse(state, now) {
  const p95 = slowest(state, (call) => call.resource === 'warehouse');
  const queries = perSecond(state, (it) => it.cache.queries);
  const told = `${rate(queries)} queries/s, ${count(now.cache.queries)} in all`;
  const values = rateSeries(state, (it) => it.cache.queries);
  if (p95 === null) return { title: 'Warehouse', raw: now.cache.queries, value: rate(queries), unit: ' queries/s', text: `${count(now.cache.queries)} in all`, values };
  return { title: 'Warehouse p95', raw: now.cache.queries, value: span(p95), text: told, values };
}
