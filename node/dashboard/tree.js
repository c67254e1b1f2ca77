// The supervision trees of all nodes as one treegrid. Only the rows in sight are in the page, and they are used again for other actors:
// 10,000 actors cost no more than 50.
// @ts-check
import { h, tell } from './dom.js';
import { filter, gardener, isTrouble, lines } from './forest.js';
import { FILLED_MAILBOX, LONG_MAILBOX, upFor } from './model.js';
import { measured } from './stream.js';
import { brief, micros, percent, rate, shortShard, span, UNKNOWN } from './words.js';

const ROW = 24;
/** Rows made above and below those in sight. */
const SPARE = 4;
/** A mailbox that fills its bar. */
const FULL = 4_096;

const COLUMNS = [
  ['name', 'Actor'], ['state', 'State'], ['mailbox', 'Mailbox'], ['rate', 'msg/s'], ['busy', 'Busy'], ['waiting', 'Waiting'], ['p95', 'p95'],
  ['restarts', 'Restarts, last reason'], ['age', 'Age'],
];
const LEFT = ['name', 'state', 'mailbox', 'restarts'];

const STOPPING = { 'restart-actor': 'Restarting…', 'drain-actor': 'Draining…', 'kill-actor': 'Stopping…' };

/**
 * Glyph, word and colour of an actor's state.
 * @param {any} place @param {any} asked what the operator asked of it @param {number | null | undefined} stale how old this is; undefined: fresh
 */
export function standing({ row, below }, asked, stale) {
  if (stale !== undefined) return ['✕', stale === null ? 'Stale' : `Stale ${span(stale)}`, 'bad'];
  if (asked && asked.kind in STOPPING && (asked.id === row.id || row.state !== 'running')) return ['◐', STOPPING[/** @type {keyof typeof STOPPING} */ (asked.kind)], 'busy'];
  if (row.state === 'backoff') return ['↻', 'Backoff', 'bad'];
  if (below.trouble && !isTrouble(row)) return ['▲', 'Child trouble', 'busy'];
  if (row.state === 'stopped') return ['■', 'Stopped', 'muted'];
  return row.waiting ? ['◐', 'Waiting', 'busy'] : ['●', 'Running', 'good'];
}

/**
 * @param {{ onChoose?: (name: string) => void, onOrder?: (text: string) => void, order?: string, wide?: boolean }} options
 */
export function treegrid({ onChoose, onOrder, order: first = 'name', wide = true } = {}) {
  const closed = new Set();
  const grow = gardener();
  let [state, forest, shown] = /** @type {any[]} */ ([null, null, []]);
  let [wanted, hit, onlyTrouble] = ['', filter(''), false];
  let [current, chosen] = [0, /** @type {string | null} */ (null)];
  let [order, up] = [first.replace(/^\+/, ''), first === 'name' || first.startsWith('+')];
  const sheet = h('div', { class: 'sheet', role: 'rowgroup' });
  const columns = COLUMNS.filter(([id]) => wide || (id !== 'age' && id !== 'waiting'));
  const heads = columns.map(([id, text]) =>
    h('span', { role: 'columnheader', 'data-field': id, class: LEFT.includes(id) ? null : 'number' }, h('button', { type: 'button', class: 'sort', tabindex: wide ? 0 : -1, click: () => sort(id) }, text))
  );
  const head = h('div', { role: 'rowgroup', class: 'heads' }, h('div', { class: 'tree-row', role: 'row', 'aria-rowindex': 1 }, ...heads));
  const view = h('div', { class: 'view', role: 'presentation', tabindex: -1 }, sheet);
  const element = h('div', { class: `tree ${wide ? 'full' : 'short'}`, role: 'treegrid', 'aria-label': 'Supervision trees of all nodes', 'aria-colcount': columns.length }, head, view);

  const narrowed = () => wanted !== '' || onlyTrouble;

  function flatten() {
    shown = lines(forest, { filter: hit, narrowed: wanted !== '', onlyTrouble, closed, order, up });
    current = Math.max(0, Math.min(current, shown.length - 1));
    sheet.style.setProperty('height', `${shown.length * ROW}px`);
    element.setAttribute('aria-rowcount', String(shown.length + 1));
  }

  function mark() {
    heads.forEach((cell, at) => {
      if (columns[at][0] === order) cell.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      else cell.removeAttribute('aria-sort');
    });
  }
  mark();

  /** @param {string} id */
  function sort(id) {
    if (order === id) up = !up;
    else [order, up] = [id, id === 'name'];
    mark();
    onOrder?.(order === 'name' && up ? '' : `${up ? '+' : ''}${order}`);
    if (!forest) return;
    flatten();
    paint();
  }

  /** @type {any[]} */
  const pool = [];

  function made() {
    const cell = (id, ...content) => h('span', { role: 'gridcell', 'data-field': id, class: LEFT.includes(id) ? null : 'number' }, ...content);
    const [twist, name, fill, depth] = [h('span', { class: 'twist', 'aria-hidden': 'true' }), h('span', {}), h('i', {}), h('span', {})];
    const cells = Object.fromEntries(columns.map(([id]) => [id, id === 'name' ? cell(id, twist, name) : id === 'mailbox' ? cell(id, h('b', { class: 'bar' }, fill), depth) : cell(id)]));
    const line = h('div', { class: 'tree-row', role: 'row', 'data-testid': 'actor-row' }, ...columns.map(([id]) => cells[id]));
    sheet.append(line);
    const entry = { line, cells, twist, name, fill, depth, known: /** @type {Record<string, any>} */ ({}) };
    pool.push(entry);
    return entry;
  }

  /** Does something to the page only if it is not so yet. */
  function set(entry, key, value, act) {
    if (entry.known[key] === value) return;
    entry.known[key] = value;
    act(value);
  }
  const attribute = (entry, node, key, name, value) =>
    set(entry, key, value, (it) => (it === null || it === undefined ? node.removeAttribute(name) : node.setAttribute(name, String(it))));

  /** @param {any} entry @param {string} id @param {string} text @param {any} bare @param {string} [kind] */
  function number(entry, id, text, bare, kind = '') {
    const node = entry.cells[id];
    if (!node) return;
    // There is no room for a word.
    set(entry, id, text === UNKNOWN ? '?' : text, (it) => tell(node, it));
    attribute(entry, node, `${id}=`, 'data-value', bare ?? 'unknown');
    set(entry, `${id}:`, kind, (it) => (node.className = `${LEFT.includes(id) ? '' : 'number'} ${it}`.trim()));
  }

  /** @param {any} entry @param {any} place @param {number} at */
  function put(entry, place, at) {
    const { row, below, children, pace } = place;
    const { line } = entry;
    const [isParent, isOpen] = [children.length > 0, narrowed() || !closed.has(place.name)];
    set(entry, 'at', at, () => {
      line.style.setProperty('transform', `translateY(${at * ROW}px)`);
      line.dataset.at = String(at);
      line.setAttribute('aria-rowindex', String(at + 2));
    });
    set(entry, 'actor', place.name, (name) => {
      line.dataset.actor = name;
      entry.cells.name.title = `${row.kind} ${name}`;
      tell(entry.name, place.own.startsWith('shardId-') ? `shard ${shortShard(place.own)}` : place.own);
    });
    set(entry, 'level', place.level, (level) => {
      line.setAttribute('aria-level', String(level));
      entry.cells.name.style.setProperty('padding-left', `${(level - 1) * 14 + 2}px`);
      entry.name.className = level === 1 ? 'root' : '';
    });
    attribute(entry, line, 'size', 'aria-setsize', place.parent ? place.parent.children.length : forest.roots.length);
    attribute(entry, line, 'pos', 'aria-posinset', place.place + 1);
    attribute(entry, line, 'open', 'aria-expanded', isParent ? isOpen : null);
    attribute(entry, line, 'chosen', 'aria-selected', place.name === chosen);
    attribute(entry, line, 'tab', 'tabindex', at === current ? 0 : -1);
    set(entry, 'twist', isParent ? (isOpen ? '▾' : '▸') : '', (it) => tell(entry.twist, it));
    const [glyph, word, kind] = standing(place, state.asked.get(place.name), state.stale.get(row.node));
    set(entry, 'old', state.stale.has(row.node), (it) => line.classList.toggle('old', it));
    number(entry, 'state', `${glyph} ${word}`, row.state, kind);
    mailbox(entry, row.mailbox + below.mailbox);
    const all = isParent ? (below.rate === null && pace.rate === null ? null : (below.rate ?? 0) + (pace.rate ?? 0)) : pace.rate;
    number(entry, 'rate', rate(all), all, isParent ? 'muted' : '');
    number(entry, 'busy', percent(pace.busy), pace.busy, (pace.busy ?? 0) > 0.8 ? 'busy' : '');
    number(entry, 'waiting', percent(pace.waiting), pace.waiting, (pace.waiting ?? 0) > 0.5 ? 'bad' : '');
    number(entry, 'p95', micros(row.p95_us), row.p95_us);
    const restarts = row.restarts + below.restarts;
    const last = row.last ? `${row.restarts} · ${row.last.reason}` : restarts > row.restarts ? `${restarts} below` : String(row.restarts);
    number(entry, 'restarts', last, restarts, row.state === 'backoff' ? 'bad' : 'muted');
    set(entry, 'why', last, (it) => (entry.cells.restarts.title = it));
    number(entry, 'age', span(upFor(state, row)), row.up_s);
  }

  /** @param {any} entry @param {number} depth */
  function mailbox(entry, depth) {
    set(entry, 'depth', depth, () => {
      tell(entry.depth, brief(depth));
      entry.cells.mailbox.dataset.value = String(depth);
      entry.fill.style.setProperty('width', `${depth <= 0 ? 0 : Math.min(100, (Math.log10(depth + 1) / Math.log10(FULL + 1)) * 100).toFixed(1)}%`);
      entry.fill.className = depth >= LONG_MAILBOX ? 'waits' : depth >= FILLED_MAILBOX ? 'near' : 'busy';
    });
  }

  function paint() {
    if (!state) return;
    const from = Math.max(0, Math.floor(view.scrollTop / ROW) - SPARE);
    const n = Math.min(shown.length - from, Math.ceil((view.clientHeight || 600) / ROW) + 2 * SPARE);
    const focused = sheet.contains(document.activeElement);
    while (pool.length < n) made();
    while (pool.length > Math.max(n, 0) + 8) pool.pop().line.remove();
    // The row at a place keeps its element while it is in sight, so that scrolling changes only those that come in.
    const used = new Set();
    for (let at = from; at < from + n; at += 1) {
      const slot = at % pool.length;
      used.add(slot);
      const entry = pool[slot];
      set(entry, 'hidden', false, () => (entry.line.hidden = false));
      put(entry, shown[at], at);
    }
    pool.forEach((entry, slot) => used.has(slot) || set(entry, 'hidden', true, () => (entry.line.hidden = true)));
    if (focused) focus();
  }

  const focus = () => pool.find((entry) => !entry.known.hidden && entry.known.at === current)?.line.focus({ preventScroll: true });

  /** @param {number} to */
  function go(to) {
    current = Math.max(0, Math.min(shown.length - 1, to));
    const top = current * ROW;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + ROW > view.scrollTop + view.clientHeight) view.scrollTop = top + ROW - view.clientHeight;
    paint();
    focus();
  }

  /** @param {any} place @param {boolean} open */
  function turn(place, open) {
    if (open) closed.delete(place.name);
    else closed.add(place.name);
    flatten();
    go(shown.indexOf(place));
  }

  /** @param {any} place */
  function choose(place) {
    chosen = place.name;
    paint();
    onChoose?.(place.name);
  }

  view.addEventListener('scroll', paint, { passive: true });
  new ResizeObserver(() => paint()).observe(view);
  view.addEventListener('keydown', (event) => {
    const place = shown[current];
    if (!place || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(view.clientHeight / ROW) - 1);
    const [parent, open] = [place.children.length > 0, narrowed() || !closed.has(place.name)];
    const keys = {
      ArrowDown: () => go(current + 1), ArrowUp: () => go(current - 1), Home: () => go(0), End: () => go(shown.length - 1),
      PageDown: () => go(current + page), PageUp: () => go(current - page),
      ArrowRight: () => (parent && !open ? turn(place, true) : go(current + 1)),
      ArrowLeft: () => (parent && open && !narrowed() ? turn(place, false) : place.parent && go(shown.indexOf(place.parent))),
      Enter: () => choose(place), ' ': () => choose(place),
    };
    const act = keys[/** @type {keyof typeof keys} */ (event.key)];
    if (!act) return;
    const begun = performance.now();
    event.preventDefault();
    act();
    measured('key', begun);
  });
  view.addEventListener('click', (event) => {
    const target = /** @type {Element} */ (event.target);
    const at = Number(/** @type {HTMLElement | null} */ (target.closest('.tree-row'))?.dataset.at ?? -1);
    const place = shown[at];
    if (!place) return;
    current = at;
    if (target.closest('.twist') && place.children.length && !narrowed()) turn(place, closed.has(place.name));
    else {
      choose(place);
      go(current);
    }
  });

  return {
    element,
    /** @param {any} now */
    show(now) {
      state = now;
      forest = grow(state);
      const place = shown[current];
      flatten();
      // Rows above may have come or gone.
      if (place && shown[current] !== place) current = Math.max(0, shown.indexOf(forest.places.get(place.name)));
      paint();
    },
    /** @param {string} text @param {boolean} trouble */
    narrow(text, trouble) {
      const begun = performance.now();
      [wanted, hit, onlyTrouble, current] = [text.trim(), filter(text), trouble, 0];
      view.scrollTop = 0;
      if (!forest) return;
      flatten();
      paint();
      measured('filter', begun);
    },
    /** Marks an actor, opens the way to it and brings it in sight. @param {string} name */
    choose(name) {
      chosen = name;
      for (let at = name.lastIndexOf('/'); at > 0; at = name.lastIndexOf('/', at - 1)) closed.delete(name.slice(0, at));
      if (!forest) return;
      flatten();
      const at = shown.findIndex((place) => place.name === name);
      if (at >= 0) {
        current = at;
        view.scrollTop = Math.max(0, at * ROW - view.clientHeight / 2);
      }
      paint();
    },
    /** How many actors of how many match. */
    counts: () => ({ shown: shown.length, all: state?.rows.size ?? 0 }),
    /** @param {string} name */
    place: (name) => forest?.places.get(name) ?? null,
  };
}
