// Asks before something is done: what will happen, why, and the words typed once more; then shows what became of it.
// @ts-check
import { get, may, ownName, post, Refused, session } from './api.js';
import { canStop, isOver, isReady, KINDS, riskWords, standing } from './action_model.js';
import { h, tell } from './dom.js';

/** How often a running action is looked at, and for how long one that does not end. */
const LOOK_EVERY_MS = 500;
const LOOK_FOR_MS = 15 * 60_000;
/** A preview is asked again before its token is too old. */
const PREVIEW_FRESH_MS = 50_000;

const later = (ms) => new Promise((done) => setTimeout(done, ms));

/** Random, and never used twice: the same key does nothing again. */
const freshKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/**
 * A button for an action; none for those who may not.
 * @param {keyof typeof KINDS} kind @param {() => any} of gives what `ask` takes @param {{ text?: string, testid?: string, class?: string }} [more]
 */
export function actionButton(kind, of, more = {}) {
  const { role, verb } = KINDS[kind];
  if (!may(role)) return null;
  return h('button', { type: 'button', class: more.class ?? null, 'data-testid': more.testid ?? `do-${kind}`, click: () => ask({ kind, ...of() }) }, more.text ?? `${verb}…`);
}

/** A dialog that goes when it is closed. @param {string} testid @param {string} title */
export function dialog(testid, title) {
  const name = `${testid}-title`;
  const element = h('dialog', { 'data-testid': testid, 'aria-labelledby': name }, h('h2', { id: name }, title));
  element.addEventListener('close', () => element.remove());
  document.body.append(element);
  return element;
}

/**
 * @param {{
 *   kind: keyof typeof KINDS, target: any, options?: Record<string, any>,
 *   fields?: (change: (options: Record<string, any>) => void) => (Node | null)[], asked?: Map<string, any>, id?: any, done?: () => void,
 * }} question `fields` lets the operator choose options
 */
export function ask({ kind, target, options = {}, fields, asked, id, done }) {
  const { verb, ask: title, note, doing } = /** @type {any} */ (KINDS[kind]);
  const element = dialog('confirm-dialog', title(target));
  let preview = /** @type {any} */ (null);
  let previewed = 0;
  let busy = false;
  let running = /** @type {string | null} */ (null);
  let chosen = options;
  const key = freshKey();

  const effects = h('ul', { 'data-testid': 'confirm-effects', 'aria-live': 'polite' }, h('li', { class: 'muted' }, 'asking what will happen…'));
  const risk = h('p', { class: 'risk', 'data-testid': 'confirm-risk' });
  const reason = h('input', { id: 'confirm-reason', 'data-testid': 'confirm-reason', required: true, maxlength: 400, autocomplete: 'off' });
  const who = session.users ? null : h('input', { id: 'confirm-who', 'data-testid': 'confirm-who', required: true, maxlength: 100, autocomplete: 'username', value: ownName() });
  const words = h('b', { class: 'mono' }, '…');
  const typed = h('input', { id: 'confirm-text', 'data-testid': 'confirm-text', autocomplete: 'off', spellcheck: 'false' });
  const run = h('button', { class: 'danger', 'data-testid': 'confirm-run', disabled: true }, verb);
  const close = h('button', { type: 'button', 'data-testid': 'confirm-close' }, 'Cancel');
  const bar = h('progress', { hidden: true, 'aria-label': 'Progress' });
  const said = h('p', { class: 'said', role: 'status', 'data-testid': 'confirm-said' });

  const check = () => run.toggleAttribute('disabled', !isReady({ preview, typed: typed.value, reason: reason.value, who: who ? who.value.trim() : null, busy }));
  for (const field of [reason, who, typed]) field?.addEventListener('input', check);

  let wishes = 0;
  async function look() {
    const wish = (wishes += 1);
    try {
      const told = await post('/api/v1/actions/preview', { kind, target, options: chosen });
      if (wish !== wishes) return;
      [preview, previewed] = [told, performance.now()];
      effects.replaceChildren(...told.effects.map((effect) => h('li', {}, effect)), h('li', {}, 'The audit log keeps who did it, why, and what became of it.'));
      const [glyph, colour, text] = riskWords(told.risk);
      risk.className = `risk ${colour}`;
      tell(risk, `${glyph} ${text}`);
      tell(words, told.confirm_text);
    } catch (error) {
      if (wish !== wishes) return;
      preview = null;
      effects.replaceChildren(h('li', { class: 'bad' }, /** @type {Error} */ (error).message));
    }
    check();
  }
  const renew = setInterval(() => {
    if (!busy && running === null && preview && performance.now() - previewed > PREVIEW_FRESH_MS) look();
  }, 2_000);

  /** @param {any} action */
  function shown(action) {
    tell(said, standing(action));
    said.className = `said ${{ done: 'good', failed: 'bad', cancelled: 'busy' }[action.state] ?? ''}`;
    said.dataset.value = action.state;
    bar.hidden = isOver(action);
    if (action.progress?.total) {
      bar.max = action.progress.total;
      bar.value = action.progress.total - action.progress.left;
    }
  }

  /** Looks at it until it is over. @param {string} name */
  async function follow(name) {
    const until = performance.now() + LOOK_FOR_MS;
    let action = { state: 'intent', progress: null, outcome: null };
    while (performance.now() < until) {
      try {
        action = await get(`/api/v1/actions/${encodeURIComponent(name)}`);
        shown(action);
        if (isOver(action)) break;
      } catch (error) {
        // The node may be the one that stops; the audit log of the others tells.
        tell(said, `Not known at the moment: ${/** @type {Error} */ (error).message}`);
        if (error instanceof Refused && error.status === 404) break;
      }
      await later(LOOK_EVERY_MS);
    }
    if (!element.open) toast(`${title(target).replace('?', '')}: ${standing(action)}`, action.state === 'done' ? 'good' : 'bad');
    return action;
  }

  async function act() {
    busy = true;
    check();
    if (who && who.value.trim() !== ownName()) {
      // The node takes an order only from whoever had it previewed.
      localStorage.setItem('speedtrap-who', who.value.trim());
      await look();
      if (preview?.confirm_text !== typed.value.trim()) {
        busy = false;
        return check();
      }
    }
    tell(said, doing);
    bar.hidden = false;
    asked?.set(target, { kind, id });
    try {
      const { action_id: name } = await post('/api/v1/actions', { token: preview.token, reason: reason.value.trim(), confirm_text: typed.value.trim() }, { 'idempotency-key': key });
      running = name;
      tell(close, canStop(kind) ? 'Stop' : 'Close');
      run.hidden = true;
      await follow(name);
    } catch (error) {
      said.className = 'said bad';
      tell(said, /** @type {Error} */ (error).message);
      // A token is good for one try.
      if (running === null) look();
    }
    bar.hidden = true;
    [busy, running] = [false, null];
    tell(close, 'Close');
    close.focus();
    // The next frame shows what became of it.
    setTimeout(() => asked?.delete(target), 1_200);
    check();
    done?.();
  }

  close.addEventListener('click', async () => {
    if (running !== null && close.textContent === 'Stop') {
      try {
        await post(`/api/v1/actions/${encodeURIComponent(running)}/cancel`, {});
        tell(said, 'Stopping after the step in work…');
      } catch (error) {
        tell(said, /** @type {Error} */ (error).message);
      }
    } else element.close();
  });
  element.addEventListener('close', () => clearInterval(renew));

  const form = h(
    'form',
    {},
    note ? h('p', {}, note) : null,
    risk,
    effects,
    ...(fields?.((more) => {
      chosen = { ...chosen, ...more };
      look();
    }) ?? []),
    h('label', { for: 'confirm-reason' }, 'Reason (required)'), reason,
    ...(who ? [h('label', { for: 'confirm-who' }, 'Your name'), who] : []),
    h('label', { for: 'confirm-text' }, 'Type ', words, ' to confirm'), typed,
    bar, said,
    h('div', { class: 'buttons' }, close, run)
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (!run.hasAttribute('disabled') && !run.hidden) act();
  });
  element.append(form);
  element.showModal();
  reason.focus();
  look();
}

/** Tells the end of what was left to run. @param {string} text @param {string} kind */
export function toast(text, kind) {
  const note = h('div', { class: `toast ${kind}`, role: 'status' }, h('span', {}, text), h('button', { type: 'button', 'aria-label': 'Close', click: () => note.remove() }, '✕'));
  document.getElementById('toasts')?.append(note);
  setTimeout(() => note.remove(), 15_000);
}
