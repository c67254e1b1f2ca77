// The driver files that nodes were told of: how far each load is, what became of each row, and why rows were rejected.
// @ts-check
import { h, panel, tell } from '../dom.js';
import { get } from '../api.js';
import { grid } from '../grid.js';
import { copying, reading, reconciled, standing, trouble } from '../load_model.js';
import { remote } from '../remote.js';
import { clock, count, many, span } from '../words.js';

/** Loaders tell at most once a second. */
const REFRESH_MS = 1_000;

const bare = (id, head, of) => ({ id, head, kind: 'number', order: of, show: (row) => ({ text: count(of(row)), value: of(row) ?? null }) });
const took = (run) => (run.started_at && run.committed_at ? Date.parse(run.committed_at) - Date.parse(run.started_at) : null);

/** @param {{ query: URLSearchParams, remember: (query: Record<string, string>) => void }} context */
export function loader({ query, remember }) {
  let open = query.get('load') ?? '';
  let page = /** @type {any} */ (null);
  let read = '';
  const note = h('span', { class: 'muted' });
  const table = grid({
    label: 'Loads', key: (row) => row.load_id, testid: 'load-row', attributes: (row) => ({ 'data-load': row.load_id, 'data-size': row.size ?? 'unknown', 'data-read-bytes': row.read_bytes ?? 'unknown' }), empty: 'No node was told of a load since it started.',
    columns: [
      { id: 'file', head: 'File', order: (row) => row.file, show: (row) => ({ text: row.file ?? 'unknown', title: row.file }) },
      {
        id: 'state', head: 'State', order: (row) => row.state,
        show: (row) => {
          const { glyph, word, kind, state } = standing(row, page?.at ?? null);
          return { text: `${glyph} ${word}`, kind, value: state, title: row.updated_at };
        },
      },
      {
        id: 'read', head: 'Read',
        make: () => h('span', { class: 'filled' }, h('progress', { max: 1, 'aria-label': 'How much of the file is read' }), h('span', {})),
        update: (node, row) => {
          const { share, text } = reading(row);
          const [bar, words] = node.children;
          bar.hidden = share === null;
          if (share !== null && bar.value !== share) bar.value = share;
          tell(words, text);
        },
      },
      { id: 'reconciled', head: 'Rows = loaded + replaced + rejected', show: reconciled },
      bare('rows', 'Rows', (row) => row.rows),
      bare('sent', 'Sent', (row) => row.sent),
      bare('batches', 'Firehose batches', (row) => row.batches),
      bare('staged', 'In S3', (row) => row.staged),
      bare('objects', 'S3 objects', (row) => row.objects),
      { id: 'copy', head: 'COPY', show: copying },
      bare('merged', 'Loaded', (row) => row.merged),
      bare('duplicates', 'Replaced in the file', (row) => row.duplicates),
      {
        id: 'rejected', head: 'Rejected', kind: 'number', order: (row) => row.rejected,
        make: (of) => h('button', { type: 'button', class: 'link', 'data-testid': 'show-rejected', click: () => choose(of().load_id) }, ''),
        update: (node, row) => {
          tell(node, count(row.rejected));
          node.parentElement.dataset.value = String(row.rejected ?? 'unknown');
          node.toggleAttribute('disabled', !row.rejected);
          node.setAttribute('aria-label', `${count(row.rejected)} rejected rows of ${row.file ?? 'this load'}: show them`);
        },
      },
      { id: 'trouble', head: 'Why it does not go on', kind: 'long', show: (row) => ({ ...trouble(row), title: trouble(row).text }) },
      { id: 'rate', head: 'Rows/s', kind: 'number', order: (row) => row.rows_per_second, show: (row) => ({ text: count(row.rows_per_second), value: row.rows_per_second ?? null }) },
      bare('restarts', 'Restarts', (row) => row.restarts),
      { id: 'committed', head: 'Committed', order: (row) => row.committed_at, show: (row) => ({ text: row.committed_at ? clock(row.committed_at) : 'not yet', title: row.committed_at }) },
      { id: 'took', head: 'Took', kind: 'number', order: took, show: (row) => ({ text: span(took(row)), value: took(row) }) },
      { id: 'node', head: 'Node told', show: (row) => ({ text: row.node, title: row.told_at }) },
      { id: 'load', head: 'Load', kind: 'mono', show: (row) => ({ text: row.load_id.slice(0, 12), title: row.load_id, value: row.load_id }) },
    ],
  });
  const rows = grid({
    label: 'Rejected rows', key: (row) => String(row.line), testid: 'rejected-row', attributes: (row) => ({ 'data-line': row.line }), empty: 'None of them was told of: they stand in the quarantine file.',
    columns: [
      bare('line', 'Line', (row) => row.line),
      { id: 'reason', head: 'Rule', order: (row) => row.reason, show: (row) => ({ text: row.reason.replaceAll('_', ' '), value: row.reason }) },
      { id: 'column', head: 'Column', order: (row) => row.column, show: (row) => row.column ?? 'the whole row' },
      { id: 'detail', head: 'What is wrong', kind: 'long', show: (row) => ({ text: row.detail ?? 'as the warehouse said in the quarantine file', title: row.detail }) },
    ],
  });
  const title = h('p', { class: 'path' });
  const told = h('p', { class: 'muted', 'data-testid': 'rejected-count' });
  const close = h('button', { type: 'button', click: () => choose('') }, 'Close');
  const rejected = panel('Rejected rows', { class: 'rejected', hidden: true }, [h('span', { class: 'gap' }), close], h('div', { class: 'detail' }, title, told), h('div', { class: 'scroll' }, rows.element));

  /** @param {string} id */
  function choose(id) {
    open = id === open ? '' : id;
    read = '';
    remember({ load: open });
    draw();
  }

  function draw() {
    if (!page) return;
    table.show(page.loads);
    const run = page.loads.find((it) => it.load_id === open);
    table.choose(run ? open : null);
    rejected.hidden = !run;
    if (!run) return;
    tell(title, `${run.file ?? run.load_id}: ${many(run.rejected ?? 0, 'rejected row')}`);
    // Asked for again only when there may be others.
    const wanted = `${open} ${run.rejected} ${run.rejected_shown}`;
    if (wanted === read) return;
    read = wanted;
    show(open);
  }

  /** @param {string} id */
  async function show(id) {
    try {
      const list = await get(`/api/v1/loads/${encodeURIComponent(id)}/rejected`);
      if (id !== open) return;
      rows.show(list.rows ?? []);
      told.dataset.value = String(list.rows?.length ?? 'unknown');
      tell(told, list.rows ? `${many(list.rows.length, 'row')} of ${count(list.rejected)}, without what stands in them; the quarantine file beside the load has all of them, and can be mended and replayed.` : 'The loader told of none; its quarantine file has them.');
    } catch (error) {
      read = '';
      tell(told, `They cannot be read: ${/** @type {Error} */ (error).message}`);
    }
  }

  const source = remote(() => '/api/v1/loads', REFRESH_MS, (now, error) => {
    if (error) return tell(note, `The loads cannot be read: ${error.message}`);
    page = now;
    const missing = page.silent.map((node) => node.node).join(', ');
    tell(note, `${many(page.loads.length, 'load')} since the nodes started; the warehouse's ledger has all${missing ? `; missing or old: ${missing}` : ''}`);
    draw();
  });
  return { element: h('div', { class: 'stack' }, panel('Loads', {}, [note], h('div', { class: 'scroll' }, table.element)), rejected), show: () => source.due() };
}
