// What operators did, on all nodes: what they intended, and what became of it.
// @ts-check
import { canStop, isOver, standing } from '../action_model.js';
import { toast } from '../actions.js';
import { may, post } from '../api.js';
import { h, panel, tell } from '../dom.js';
import { grid } from '../grid.js';
import { remote } from '../remote.js';
import { count } from '../words.js';

const REFRESH_MS = 3_000;
const UNDER_WAY_EVERY_MS = 2_000;
const PHASES = { intent: ['◐', 'busy'], done: ['●', 'good'], failed: ['✕', 'bad'], cancelled: ['■', 'busy'], refused: ['✕', 'bad'] };

/** @param {{ query: URLSearchParams, remember: (query: Record<string, string>) => void }} context */
export function audit({ query, remember }) {
  const note = h('span', { class: 'muted' });
  const wanted = h('input', { id: 'audit-filter', size: 28, placeholder: 'who, action, target, reason', value: query.get('filter') ?? '', 'aria-label': 'Filter the audit' });
  let lines = /** @type {any[]} */ ([]);
  const plain = (id, head, of = (row) => row[id]) => ({ id, head, order: of, show: (row) => ({ text: of(row) || '–', value: of(row) ?? null }) });
  const long = (id, head) => ({ id, head, kind: 'long', show: (row) => ({ text: row[id] || '–', title: row[id], value: row[id] }) });
  const table = grid({
    label: 'Audit', key: (row) => `${row.node} ${row.action_id} ${row.phase}`, testid: 'audit-row', empty: 'Nothing was done yet, or nothing of that kind.',
    attributes: (row) => ({ 'data-action': row.action_id, 'data-phase': row.phase, 'data-kind': row.action }),
    columns: [
      plain('at', 'At'), plain('node', 'Node'), plain('who', 'Who'), plain('role', 'Role'), plain('from', 'From'), plain('action', 'Action'), long('target', 'Target'), long('reason', 'Reason'),
      { id: 'phase', head: 'Phase', order: (row) => row.phase, show: (row) => ({ text: `${(PHASES[row.phase] ?? PHASES.intent)[0]} ${row.phase}`, kind: (PHASES[row.phase] ?? PHASES.intent)[1], value: row.phase }) },
      long('outcome', 'Outcome'), { id: 'request', head: 'Action id', kind: 'mono', show: (row) => ({ text: row.action_id, title: row.key ? `idempotency key ${row.key}` : null, value: row.action_id }) },
    ],
  });
  function draw() {
    const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
    table.show(lines.filter((line) => words.every((word) => Object.values(line).join(' ').toLowerCase().includes(word))));
  }
  const page = remote(() => '/api/v1/audit', REFRESH_MS, (read, error) => {
    if (error) return tell(note, `The log cannot be read: ${error.message}`);
    const missing = read.silent.map((node) => node.node).join(', ');
    lines = read.lines.toReversed();
    const spoilt = (read.broken ?? []).map((it) => it.node ?? it).join(', ');
    note.className = spoilt ? 'bad' : 'muted';
    tell(note, spoilt ? `✕ Lines were changed on ${spoilt}` : `the last ${count(lines.length)} lines; all of them are in a file on each node${missing ? `; missing or old: ${missing}` : ''}`);
    draw();
  });
  const running = underWay();
  wanted.addEventListener('input', () => {
    remember({ filter: wanted.value.trim() });
    draw();
  });
  return {
    element: h('div', { class: 'column' }, running.element, panel('Audit', { class: 'rest' }, [note, h('span', { class: 'gap' }), wanted], h('div', { class: 'scroll' }, table.element))),
    show() {
      page.due();
      running.due();
    },
  };
}

/** The actions that this node was asked for and that are not over; nothing while there are none. */
function underWay() {
  const table = grid({
    label: 'Under way', key: (row) => row.action_id, testid: 'action-row', attributes: (row) => ({ 'data-action': row.action_id, 'data-state': row.state }),
    columns: [
      { id: 'kind', head: 'Action', show: (row) => row.kind }, { id: 'target', head: 'Target', kind: 'long', show: (row) => ({ text: row.target, title: row.target }) },
      { id: 'who', head: 'Who', show: (row) => row.who }, { id: 'stands', head: 'Stands', kind: 'long', show: (row) => ({ text: standing(row), value: row.state }) },
      { id: 'stop', head: '', make: stop, update: (node, row) => (node.hidden = !canStop(row.kind) || !may('operator')) },
    ],
  });
  const element = panel('Under way', { hidden: true }, [], h('div', { class: 'scroll' }, table.element));
  const page = remote(() => '/api/v1/actions', UNDER_WAY_EVERY_MS, (read) => {
    const open = (read?.actions ?? []).filter((action) => !isOver(action));
    element.hidden = open.length === 0;
    table.show(open);
  });
  /** @param {() => any} of */
  function stop(of) {
    const press = () => post(`/api/v1/actions/${encodeURIComponent(of().action_id)}/cancel`, {}).then(page.read, (error) => toast(error.message, 'bad'));
    return h('button', { type: 'button', 'data-testid': 'do-stop', click: press }, 'Stop');
  }
  return { element, due: page.due };
}
