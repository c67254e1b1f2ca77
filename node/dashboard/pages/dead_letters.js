// Records that could not be processed: why, and what an operator may do about them.
// @ts-check
import { ask, dialog } from '../actions.js';
import { KINDS, MOST_LETTERS } from '../action_model.js';
import { get, may, ownName, post, session } from '../api.js';
import { factList, h, panel, select, tell } from '../dom.js';
import { grid, pressed } from '../grid.js';
import { remote } from '../remote.js';
import { ago, count, many } from '../words.js';

const SHOWN = 500;
/** Reading letters reads their whole table. */
const REFRESH_MS = 10_000;
const PACES = [['1', '1 a second'], ['10', '10 a second'], ['50', '50 a second']];

/** @param {{ query: URLSearchParams, remember: (query: Record<string, string>) => void }} context */
export function deadLetters({ query, remember }) {
  let page = /** @type {any} */ (null);
  let now = '';
  let open = query.get('open') ?? '';
  const wish = { stage: query.get('stage') ?? '', reason: query.get('reason') ?? '' };
  const chosen = new Set();
  const state = select('letter-state', ['open', 'redriven', 'discarded', 'all'].map((name) => [name, name]), query.get('state') ?? 'open', { 'data-testid': 'letter-state' });
  const summary = h('span', { class: 'muted', 'data-testid': 'letter-count' });
  const filtered = h('p', { class: 'none', hidden: true });
  const details = h('div', { class: 'detail' }, h('p', { class: 'muted' }, 'Choose a letter to see its record, persons masked.'));
  const buttons = Object.fromEntries(/** @type {const} */ (['redrive', 'discard']).map((kind) => [kind, h('button', { type: 'button', 'data-testid': `do-${kind}`, hidden: !may(KINDS[kind].role), click: () => order(kind) }, '')]));
  const keep = () => remember({ state: state.value === 'open' ? '' : state.value, ...wish, open });

  const groups = grid({
    label: 'Reasons', key: (row) => `${row.stage}\n${row.reason}`, testid: 'reason-row', attributes: (row) => ({ 'data-stage': row.stage }), empty: 'None.', sort: '-letters',
    columns: [
      { id: 'letters', head: 'Letters', kind: 'number', order: (row) => row.n, show: (row) => ({ text: count(row.n), value: row.n }) },
      { id: 'stage', head: 'Stage', order: (row) => row.stage, show: (row) => row.stage },
      { id: 'reason', head: 'Reason', kind: 'long', ...pressed((row) => row.reason, (row) => narrow(wish.reason === row.reason && wish.stage === row.stage ? { stage: '', reason: '' } : row)) },
      { id: 'last', head: 'Last seen', order: (row) => row.last, show: (row) => ({ text: `${ago(row.last, now)} ago`, title: row.last }) },
    ],
  });
  const letters = grid({
    label: 'Dead letters', key: (row) => row.id, testid: 'letter-row', attributes: (row) => ({ 'data-letter': row.id, 'data-state': row.state }), empty: 'No letter is like that.',
    columns: [
      { id: 'pick', head: '', make: box, update: (node, row) => (node.checked = chosen.has(row.id)) },
      { id: 'last', head: 'Last seen', order: (row) => row.last_seen, show: (row) => ({ text: `${ago(row.last_seen, now)} ago`, title: row.last_seen }) },
      { id: 'first', head: 'First seen', order: (row) => row.first_seen, show: (row) => ({ text: `${ago(row.first_seen, now)} ago`, title: row.first_seen }) },
      { id: 'stage', head: 'Stage', order: (row) => row.stage, show: (row) => row.stage },
      { id: 'reason', head: 'Reason', kind: 'long', ...pressed((row) => row.reason, (row) => show(row.id)) },
      { id: 'state', head: 'State', show: (row) => ({ text: row.state, value: row.state }) },
      { id: 'tries', head: 'Tries', kind: 'number', order: (row) => row.tries, show: (row) => ({ text: count(row.tries), value: row.tries }) },
      { id: 'plate', head: 'Plate', kind: 'mono', show: (row) => row.plate ?? 'unknown' },
      { id: 'bytes', head: 'Bytes', kind: 'number', order: (row) => row.payload_bytes, show: (row) => ({ text: count(row.payload_bytes), value: row.payload_bytes }) },
      { id: 'source', head: 'Source', kind: 'mono', show: (row) => ({ text: short(row.source), title: row.source }) },
    ],
  });

  /** @param {() => any} of */
  function box(of) {
    const element = h('input', { type: 'checkbox', 'data-testid': 'letter-pick', 'aria-label': 'Choose this letter' });
    element.addEventListener('change', () => {
      if (element.checked) chosen.add(of().id);
      else chosen.delete(of().id);
      draw();
    });
    return element;
  }

  const fits = (letter) => (!wish.stage || letter.stage === wish.stage) && (!wish.reason || letter.reason === wish.reason);
  const those = () => page?.letters.filter(fits) ?? [];
  const openOnes = () => those().filter((letter) => letter.state === 'open');

  /** @param {{ stage: string, reason: string }} to */
  function narrow({ stage, reason }) {
    Object.assign(wish, { stage, reason });
    chosen.clear();
    keep();
    draw();
  }

  function draw() {
    if (!page) return;
    const here = those();
    const counted = new Map();
    for (const { stage, reason, last_seen: last } of page.letters) {
      const key = `${stage}\n${reason}`;
      const group = counted.get(key) ?? { stage, reason, n: 0, last };
      counted.set(key, { ...group, n: group.n + 1, last: last > group.last ? last : group.last });
    }
    groups.show([...counted.values()]);
    groups.choose(wish.reason ? `${wish.stage}\n${wish.reason}` : null);
    letters.show(here.slice(0, SHOWN));
    tell(summary, `${count(here.length)} ${state.value === 'all' ? '' : state.value} letters, ${count(Math.min(SHOWN, here.length))} shown${page.whole ? '' : '; there are more in the table'}${chosen.size ? `, ${count(chosen.size)} chosen` : ''}`);
    summary.dataset.value = String(here.length);
    filtered.hidden = !wish.stage && !wish.reason;
    if (!filtered.hidden) {
      filtered.replaceChildren('Only ', wish.stage ? `stage ${wish.stage} ` : '', wish.reason ? `with “${wish.reason}” ` : '', h('button', { type: 'button', click: () => narrow({ stage: '', reason: '' }) }, 'Show all'));
    }
    const n = chosen.size || openOnes().length;
    for (const [kind, button] of Object.entries(buttons)) {
      tell(button, `${KINDS[/** @type {'redrive'} */ (kind)].verb} ${chosen.size ? `${count(n)} chosen` : `all ${count(n)} that match`}…`);
      button.toggleAttribute('disabled', n === 0);
    }
  }

  const source = remote(() => `/api/v1/dead-letters?state=${encodeURIComponent(state.value)}`, REFRESH_MS, (read, error) => {
    if (error) return tell(summary, `The letters cannot be read: ${error.message}`);
    page = read;
    const ids = new Set(page.letters.filter((letter) => letter.state === 'open').map((letter) => letter.id));
    for (const id of chosen) if (!ids.has(id)) chosen.delete(id);
    draw();
  });

  /** @param {string} id */
  async function show(id) {
    open = id;
    keep();
    letters.choose(id);
    try {
      letter(await get(`/api/v1/dead-letters/${encodeURIComponent(id)}`));
    } catch (error) {
      details.replaceChildren(h('p', { class: 'bad' }, /** @type {Error} */ (error).message));
    }
  }

  /** @param {any} it */
  function letter(it) {
    const record = h('pre', { 'data-testid': 'letter-payload' }, JSON.stringify(it.payload, null, 2));
    const last = it.outcome ?? it.redriven_at;
    details.dataset.letter = it.id;
    details.replaceChildren(
      factList([
        ['Letter', h('span', { class: 'mono' }, it.id)], ['Stage', it.stage], ['State', [it.state, 'state', it.state]], ['Reason', it.reason], ['Source', h('span', { class: 'mono' }, it.source)],
        ['First seen', it.first_seen], ['Last seen', it.last_seen], ['Tries', [count(it.tries), 'tries', it.tries]], ...(last ? [/** @type {[string, any]} */ (['Outcome', last])] : []),
      ]),
      h('h3', {}, 'Record, persons masked'),
      record,
      may('operator') ? h('div', { class: 'buttons start' }, h('button', { type: 'button', 'data-testid': 'do-reveal', click: () => reveal(it.id, record) }, 'Reveal…')) : ''
    );
  }

  /** @param {'redrive' | 'discard'} kind */
  function order(kind) {
    const ids = [...chosen];
    const like = { state: 'open', ...(wish.stage ? { stage: wish.stage } : {}), ...(wish.reason ? { reason: wish.reason } : {}) };
    const pace = (change) => {
      const speed = select('letter-pace', /** @type {[string, string][]} */ (PACES), '10', { 'data-testid': 'letter-pace' });
      speed.addEventListener('change', () => change({ per_second: Number(speed.value) }));
      return [h('p', { class: 'muted' }, `At most ${count(MOST_LETTERS)} in one go, oldest first; it can be stopped.`), h('label', { for: 'letter-pace' }, 'How fast'), speed];
    };
    const done = () => {
      chosen.clear();
      source.read();
    };
    ask({ kind, target: ids.length ? ids : like, options: { per_second: 10 }, fields: pace, done });
  }

  state.addEventListener('change', () => {
    chosen.clear();
    keep();
    source.read();
  });
  const all = h('button', { type: 'button', click: () => choose() }, 'Choose those shown');
  function choose() {
    const ids = openOnes().slice(0, SHOWN).map((it) => it.id);
    const every = ids.every((id) => chosen.has(id));
    for (const id of ids) every ? chosen.delete(id) : chosen.add(id);
    draw();
  }
  const refresh = h('button', { type: 'button', click: () => source.read() }, 'Read again');
  if (open) show(open);
  return {
    element: h(
      'div',
      { class: 'two' },
      panel('Dead letters', { class: 'left letters' }, [summary, h('span', { class: 'gap' }), h('label', { for: 'letter-state' }, 'State '), state, refresh], h('div', { class: 'toolbar' }, all, h('span', { class: 'gap' }), ...Object.values(buttons)), filtered, h('div', { class: 'scroll groups' }, groups.element), h('div', { class: 'scroll' }, letters.element)),
      panel('One letter', { class: 'right' }, [], details)
    ),
    /** @param {any} frame */
    show(frame) {
      now = frame.at;
      source.due();
    },
  };
}

/** The end of a place on a stream. @param {string} source */
const short = (source) => (source.length > 14 ? `…${source.slice(-13)}` : source);

/** Shows one record unmasked, after a reason that the audit keeps. @param {string} id @param {HTMLElement} record */
function reveal(id, record) {
  const element = dialog('reveal-dialog', 'Reveal this record?');
  const reason = h('input', { id: 'reveal-reason', 'data-testid': 'reveal-reason', required: true, maxlength: 400, autocomplete: 'off' });
  const who = session.users ? null : h('input', { id: 'reveal-who', required: true, maxlength: 100, value: ownName() });
  const run = h('button', { class: 'danger', disabled: true, 'data-testid': 'reveal-run' }, 'Reveal');
  const said = h('p', { class: 'bad', role: 'status' });
  reason.addEventListener('input', () => run.toggleAttribute('disabled', reason.value.trim().length < 3));
  const form = h(
    'form', {},
    h('p', {}, 'You will see the plate and whatever else the record holds. The audit log keeps that you did, and why.'),
    h('label', { for: 'reveal-reason' }, 'Reason (required)'), reason, ...(who ? [h('label', { for: 'reveal-who' }, 'Your name'), who] : []), said,
    h('div', { class: 'buttons' }, h('button', { type: 'button', click: () => element.close() }, 'Cancel'), run)
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (run.hasAttribute('disabled')) return;
    if (who) localStorage.setItem('speedtrap-who', who.value.trim());
    try {
      const told = await post('/api/v1/reveal', { kind: 'dead-letter', id, reason: reason.value.trim() });
      record.textContent = typeof told.payload === 'string' ? told.payload : JSON.stringify(told.payload, null, 2);
      record.classList.add('revealed');
      element.close();
    } catch (error) {
      tell(said, /** @type {Error} */ (error).message);
    }
  });
  element.append(form);
  element.showModal();
  reason.focus();
}
