// Every shard: who holds it, how far it is, why it does not move, and who held it before.
// @ts-check
import { actionButton } from '../actions.js';
import { spark } from '../charts.js';
import { h, panel, select, tell } from '../dom.js';
import { grid, pressed } from '../grid.js';
import { intake, keyShare, lagSeries, LATE_MS } from '../model.js';
import { clock, count, many, rate, shortShard, span, tail } from '../words.js';

const name = (shard) => `${shard.role}/${shard.shard}`;
const owner = (shard) => shard.node ?? shard.worker ?? 'nobody';
/** How a lease stands: glyph, word, colour. */
const STANDS = {
  held: ['●', 'held', 'good'], handing_over: ['◐', 'Draining, handed over', 'busy'], free: ['○', 'free', 'busy'], expired: ['✕', 'expired', 'bad'],
  waits_for_parent: ['◌', 'waits for its parent', 'muted'], ended: ['■', 'done', 'muted'],
};
const stands = (shard) => STANDS[/** @type {keyof typeof STANDS} */ (shard.state)] ?? ['▲', shard.state, 'busy'];

/** @param {{ query: URLSearchParams, remember: (query: Record<string, string>) => void, history: any }} context */
export function shards({ query, remember, history }) {
  const wanted = h('input', { id: 'shard-filter', size: 22, placeholder: 'role, shard, owner, state', value: query.get('filter') ?? '', 'aria-label': 'Filter the shards' });
  const total = h('span', { class: 'muted' });
  let open = query.get('shard') ?? query.get('open') ?? '';
  let state = /** @type {any} */ (null);
  const keep = () => remember({ filter: wanted.value.trim(), shard: open });
  const table = shardsTable({
    short: false,
    onChoose: (shard) => {
      open = name(shard);
      keep();
      show(state);
    },
  });
  const past = h('ol', { class: 'past' });
  const title = h('p', { class: 'path' });
  const why = h('p', {});
  const buttons = h('div', { class: 'buttons start' }, handOff(() => chosen(), () => state));
  const none = h('p', { class: 'none muted' }, 'Choose a shard to see who held it.');
  const detail = h('div', { class: 'detail', hidden: true }, title, why, buttons, h('h3', {}, 'Owners while this page watched'), past);
  const chosen = () => state?.shards.shards.find((shard) => name(shard) === open) ?? null;
  wanted.addEventListener('input', () => {
    keep();
    if (state) show(state);
  });

  /** @param {any} now */
  function show(now) {
    state = now;
    const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = now.shards.shards.filter((shard) => words.every((word) => `${name(shard)} ${owner(shard)} ${stands(shard)[1]} ${shard.why ?? ''}`.toLowerCase().includes(word)));
    table.show({ ...now, shards: { ...now.shards, shards: rows } }, now);
    const left = now.shards.shards.filter((shard) => shard.state !== 'ended').length;
    tell(total, `${many(left, 'shard')} in work, ${count(now.shards.shards.length - left)} done`);
    const shard = chosen();
    table.choose(shard ? open : null);
    detail.hidden = !shard;
    none.hidden = Boolean(shard);
    if (!shard) return;
    tell(title, `${shard.role} / ${shard.shard}`);
    why.className = shard.why ? 'busy' : 'good';
    tell(why, shard.why ?? (shard.state === 'ended' ? '■ All of it is processed.' : '● It moves.'));
    const changes = (history().owners[open] ?? []).toReversed().map((it) => `${it.what}${it.first ? ', since before' : ` from ${clock(it.at)}`}`);
    if (past.childElementCount !== changes.length || past.firstElementChild?.textContent !== changes[0]) past.replaceChildren(...changes.map((text) => h('li', {}, text)));
  }
  return {
    element: h(
      'div',
      { class: 'two wide-left' },
      panel('Shards of all applications', { class: 'left' }, [total, h('span', { class: 'gap' }), wanted, actionButton('rebalance', () => ({ target: 'all' }))], h('div', { class: 'scroll' }, table.element)),
      panel('One shard', { class: 'right' }, [], none, detail)
    ),
    show,
  };
}

/** @param {() => any} shard @param {() => any} state */
function handOff(shard, state) {
  return actionButton('handoff-shard', () => ({
    target: name(shard()),
    asked: state().asked,
    fields: (change) => {
      const others = state().nodes.nodes.filter((node) => ['here', 'linked'].includes(node.presence) && !node.draining && node.name !== shard().node);
      const to = select('handoff-to', [['', 'whoever holds the fewest'], ...others.map((node) => [node.name, node.name])], '', { 'data-testid': 'handoff-to' });
      to.addEventListener('change', () => change({ to: to.value || undefined }));
      return [h('label', { for: 'handoff-to' }, 'To'), to];
    },
  }));
}

/** @param {{ short: boolean, onChoose?: (shard: any) => void }} options */
export function shardsTable({ short, onChoose }) {
  let all = /** @type {any} */ (null);
  const lag = { id: 'lag', head: 'Behind', kind: 'number', order: (row) => row.lane?.lag_ms, show: (row) => ({ text: span(row.lane?.lag_ms), value: row.lane?.lag_ms ?? null, kind: (row.lane?.lag_ms ?? 0) > LATE_MS ? 'bad' : '' }) };
  const chart = { id: 'chart', head: '15 min', make: () => h('span', {}), update: (node, row) => node.replaceChildren(spark(lagSeries(all, name(row)), 56, 14)) };
  const whose = { id: 'owner', head: 'Owner', order: owner, show: (row) => ({ text: owner(row), value: row.worker ?? 'nobody', title: row.worker, kind: !row.worker ? 'bad' : all.stale.has(row.node) ? 'old' : '' }) };
  const lease = {
    id: 'lease', head: 'Lease', order: (row) => row.state,
    show: (row) => {
      const [glyph, word, kind] = all.asked.has(name(row)) && row.state === 'held' ? ['◐', 'Handing over…', 'busy'] : stands(row);
      return { text: `${glyph} ${word}`, kind, value: row.state, title: row.why };
    },
  };
  const reached = { id: 'checkpoint', head: 'Checkpoint', kind: 'mono', show: (row) => ({ text: tail(row.checkpoint), title: row.checkpoint, value: row.checkpoint }) };
  const age = { id: 'checkpoint-age', head: short ? 'Age' : 'Its age', kind: 'number', order: (row) => row.lane?.checkpoint_age_ms, show: (row) => ({ text: span(row.lane?.checkpoint_age_ms), value: row.lane?.checkpoint_age_ms ?? null }) };
  const taken = { id: 'rate', head: 'Records/s', kind: 'number', order: (row) => intake(all, row), show: (row) => ({ text: rate(intake(all, row)), value: intake(all, row) }) };
  const role = { id: 'role', head: 'Role', order: (row) => row.role, show: (row) => row.role };
  const number = (id, head, of, words = count) => ({ id, head, kind: 'number', order: of, show: (row) => ({ text: words(of(row)), value: of(row) ?? null }) });
  const family = (id, head) => ({ id, head, show: (row) => ({ text: (row[id] ?? []).map(shortShard).join(', ') || 'none', title: (row[id] ?? []).join(', ') || null }) });
  const shard = { id: 'shard', head: 'Shard', order: (row) => row.shard, ...pressed((row) => row.shard, (row) => onChoose?.(row)) };
  const both = { id: 'shard', head: 'Shard', show: (row) => ({ text: `${row.role} ${shortShard(row.shard)}`, title: row.shard, link: `#/shards?shard=${encodeURIComponent(name(row))}` }) };
  const columns = short
    ? [both, whose, lease, lag, chart, reached, age]
    : [
        role, shard, whose, lease, lag, chart, taken, number('iterator-age', 'Last record came', (row) => row.lane?.iterator_age_ms, span), number('in-lane', 'In lane', (row) => row.lane?.in_lane), reached, age,
        number('lease-left', 'Lease left', (row) => row.lease_left_ms, span), number('counter', 'Counter', (row) => row.counter), number('generation', 'Generation', (row) => row.lane?.generation),
        number('restarts', 'Restarts', (row) => row.lane?.restarts), number('throttles', 'Throttles', (row) => row.lane?.throttles),
        { id: 'range', head: 'Hash range', kind: 'mono', show: (row) => ({ text: keyShare(row.hash_range), title: row.hash_range ? `${row.hash_range.first} to ${row.hash_range.last}` : null }) },
        family('parents', 'Parents'), family('children', 'Children'),
        { id: 'why', head: 'Why it does not move', kind: 'long', show: (row) => ({ text: row.why ?? '', title: row.why, kind: row.why ? 'busy' : '' }) },
      ];
  // What the node does not tell at all has no column.
  const has = { 'iterator-age': (row) => row.lane?.iterator_age_ms, 'lease-left': (row) => row.lease_left_ms, throttles: (row) => row.lane?.throttles, range: (row) => row.hash_range };
  const element = h('div', {});
  let table = /** @type {any} */ (null);
  let told = '';
  return {
    element,
    /** @param {any} state @param {any} [whole] the state that rates are worked out from */
    show(state, whole = state) {
      all = whole;
      const missing = Object.entries(has).filter(([, of]) => whole.shards.shards.every((row) => of(row) === undefined)).map(([id]) => id);
      if (!table || (told !== missing.join() && whole.shards.shards.length > 0)) {
        told = missing.join();
        table = grid({ label: 'Shards', key: name, testid: 'shard-row', attributes: (row) => ({ 'data-shard': name(row) }), columns: columns.filter((it) => !missing.includes(it.id)), empty: 'No shard was seen yet.' });
        element.replaceChildren(table.element);
      }
      // Done shards are of interest only where there is room for all.
      table.show(state.shards.shards.filter((row) => !short || row.state !== 'ended'));
    },
    /** @param {string | null} which */
    choose: (which) => table?.choose(which),
  };
}
