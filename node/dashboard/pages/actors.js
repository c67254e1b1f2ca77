// All actors of all nodes, and one of them in detail.
// @ts-check
import { h, panel, table } from '../dom.js';
import { split } from '../charts.js';
import { pace } from '../model.js';
import { treegrid } from '../tree.js';
import { count, percent, rate, span } from '../words.js';

const HELP = 'Words that the actor must match: part of a name, state:backoff, node:node-3, kind:ShardReader, mailbox>100, restarts>0';

/** @param {{ query: URLSearchParams }} context */
export function actors({ query }) {
  const tree = treegrid({ onChoose: () => state && show(state) });
  let state = /** @type {any} */ (null);
  let open = query.get('open');
  const text = h('input', { id: 'filter', size: 36, placeholder: 'state:backoff node:node-3 mailbox>100', title: HELP, value: query.get('filter') ?? '' });
  const trouble = h('button', { type: 'button', 'aria-pressed': 'false' }, 'Only trouble');
  const total = h('span', { class: 'muted' });
  const details = h('div', {});
  const narrow = () => tree.narrow(text.value, trouble.getAttribute('aria-pressed') === 'true');
  text.addEventListener('input', narrow);
  trouble.addEventListener('click', () => {
    trouble.setAttribute('aria-pressed', String(trouble.getAttribute('aria-pressed') !== 'true'));
    narrow();
  });

  /** @param {any} now */
  function show(now) {
    state = now;
    total.textContent = `${count(now.rows.size)} actors`;
    tree.show(now);
    const name = tree.chosen() ?? open;
    details.replaceChildren(name && now.rows.has(name) ? detail(now, now.rows.get(name)) : h('p', { class: 'muted' }, 'Choose an actor.'));
  }
  if (text.value) narrow();
  const beside = [total, h('span', { class: 'gap' }), h('label', { for: 'filter' }, 'Filter '), text, trouble];
  return {
    element: h('div', { class: 'actors' }, panel('Actors', { class: 'left' }, beside, tree.element), panel('Details', { class: 'right' }, [], details)),
    show,
  };
}

/** @param {any} state @param {any} row */
function detail(state, row) {
  const { rate: speed, busy, waiting } = pace(state, row);
  const path = row.name.split('/').map((part, place, all) => (place === all.length - 1 ? h('b', {}, part) : `${part} / `));
  const restarts = state.restarts.filter((it) => it.actor === row.name).slice(-20).reverse();
  const facts = [
    ['Kind', row.kind], ['State', row.state], ['Number', row.id === null ? 'none: it does not run' : row.id], ['Up', span(row.up_s * 1_000)],
    ['Mailbox', count(row.mailbox)], ['Received, done', `${count(row.received)}, ${count(row.done)}`], ['Messages', `${rate(speed)}/s`],
    ['Busy, waiting', `${percent(busy)}, ${percent(waiting)}`], ['Restarts', count(row.restarts)],
  ];
  return h(
    'div',
    { class: 'detail' },
    h('p', { class: 'path' }, ...path),
    split(busy, waiting),
    h('dl', { class: 'facts' }, ...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))])),
    restarts.length
      ? table('Restarts', ['At', ['No.', 'number'], 'Reason'], restarts.map((it) => [it.at, count(it.attempt), it.reason]))
      : h('p', { class: 'muted' }, 'No restart is remembered.')
  );
}
