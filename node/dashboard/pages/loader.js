// The driver files that nodes were told of: what became of each row.
// @ts-check
import { get } from '../api.js';
import { h, panel, table } from '../dom.js';
import { count } from '../words.js';

const REFRESH_MS = 5_000;

export function loader() {
  const body = h('div', { class: 'scroll' });
  const note = h('span', { class: 'muted' });
  let asked = 0;
  async function read() {
    asked = performance.now();
    try {
      const page = await get('/api/v1/loads');
      const missing = page.silent.map((node) => node.node).join(', ');
      note.textContent = `${count(page.loads.length)} since the nodes started; the warehouse's ledger has all${missing ? `; missing or old: ${missing}` : ''}`;
      body.replaceChildren(table('Loads', ['File', ['Rows', 'number'], ['Merged', 'number'], ['Replaced in the file', 'number'], ['Rejected', 'number'], 'Adds up', 'Committed at', 'Node told', 'Load id'], page.loads.map(cells)));
    } catch (error) {
      note.textContent = `The loads cannot be read: ${/** @type {Error} */ (error).message}`;
    }
  }
  return {
    element: panel('Loads', {}, [note], body),
    show() {
      if (asked === 0 || performance.now() - asked > REFRESH_MS) read();
    },
  };
}

/** @param {any} run */
function cells(run) {
  const parts = [run.merged, run.duplicates, run.rejected];
  const known = run.rows !== null && parts.every((part) => part !== null);
  const adds = known && parts.reduce((sum, part) => sum + part, 0) === run.rows;
  return [
    run.file ?? 'unknown', [count(run.rows), 'number'], [count(run.merged), 'number'], [count(run.duplicates), 'number'], [count(run.rejected), 'number'],
    known ? (adds ? ['● yes', 'good'] : ['✕ no', 'bad']) : 'unknown', run.committed_at ?? 'unknown', run.node, [h('span', { title: run.load_id }, run.load_id.slice(0, 12)), ''],
  ];
}
