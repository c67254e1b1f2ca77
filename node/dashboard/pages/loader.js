// The driver files that nodes were told of: what became of each row.
// @ts-check
import { h, panel, tell } from '../dom.js';
import { grid } from '../grid.js';
import { remote } from '../remote.js';
import { clock, count, many, span } from '../words.js';

const REFRESH_MS = 5_000;

const bare = (id, head, of) => ({ id, head, kind: 'number', order: of, show: (row) => ({ text: count(of(row)), value: of(row) ?? null }) });
const took = (run) => (run.started_at && run.committed_at ? Date.parse(run.committed_at) - Date.parse(run.started_at) : null);

/** Rows in = loaded + replaced in the file + rejected. @param {any} run */
function reconciled(run) {
  const parts = [run.merged, run.duplicates, run.rejected];
  if (run.rows === null || parts.some((part) => part === null)) return { text: '○ unknown', kind: 'muted', value: 'unknown' };
  const left = run.rows - parts.reduce((sum, part) => sum + part, 0);
  return left === 0 ? { text: '● adds up', kind: 'good', value: 'yes' } : { text: `✕ ${count(Math.abs(left))} ${left > 0 ? 'missing' : 'too many'}`, kind: 'bad', value: 'no' };
}

export function loader() {
  const note = h('span', { class: 'muted' });
  const table = grid({
    label: 'Loads', key: (row) => row.load_id, testid: 'load-row', attributes: (row) => ({ 'data-load': row.load_id }), empty: 'No node was told of a load since it started.',
    columns: [
      { id: 'file', head: 'File', order: (row) => row.file, show: (row) => ({ text: row.file ?? 'unknown', title: row.file }) },
      bare('rows', 'Rows', (row) => row.rows),
      bare('merged', 'Loaded', (row) => row.merged),
      bare('duplicates', 'Replaced in the file', (row) => row.duplicates),
      bare('rejected', 'Rejected', (row) => row.rejected),
      { id: 'reconciled', head: 'Rows in = rows out', show: reconciled },
      { id: 'committed', head: 'Committed', order: (row) => row.committed_at, show: (row) => ({ text: clock(row.committed_at), title: row.committed_at }) },
      { id: 'took', head: 'Took', kind: 'number', order: took, show: (row) => ({ text: span(took(row)), value: took(row) }) },
      { id: 'node', head: 'Node told', show: (row) => row.node },
      { id: 'load', head: 'Load', kind: 'mono', show: (row) => ({ text: row.load_id.slice(0, 12), title: row.load_id }) },
    ],
  });
  const page = remote(() => '/api/v1/loads', REFRESH_MS, (read, error) => {
    if (error) return tell(note, `The loads cannot be read: ${error.message}`);
    const missing = read.silent.map((node) => node.node).join(', ');
    tell(note, `${many(read.loads.length, 'load')} since the nodes started; the warehouse's ledger has all${missing ? `; missing or old: ${missing}` : ''}`);
    table.show(read.loads);
  });
  const rejected = h('p', { class: 'none muted' }, 'Rejected rows stand in the quarantine file beside the one that was loaded; ', h('code', {}, 'speedtrap-loader status'), ' names it.');
  return { element: h('div', { class: 'stack' }, panel('Loads', {}, [note], h('div', { class: 'scroll' }, table.element), rejected)), show: () => page.due() };
}
