// The supervision trees of all nodes as one treegrid. Only the rows in sight are in the page, so 10,000 actors cost no more than 50.
// @ts-check
import { h, raw } from './dom.js';
import { count, percent, rate } from './words.js';
import { filter, forest, isTrouble, pace } from './model.js';

const ROW = 24;
/** Rows made above and below those in sight. */
const SPARE = 6;

/**
 * @param {{ onChoose?: (row: any) => void, height?: string }} options
 */
export function treegrid(options = {}) {
  const closed = new Set();
  let state = null;
  let [wanted, onlyTrouble, current, chosen] = ['', false, 0, /** @type {string | null} */ (null)];
  /** @type {any[]} */
  let shown = [];
  const sheet = h('div', { class: 'sheet', role: 'presentation' });
  const view = h('div', { class: 'view', role: 'treegrid', 'aria-label': 'Supervision trees of all nodes', 'aria-colcount': 7 }, sheet);
  const heads = h(
    'div',
    { class: 'tree-row heads', 'aria-hidden': 'true' },
    ...['Actor', 'State', 'Mailbox', 'msg/s', 'Busy', 'Waiting', 'Restarts, last reason'].map((text) => h('span', {}, text))
  );
  const element = h('div', { class: 'tree' }, heads, view);
  if (options.height) view.style.setProperty('height', options.height);

  function flatten() {
    const roots = forest(state.rows.values());
    const hit = filter(wanted);
    const all = [];
    const walk = (place) => {
      all.push(place);
      if (filtered() || !closed.has(place.row.name)) place.children.forEach(walk);
    };
    const filtered = () => wanted !== '' || onlyTrouble;
    roots.forEach(walk);
    if (filtered()) {
      const kept = new Set();
      for (const place of all) {
        if (!hit(place.row) || (onlyTrouble && !isTrouble(place.row))) continue;
        for (let up = place; up && !kept.has(up); up = up.parent) kept.add(up);
      }
      shown = all.filter((place) => kept.has(place));
    } else shown = all;
    current = Math.max(0, Math.min(current, shown.length - 1));
    sheet.style.setProperty('height', `${shown.length * ROW}px`);
    view.setAttribute('aria-rowcount', String(shown.length));
  }

  /** @param {any} place @param {number} at */
  function line(place, at) {
    const { row, below, children } = place;
    const troubled = below.trouble && !isTrouble(row);
    const [glyph, word, kind] = troubled
      ? ['▲', 'Trouble below', 'busy']
      : row.state === 'backoff'
        ? ['↻', 'Backoff', 'bad']
        : row.state === 'stopped'
          ? ['■', 'Stopped', 'muted']
          : row.waiting
            ? ['◐', 'Waiting', 'busy']
            : ['●', 'Running', 'good'];
    const speed = pace(state, row);
    const mailbox = row.mailbox + (children.length ? below.mailbox : 0);
    const restarts = row.restarts + below.restarts;
    const why = row.last ? `${row.restarts} · ${row.last.reason}` : restarts > row.restarts ? `${restarts} below` : String(row.restarts);
    const own = row.name.split('/').at(-1);
    const cell = (kind_, content, more = {}) => h('span', { role: 'gridcell', class: kind_ || null, ...more }, content);
    return h(
      'div',
      {
        class: 'tree-row', role: 'row', 'aria-level': place.level, 'aria-rowindex': at + 1, tabindex: at === current ? 0 : -1,
        'aria-setsize': (place.parent?.children ?? [place]).length,
        'aria-posinset': (place.parent?.children ?? [place]).indexOf(place) + 1,
        'aria-selected': String(row.name === chosen), 'aria-expanded': children.length ? String(!closed.has(row.name)) : null,
        'data-testid': 'actor-row', 'data-actor': row.name, 'data-at': at, style: { top: `${at * ROW}px` },
      },
      h(
        'span',
        { role: 'gridcell', title: `${row.kind} ${row.name}`, style: { 'padding-left': `${(place.level - 1) * 14 + 2}px` } },
        h('span', { class: 'twist', 'aria-hidden': 'true' }, children.length ? (closed.has(row.name) ? '▸' : '▾') : ''),
        place.level === 1 ? h('b', {}, own) : own
      ),
      cell(kind, `${glyph} ${word}`, { 'data-field': 'state', 'data-value': row.state }),
      cell('number', count(mailbox), raw('mailbox', mailbox)),
      cell('number', rate(speed.rate), raw('rate', speed.rate)),
      cell('number', percent(speed.busy), raw('busy', speed.busy)),
      cell('number', percent(speed.waiting), raw('waiting', speed.waiting)),
      h('span', { role: 'gridcell', class: row.state === 'backoff' ? 'bad' : 'muted', title: why, ...raw('restarts', restarts) }, why)
    );
  }

  function paint() {
    if (!state) return;
    const first = Math.max(0, Math.floor(view.scrollTop / ROW) - SPARE);
    const last = Math.min(shown.length, first + Math.ceil((view.clientHeight || 600) / ROW) + 2 * SPARE);
    const focused = sheet.contains(document.activeElement);
    sheet.replaceChildren(...shown.slice(first, last).map((place, i) => line(place, first + i)));
    if (focused) sheet.querySelector(`[data-at="${current}"]`)?.focus({ preventScroll: true });
  }

  /** @param {number} to */
  function go(to) {
    current = Math.max(0, Math.min(shown.length - 1, to));
    const top = current * ROW;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + ROW > view.scrollTop + view.clientHeight) view.scrollTop = top + ROW - view.clientHeight;
    paint();
    sheet.querySelector(`[data-at="${current}"]`)?.focus({ preventScroll: true });
  }

  /** @param {any} place @param {boolean} open */
  function turn(place, open) {
    if (open) closed.delete(place.row.name);
    else closed.add(place.row.name);
    flatten();
    go(shown.findIndex((it) => it.row.name === place.row.name));
  }

  /** @param {any} place */
  function choose(place) {
    chosen = place.row.name;
    paint();
    options.onChoose?.(place);
  }

  view.addEventListener('scroll', paint, { passive: true });
  view.addEventListener('keydown', (event) => {
    const place = shown[current];
    if (!place) return;
    const page = Math.max(1, Math.floor(view.clientHeight / ROW) - 1);
    const open = place.children.length > 0 && !closed.has(place.row.name);
    const keys = {
      ArrowDown: () => go(current + 1), ArrowUp: () => go(current - 1), Home: () => go(0), End: () => go(shown.length - 1),
      PageDown: () => go(current + page), PageUp: () => go(current - page),
      ArrowRight: () => (place.children.length && !open ? turn(place, true) : go(current + 1)),
      ArrowLeft: () => (open ? turn(place, false) : place.parent && go(shown.indexOf(place.parent))),
      Enter: () => choose(place),
    };
    const act = keys[/** @type {keyof typeof keys} */ (event.key)];
    if (!act) return;
    event.preventDefault();
    act();
  });
  view.addEventListener('click', (event) => {
    const target = /** @type {Element} */ (event.target);
    const row = target.closest('.tree-row');
    if (!row) return;
    current = Number(row.getAttribute('data-at'));
    const place = shown[current];
    if (target.closest('.twist') && place.children.length) turn(place, closed.has(place.row.name));
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
      flatten();
      paint();
    },
    /** @param {string} text @param {boolean} trouble */
    narrow(text, trouble) {
      [wanted, onlyTrouble, current] = [text, trouble, 0];
      view.scrollTop = 0;
      if (state) this.show(state);
    },
    /** The actor chosen last. */
    chosen: () => chosen,
  };
}
