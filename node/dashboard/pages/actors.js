// All actors of all nodes, and one of them in detail.
// @ts-check
import { actionButton } from '../actions.js';
import { spark, split } from '../charts.js';
import { factList, h, panel, tell } from '../dom.js';
import { grid } from '../grid.js';
import { pace, thin, upFor } from '../model.js';
import { lastDelay, pathTo, strategy } from '../supervision.js';
import { standing, treegrid } from '../tree.js';
import { clock, count, many, micros, percent, rate, span } from '../words.js';

const HELP = 'Words that an actor must match: part of a name, state:backoff, node:3, kind:ShardReader, reason:timeout, mailbox>100, restarts>0, rate>5, busy>80, waiting>50, p95>20 (ms), age<60 (s). A minus before a word means not.';
/** Samples of the chosen actor: 15 minutes. */
const KEPT = 900;

/** @param {{ query: URLSearchParams, remember: (query: Record<string, string>) => void }} context */
export function actors({ query, remember }) {
  let state = /** @type {any} */ (null);
  let open = query.get('open') ?? '';
  let order = query.get('sort') ?? 'name';
  let heard = -1;
  const text = h('input', { id: 'filter', size: 36, placeholder: 'state:backoff node:3 mailbox>100', title: HELP, value: query.get('filter') ?? '', 'data-testid': 'actor-filter', 'aria-label': 'Filter the actors' });
  const problems = h('button', { type: 'button', 'aria-pressed': String(query.get('problems') === '1'), 'data-testid': 'only-problems' }, 'Only problems');
  const total = h('span', { class: 'muted', 'data-testid': 'actor-count' });
  const tree = treegrid({ onChoose: choose, onOrder: (it) => ((order = it), keep()), order });
  const details = detail((name) => tree.place(name), (name) => {
    tree.choose(name);
    choose(name);
  });
  const isOnly = () => problems.getAttribute('aria-pressed') === 'true';
  const keep = () => remember({ filter: text.value.trim(), problems: isOnly() ? '1' : '', sort: order === 'name' ? '' : order, open });
  const counted = () => {
    const { shown, all } = tree.counts();
    tell(total, text.value.trim() || isOnly() ? `${count(shown)} rows of ${many(all, 'actor')}` : many(all, 'actor'));
    total.dataset.value = String(all);
  };
  const narrow = () => {
    tree.narrow(text.value, isOnly());
    counted();
    keep();
  };
  text.addEventListener('input', narrow);
  problems.addEventListener('click', () => {
    problems.setAttribute('aria-pressed', String(!isOnly()));
    narrow();
  });

  /** @param {string} name */
  function choose(name) {
    open = name;
    details.choose(name);
    keep();
    details.show(state, tree.place(name));
  }

  return {
    element: h('div', { class: 'two' }, panel('Actors', { class: 'left' }, [total, h('span', { class: 'gap' }), text, problems], tree.element), details.element),
    /** @param {any} now */
    show(now) {
      state = now;
      if (heard < 0) {
        tree.narrow(text.value, isOnly());
        if (open) details.choose(open);
      }
      tree.show(now);
      if (heard < 0 && open) tree.choose(open);
      heard = now.seq;
      counted();
      details.show(now, tree.place(open));
    },
  };
}

/** The panel about one actor. @param {(name: string) => any} placeOf @param {(name: string) => void} go */
function detail(placeOf, go) {
  let name = '';
  let samples = /** @type {{ seq: number, rate: number | null, mailbox: number, busy: number | null }[]} */ ([]);
  let current = /** @type {any} */ (null);
  let state = /** @type {any} */ (null);
  const bar = split();
  const path = h('p', { class: 'path', 'data-testid': 'actor-path' });
  const stands = h('p', { 'data-testid': 'actor-state' });
  const facts = h('div', {});
  const charts = h('div', { class: 'small-charts' });
  const target = () => ({ target: current.row.name, asked: state.asked, id: current.row.id });
  const buttons = h('div', { class: 'buttons start' }, actionButton('restart-actor', target), actionButton('drain-actor', target), actionButton('kill-actor', target, { class: 'danger' }));
  const restarts = grid({
    label: 'Restarts', key: (row) => `${row.at} ${row.attempt}`, testid: 'restart-row', empty: 'No restart is remembered.',
    columns: [
      { id: 'at', head: 'At', show: (row) => ({ text: clock(row.at), title: row.at }) },
      { id: 'attempt', head: 'No.', kind: 'number', show: (row) => ({ text: count(row.attempt), value: row.attempt }) },
      { id: 'by', head: 'By', show: (row) => row.by ?? 'its supervisor' },
      { id: 'delay', head: 'After', kind: 'number', show: (row) => ({ text: span(row.delay_ms), value: row.delay_ms ?? null }) },
      { id: 'reason', head: 'Reason', kind: 'wrap', show: (row) => row.reason },
    ],
  });
  const known = h('div', { class: 'detail', hidden: true }, path, stands, buttons, bar.element, facts, charts, h('h3', {}, 'Last restarts'), restarts.element);
  const none = h('p', { class: 'none muted' }, 'Choose an actor to see more of it: arrows move, Enter chooses.');
  let walked = '';
  /** The way from the root; each step leads there. @param {string} to */
  function way(to) {
    const steps = pathTo(to, placeOf);
    const told = steps.map((it) => it.name).join('\n');
    if (told === walked) return;
    walked = told;
    const step = (it) => (it.name === to ? h('span', {}, it.own) : h('button', { type: 'button', class: 'link', title: it.name, click: () => go(it.name) }, it.own));
    path.replaceChildren(...steps.flatMap((it, at) => [at ? ' / ' : '', step(it)]));
  }
  const below = () => (current.children.length ? [['Below it', `${many(current.below.actors, 'actor')}, ${count(current.below.mailbox)} queued, ${count(current.below.restarts)} restarts`]] : []);

  return {
    element: panel('Details', { class: 'right', 'data-testid': 'actor-details' }, [], none, known),
    /** @param {string} to */
    choose(to) {
      if (to !== name) samples = [];
      name = to;
    },
    /** @param {any} now @param {any} place */
    show(now, place) {
      [state, current] = [now, place];
      known.hidden = !place;
      none.hidden = Boolean(place);
      if (!place) return tell(none, name && now ? `${name} does not run any more, or not yet.` : 'Choose an actor to see more of it: arrows move, Enter chooses.');
      const { row } = place;
      const speed = pace(now, row);
      known.dataset.actor = row.name;
      way(row.name);
      const [glyph, word, kind] = standing(place, now.asked.get(row.name), now.stale.get(row.node));
      stands.className = kind;
      stands.dataset.value = row.state;
      tell(stands, `${glyph} ${word}${row.last ? `, last ended: ${row.last.reason}${row.last.by ? ` (by ${row.last.by})` : ''}` : ''}`);
      bar.update(speed.busy, speed.waiting);
      facts.replaceChildren(
        factList([
          ['Kind', row.kind], ['Node', row.node], ['Supervisor', row.parent ?? 'none: it is a root'], ['If it ends', h('span', { 'data-testid': 'strategy' }, strategy(row, placeOf(row.parent)?.row).text)], ['Last time', [lastDelay(row), 'delay', row.last ? (row.last.delay_ms ?? null) : null]], ['Number', row.id === null ? 'none: it does not run' : [String(row.id), 'id', row.id]],
          ['Up', [span(upFor(now, row)), 'up', row.up_s]], ['Mailbox', [count(row.mailbox), 'mailbox', row.mailbox]],
          ['Received, done', [`${count(row.received)}, ${count(row.done)}`, 'done', row.done]], ['Messages', [`${rate(speed.rate)}/s`, 'rate', speed.rate]],
          ['Busy, waiting', [`${percent(speed.busy)}, ${percent(speed.waiting)}`, 'busy', speed.busy]], ['Handling, p95', [micros(row.p95_us), 'p95', row.p95_us]],
          ['In the mailbox, p95', [micros(row.mailbox_p95_us), 'mailbox-p95', row.mailbox_p95_us]], ['Restarts', [count(row.restarts), 'restarts', row.restarts]], ...below(),
        ])
      );
      if (samples.at(-1)?.seq !== now.seq) samples.push({ seq: now.seq, rate: speed.rate, mailbox: row.mailbox, busy: speed.busy });
      if (samples.length > KEPT) samples.shift();
      const chart = (title, of) => h('figure', {}, h('figcaption', { class: 'muted' }, title), spark(thin(samples.map(of)), 120, 28));
      charts.replaceChildren(chart('msg/s', (it) => it.rate), chart('mailbox', (it) => it.mailbox), chart('busy', (it) => it.busy));
      restarts.show(now.restarts.filter((it) => it.actor === row.name).slice(-20).reverse());
    },
  };
}
