// What operators did, on all nodes: what they intended, and what became of it.
// @ts-check
import { h, panel, tell } from '../dom.js';
import { grid } from '../grid.js';
import { remote } from '../remote.js';
import { count } from '../words.js';

const REFRESH_MS = 3_000;
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
  wanted.addEventListener('input', () => {
    remember({ filter: wanted.value.trim() });
    draw();
  });
  return { element: h('div', { class: 'whole' }, panel('Audit', {}, [note, h('span', { class: 'gap' }), wanted], h('div', { class: 'scroll' }, table.element))), show: () => page.due() };
}
