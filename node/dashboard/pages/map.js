// Where events came from and how fast they were. The table says the same as the map.
// @ts-check
import { choropleth, histogram } from '../charts.js';
import { get } from '../api.js';
import { factList, h, panel, select, tell } from '../dom.js';
import { grid } from '../grid.js';
import { addsUp, STATES } from '../map_model.js';
import { remote } from '../remote.js';
import { count, percent, span } from '../words.js';

const REFRESH_MS = 3_000;
let known = /** @type {Promise<any> | null} */ (null);

/** Outlines of the states, asked for once. */
export const outlines = () => (known ??= get('/ui/us_states.json').catch((error) => {
  known = null;
  throw error;
}));

/** @param {{ query: URLSearchParams, remember: (query: Record<string, string>) => void, windowOf: () => string }} context */
export function mapPage({ query, remember, windowOf }) {
  const what = select('map-what', [['events', 'events'], ['violations', 'violations']], query.get('show') ?? 'events');
  const map = choropleth(outlines());
  const note = h('span', { class: 'muted' });
  const speeds = h('div', { class: 'speeds' });
  const facts = h('div', { class: 'detail' });
  const hours = h('div', { class: 'hours', role: 'img' });
  let page = /** @type {any} */ (null);
  let most = 1;
  const bare = (id, head, of, words = count) => ({ id, head, kind: 'number', order: of, show: (row) => ({ text: words(of(row)), value: of(row) }) });
  const table = grid({
    label: 'Events by state', key: (row) => row.state, testid: 'state-row', attributes: (row) => ({ 'data-state': row.state }), sort: '-events',
    columns: [
      { id: 'state', head: 'State', order: (row) => row.name, show: (row) => row.name },
      { id: 'share', head: '', make: () => h('span', { class: 'blue-bar', 'aria-hidden': 'true' }), update: (node, row) => node.style.setProperty('width', `${Math.round((row[what.value] / most) * 90)}px`) },
      bare('events', 'Events', (row) => row.events),
      bare('violations', 'Above the limit', (row) => row.violations),
      bare('part', 'Share', (row) => (row.events ? row.violations / row.events : null), percent),
    ],
    empty: 'No event in this time.',
  });

  function draw() {
    if (!page) return;
    map.update(page, what.value);
    const rows = page.states.map((row) => ({ name: STATES[/** @type {keyof typeof STATES} */ (row.state)] ?? row.state, ...row }));
    rows.push({ state: 'unknown', name: 'State unknown', ...page.state_unknown });
    most = Math.max(1, ...rows.map((row) => row[what.value]));
    table.show(rows.filter((row) => row.events > 0 || row.state === 'unknown'));
    const box = speeds.getBoundingClientRect();
    speeds.replaceChildren(histogram(page, { width: Math.max(300, box.width), height: Math.max(150, box.height) }));
    facts.replaceChildren(
      factList([
        ['Events', [count(page.events), 'events', page.events]], ['Above the limit', [`${count(page.violations)}, ${percent(page.events ? page.violations / page.events : null)}`, 'violations', page.violations]],
        ['Without a state', [count(page.state_unknown.events), 'state-unknown', page.state_unknown.events]],
        ['Coordinates outside their state', [`${count(page.coordinates_off)}, ${percent(page.events ? page.coordinates_off / page.events : null)}: no points are drawn`, 'coordinates-off', page.coordinates_off]],
        ['States and unknown add up', [addsUp(page) ? '● yes' : '✕ no', 'adds-up', addsUp(page)]],
      ])
    );
    strip(hours, page.hours ?? []);
    const missing = (page.silent ?? []).map((node) => node.node ?? node).join(', ');
    tell(note, `last ${span(page.window_s * 1_000)}, as nodes settled them${missing ? `; missing or old: ${missing}` : ''}`);
  }
  const read = remote(() => `/api/v1/map?window=${windowOf()}`, REFRESH_MS, (now, error) => {
    if (error) return tell(note, `The map cannot be read: ${error.message}`);
    page = now;
    draw();
  });
  what.addEventListener('change', () => {
    remember({ show: what.value === 'events' ? '' : what.value });
    draw();
  });
  return {
    element: h(
      'div',
      { class: 'map-page' },
      panel('Events by state', { class: 'big-map' }, [note, h('span', { class: 'gap' }), h('label', { for: 'map-what' }, 'Show '), what], map.element),
      panel('States', { class: 'states-table' }, [], h('div', { class: 'scroll' }, table.element)),
      panel('Speed', { class: 'hist' }, [h('span', { class: 'muted' }, 'miles an hour')], speeds),
      panel('Together', {}, [], facts, h('h3', {}, 'Hours of the last day'), hours)
    ),
    show: () => read.due(),
    window: () => read.read(),
  };
}

/** Events of each hour, as bars. @param {HTMLElement} element @param {any[]} hours */
function strip(element, hours) {
  const most = Math.max(1, ...hours.map((hour) => hour.events));
  const bar = (hour) => {
    const at = new Date(hour.from).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
    return h('span', { class: 'hour', title: `from ${at}: ${count(hour.events)} events, ${count(hour.violations)} above the limit`, 'data-value': hour.events }, h('i', { style: { height: `${Math.max(2, (hour.events / most) * 44)}px` } }), h('small', {}, at.slice(0, 2)));
  };
  element.setAttribute('aria-label', hours.length ? hours.map((hour) => `${hour.from.slice(11, 16)}: ${hour.events}`).join(', ') : 'no events yet');
  element.replaceChildren(...hours.map(bar));
}
