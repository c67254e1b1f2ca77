// The way of an event through the stages of each role: how each stage spends its time, how long messages take, and how events ended.
// @ts-check
import { queryTimes, split } from '../charts.js';
import { h, panel } from '../dom.js';
import { grid } from '../grid.js';
import { HELD_UP, level, NEAR_LIMIT, perSecond, STAGES, stagesByRole, textCauses } from '../model.js';
import { picture } from '../picture.js';
import { count, micros, percent, rate, span } from '../words.js';

export const legend = () =>
  h('span', { class: 'legend' }, ...[['idle', 'idle'], ['busy', 'busy'], ['near', 'busy over 80 %'], ['waits', 'waiting for what is behind']].map(([kind, text]) => h('span', {}, h('i', { class: kind }), text)));

const LEVELS = { OK: ['●', 'good'], LOW: ['▲', 'busy'], HIGH: ['✕', 'bad'], unknown: ['○', 'muted'] };

const bare = (id, head, of, words, more = {}) => ({ id, head, kind: 'number', order: of, show: (row) => ({ text: words(of(row)), value: of(row) ?? null }), ...more });
const mean = (row, sum) => (row.known ? row[sum] / row.known : null);

const STAGE_COLUMNS = [
  { id: 'role', head: 'Role', order: (row) => row.role, show: (row) => row.role },
  { id: 'stage', head: 'Stage', order: (row) => row.kind, show: (row) => ({ text: row.kind, link: `#/actors?filter=${encodeURIComponent(`kind:${row.kind.toLowerCase()} name:/${row.role}/`)}` }) },
  bare('actors', 'Actors', (row) => row.actors, count),
  {
    id: 'time', head: 'Idle, busy, waiting',
    make: () => {
      const bar = split();
      return Object.assign(bar.element, { bar });
    },
    update: (node, row) => node.bar.update(row.busy, row.waiting),
  },
  bare('busy', 'Busy, highest', (row) => row.busy, percent, { show: (row) => ({ text: percent(row.busy), value: row.busy, kind: (row.busy ?? 0) > NEAR_LIMIT ? 'busy' : '' }) }),
  bare('busy-mean', 'mean', (row) => mean(row, 'busySum'), percent),
  bare('waiting', 'Waiting, highest', (row) => row.waiting, percent, { show: (row) => ({ text: percent(row.waiting), value: row.waiting, kind: (row.waiting ?? 0) > HELD_UP ? 'bad' : '' }) }),
  bare('waiting-mean', 'mean', (row) => mean(row, 'waitingSum'), percent),
  {
    id: 'level', head: 'Back-pressure', order: (row) => row.waiting,
    show: (row) => {
      const word = level(row.waiting);
      const [glyph, kind] = LEVELS[/** @type {keyof typeof LEVELS} */ (word)];
      return { text: `${glyph} ${word}`, kind, value: word };
    },
  },
  bare('rate', 'Messages/s', (row) => row.rate, rate),
  bare('queued', 'Queued', (row) => row.mailbox, count),
  bare('p95', 'Handling, p95', (row) => row.p95_us, micros),
  bare('mailbox-p95', 'In the mailbox, p95', (row) => row.mailbox_p95_us, micros),
  bare('restarts', 'Restarts', (row) => row.restarts, count),
];

const CACHE_COLUMNS = [
  { id: 'node', head: 'Node', show: (row) => row.node },
  bare('ratio', 'Hits', (row) => (row.hits + row.misses ? row.hits / (row.hits + row.misses) : null), percent),
  bare('hits', 'From memory', (row) => row.hits, count),
  bare('misses', 'Asked for', (row) => row.misses, count),
  bare('queries', 'Queries', (row) => row.queries, count),
  bare('entries', 'Plates', (row) => row.entries, count),
];

const pool = (row) => row.connections;

const WAREHOUSE_COLUMNS = [
  { id: 'node', head: 'Node', show: (row) => row.node },
  bare('answered', 'Queries', (row) => row.answered, count),
  bare('mean', 'Mean', (row) => row.mean_ms, span),
  { id: 'times', head: 'How long they took', make: () => h('span', {}), update: (node, row) => node.replaceChildren(queryTimes(row.times, 150, 18)) },
  bare('most', 'Pool size', (row) => pool(row)?.most, count),
  bare('open', 'Open', (row) => pool(row)?.open, count),
  bare('in-use', 'In use', (row) => pool(row)?.in_use, count),
  bare('waiting', 'Waiting', (row) => pool(row)?.waiting, count, { show: (row) => ({ text: count(pool(row)?.waiting), value: pool(row)?.waiting ?? null, kind: pool(row)?.waiting ? 'busy' : '' }) }),
];

const FATES = { sent: ['●', 'good'], suppressed: ['○', 'muted'], failed: ['✕', 'bad'] };

const TEXT_COLUMNS = [
  {
    id: 'fate', head: 'Texts', order: (row) => row.fate,
    show: (row) => {
      const [glyph, kind] = FATES[/** @type {keyof typeof FATES} */ (row.fate)] ?? ['▲', ''];
      return { text: `${glyph} ${row.fate}`, kind: row.texts ? kind : 'muted', value: row.fate };
    },
  },
  { id: 'cause', head: 'Cause', kind: 'long', show: (row) => row.cause ?? '' },
  bare('texts', 'Number', (row) => row.texts, count),
];

const CALL_COLUMNS = [
  { id: 'node', head: 'Node', order: (row) => row.node, show: (row) => row.node },
  { id: 'user', head: 'For', order: (row) => row.user, show: (row) => row.user },
  { id: 'call', head: 'Call', order: (row) => row.call, show: (row) => row.call },
  { id: 'resource', head: 'To', order: (row) => row.resource, show: (row) => row.resource },
  bare('answered', 'Answered', (row) => row.answered, count),
  bare('failed', 'Failed', (row) => row.failed, count),
  bare('p95', 'p95, last 10 s', (row) => row.p95_ms, span),
  bare('unanswered', 'Oldest open', (row) => row.unanswered_ms, (ms) => (ms === null || ms === undefined ? 'none' : span(ms))),
  { id: 'failure', head: 'Last failure', kind: 'long', show: (row) => ({ text: row.last_failure ? `${row.streak ? `✕ ${count(row.streak)} in a row: ` : ''}${row.last_failure}` : 'none', title: row.last_failure, kind: row.streak ? 'bad' : 'muted' }) },
];

const END_COLUMNS = [
  { id: 'role', head: 'Role', show: (row) => row.role },
  { id: 'outcome', head: 'Outcome', show: (row) => row.outcome.replaceAll('_', ' ') },
  bare('events', 'Events', (row) => row.n, count),
  bare('per-second', 'per second', (row) => row.rate, rate),
];

export function pipeline() {
  const way = picture();
  const stages = grid({ label: 'Stages', key: (row) => `${row.role}/${row.kind}`, testid: 'stage-row', attributes: (row) => ({ 'data-stage': `${row.role}/${row.kind}` }), columns: STAGE_COLUMNS, empty: 'No stage runs.' });
  const caches = grid({ label: 'Driver caches', key: (row) => row.node, testid: 'cache-row', attributes: (row) => ({ 'data-node': row.node }), columns: CACHE_COLUMNS, empty: 'No node looks drivers up.' });
  const warehouse = grid({ label: 'The warehouse', key: (row) => row.node, testid: 'warehouse-row', attributes: (row) => ({ 'data-node': row.node }), columns: WAREHOUSE_COLUMNS, empty: 'No node asks a warehouse.' });
  const texts = grid({ label: 'Texts by cause', key: (row) => `${row.fate}/${row.cause}`, testid: 'text-row', attributes: (row) => ({ 'data-text': `${row.fate}/${row.cause ?? ''}` }), columns: TEXT_COLUMNS, empty: 'No node texts.' });
  const calls = grid({ label: 'Remote calls', key: (row) => `${row.node} ${row.user} ${row.call} ${row.resource}`, testid: 'call-row', attributes: (row) => ({ 'data-call': `${row.user}/${row.call}` }), columns: CALL_COLUMNS, empty: 'No node tells of its calls.' });
  const ends = grid({ label: 'How events ended', key: (row) => `${row.role}/${row.outcome}`, testid: 'outcome-row', attributes: (row) => ({ 'data-outcome': `${row.role}/${row.outcome}` }), columns: END_COLUMNS, empty: 'None ended yet.' });
  const told = h('span', { class: 'muted' }, 'OK up to 10 % waiting, LOW up to 50 %, HIGH above; the highest of a stage’s actors counts, over the last 10 s');
  return {
    element: h(
      'div',
      { class: 'stack' },
      panel('Pipeline', { class: 'pipeline' }, [h('span', { class: 'muted' }, 'events a second, mean of the last 10 s'), h('span', { class: 'gap' }), legend()], h('div', { class: 'scroll' }, way.element)),
      panel('Stages', {}, [told], h('div', { class: 'scroll' }, stages.element)),
      h('div', { class: 'pair' }, panel('Driver caches', {}, [], h('div', { class: 'scroll' }, caches.element)), panel('How events ended', {}, [], h('div', { class: 'scroll' }, ends.element))),
      h('div', { class: 'pair' }, panel('The warehouse', {}, [h('span', { class: 'muted' }, 'queries since each node started, its connections now')], h('div', { class: 'scroll' }, warehouse.element)), panel('Texts by cause', {}, [], h('div', { class: 'scroll' }, texts.element))),
      panel('Remote calls', {}, [h('span', { class: 'muted' }, 'to the warehouse and for texts, and those that fare badly')], h('div', { class: 'scroll' }, calls.element))
    ),
    /** @param {any} state */
    show(state) {
      way.show(state);
      const byRole = stagesByRole(state);
      stages.show(Object.keys(STAGES).flatMap((role) => (byRole.get(role) ?? []).map((stage) => ({ role, ...stage }))));
      caches.show(state.status.nodes.filter((node) => node.status?.cache).map((node) => ({ node: node.name, ...node.status.cache })));
      warehouse.show(state.status.nodes.filter((node) => node.status?.warehouse).map((node) => ({ node: node.name, ...node.status.warehouse })));
      texts.show(textCauses(state.status.nodes));
      const rows = Object.entries(state.status.outcomes_by_role).flatMap(([role, counts]) =>
        Object.entries(counts).filter(([, n]) => n > 0).map(([outcome, n]) => ({ role, outcome, n, rate: perSecond(state, (it) => it.ends[role]?.[outcome] ?? 0) }))
      );
      ends.show(rows);
      calls.show(state.status.nodes.flatMap((node) => (node.silent ? [] : (node.status?.facts?.calls ?? [])).map((call) => ({ node: node.name, ...call }))));
    },
  };
}
