// What operators did, on all nodes.
// @ts-check
import { get } from '../api.js';
import { h, panel, table } from '../dom.js';

const REFRESH_MS = 5_000;

export function audit() {
  const body = h('div', { class: 'scroll' });
  const note = h('span', { class: 'muted' }, 'the whole log is a file on each node that nothing rewrites');
  let asked = 0;
  async function read() {
    asked = performance.now();
    try {
      const page = await get('/api/v1/audit');
      const missing = page.silent.map((node) => node.node).join(', ');
      note.textContent = missing ? `missing or old: ${missing}` : 'the whole log is a file on each node that nothing rewrites';
      const cells = (line) => ({ attributes: { 'data-testid': 'audit-row', 'data-action': line.action_id, 'data-phase': line.phase }, cells: [line.at, line.node, line.phase, line.who, line.from, line.action, [h('span', { title: line.target }, line.target), ''], line.reason, line.outcome] });
      const heads = ['At', 'Node', 'Phase', 'Who', 'From', 'Action', 'Target', 'Reason', 'Outcome'];
      body.replaceChildren(table('Audit', heads, page.lines.toReversed().map(cells)));
    } catch (error) {
      note.textContent = `The log cannot be read: ${/** @type {Error} */ (error).message}`;
    }
  }
  return {
    element: panel('Audit', {}, [note], body),
    show() {
      if (asked === 0 || performance.now() - asked > REFRESH_MS) read();
    },
  };
}
