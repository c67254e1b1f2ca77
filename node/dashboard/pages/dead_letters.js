// Records that could not be processed: why, and what an operator may do about them.
// @ts-check
import { get, post } from '../api.js';
import { confirm } from '../confirm.js';
import { h, panel, table } from '../dom.js';
import { count } from '../words.js';

/** Letters of one order, and how long to wait before the next: 50 a second. */
const AT_ONCE = 50;
const PAUSE_MS = 1_000;
const SHOWN = 500;
const REFRESH_MS = 10_000;

/** @param {{ query: URLSearchParams }} context */
export function deadLetters({ query }) {
  let page = /** @type {any} */ (null);
  let asked = 0;
  const chosen = new Set();
  const state = h('select', { id: 'state' }, ...['open', 'redriven', 'discarded', 'all'].map((name) => h('option', { selected: name === (query.get('state') ?? 'open') }, name)));
  const summary = h('span', { class: 'muted' });
  const [redrive, discard] = ['Redrive…', 'Discard…'].map((text) => h('button', { type: 'button' }, text));
  const refresh = h('button', { type: 'button' }, 'Read again');
  const groups = h('div', { class: 'scroll' });
  const rows = h('div', { class: 'scroll' });
  const details = h('div', { class: 'detail' });

  async function read() {
    asked = performance.now();
    try {
      page = await get(`/api/v1/dead-letters?state=${encodeURIComponent(state.value)}`);
      const ids = new Set(page.letters.map((letter) => letter.id));
      for (const id of chosen) if (!ids.has(id)) chosen.delete(id);
      draw();
    } catch (error) {
      summary.textContent = `The letters cannot be read: ${/** @type {Error} */ (error).message}`;
    }
  }

  const wanted = () => {
    const open = page.letters.filter((letter) => letter.state === 'open');
    return chosen.size ? open.filter((letter) => chosen.has(letter.id)) : open;
  };

  function draw() {
    summary.textContent = `${count(page.total)} ${state.value === 'all' ? '' : state.value} letters, ${count(Math.min(SHOWN, page.letters.length))} shown${page.whole ? '' : '; there are more in the table'}`;
    for (const button of [redrive, discard]) button.toggleAttribute('disabled', wanted().length === 0);
    const reasons = new Map();
    for (const letter of page.letters) {
      const key = `${letter.stage}\n${letter.reason}`;
      reasons.set(key, [...(reasons.get(key) ?? []), letter.id]);
    }
    const sorted = [...reasons].sort((one, other) => other[1].length - one[1].length);
    groups.replaceChildren(
      table('Reasons', ['', ['Letters', 'number'], 'Stage', 'Reason'], sorted.map(([key, ids]) => [[pick(ids, key), ''], [count(ids.length), 'number'], ...key.split('\n')]))
    );
    const cells = (letter) => ({ attributes: { 'data-testid': 'letter-row', 'data-letter': letter.id }, cells: [
      [pick([letter.id], letter.id), ''], letter.last_seen, letter.stage, letter.state, [count(letter.tries), 'number'], letter.plate ?? 'unknown',
      [count(letter.payload_bytes), 'number'], [h('button', { type: 'button', class: 'link', click: () => show(letter.id) }, letter.reason), ''],
    ] });
    rows.replaceChildren(
      table('Dead letters', ['', 'Last seen', 'Stage', 'State', ['Tries', 'number'], 'Plate', ['Bytes', 'number'], 'Reason'], page.letters.slice(0, SHOWN).map(cells))
    );
  }

  /** @param {string[]} ids @param {string} name */
  function pick(ids, name) {
    const all = ids.every((id) => chosen.has(id));
    const box = h('input', { type: 'checkbox', 'aria-label': `Choose ${name.replace('\n', ' ')}`, checked: all });
    box.addEventListener('change', () => {
      for (const id of ids) box.checked ? chosen.add(id) : chosen.delete(id);
      draw();
    });
    return box;
  }

  /** @param {string} id */
  async function show(id) {
    const letter = await get(`/api/v1/dead-letters/${encodeURIComponent(id)}`);
    const facts = [['Letter', letter.id], ['Stage', letter.stage], ['State', letter.state], ['Reason', letter.reason], ['Source', letter.source], ['First seen', letter.first_seen], ['Last seen', letter.last_seen], ['Tries', letter.tries]];
    details.replaceChildren(
      h('dl', { class: 'facts' }, ...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))])),
      h('pre', {}, JSON.stringify(letter.payload, null, 2))
    );
  }

  /** @param {'redrive' | 'discard'} action */
  function order(action) {
    const ids = wanted().map((letter) => letter.id).reverse();
    const effects = {
      redrive: ['Each record goes back on the stream it came from and is processed as if it came for the first time.', 'Effects that stand already stay one; a record that is still bad comes back here.', `50 letters a second; it can be stopped.`],
      discard: ['Rows and payloads stay, but nobody is asked to do anything about them any more.'],
    }[action];
    confirm({
      title: `${action === 'redrive' ? 'Redrive' : 'Discard'} ${count(ids.length)} letters?`,
      effects,
      words: `${action} ${ids.length}`,
      async act({ reason, who }, progress, stopped) {
        let [done, left] = [0, 0];
        for (let from = 0; from < ids.length && !stopped(); from += AT_ONCE) {
          if (from > 0) await new Promise((later) => setTimeout(later, PAUSE_MS));
          const end = await post(`/api/v1/dead-letters/${action}`, { ids: ids.slice(from, from + AT_ONCE), reason, who, from: 'page' });
          done += end.done;
          left += end.left.length;
          progress(`${count(done)} done, ${count(left)} left as they are, of ${count(ids.length)}`);
        }
        chosen.clear();
        await read();
        return `${count(done)} done, ${count(left)} left as they are${done + left < ids.length ? `, stopped before ${count(ids.length - done - left)}` : ''}.`;
      },
    });
  }

  redrive.addEventListener('click', () => order('redrive'));
  discard.addEventListener('click', () => order('discard'));
  refresh.addEventListener('click', read);
  state.addEventListener('change', read);
  const gap = h('span', { class: 'gap' });
  return {
    element: h(
      'div',
      { class: 'letters' },
      panel('Dead letters', { class: 'left' }, [summary, gap, h('label', { for: 'state' }, 'State '), state, refresh, redrive, discard], groups, rows),
      panel('One letter', { class: 'right' }, [], details)
    ),
    show() {
      // The table is remote: it is read now and then, not once a second.
      if (asked === 0 || performance.now() - asked > REFRESH_MS) read();
    },
  };
}
