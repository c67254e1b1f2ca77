// Asks before something is done: what will happen, why, by whom, and the words typed once more.
// @ts-check
import { h } from './dom.js';

/**
 * @param {{ title: string, effects: string[], words: string, act: (told: { reason: string, who: string }, progress: (text: string) => void, stopped: () => boolean) => Promise<string> }} question
 */
export function confirm({ title, effects, words, act }) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById('dialog'));
  const reason = h('input', { id: 'why', 'data-testid': 'confirm-reason', required: true, maxlength: 400, autocomplete: 'off' });
  const who = h('input', { id: 'who', 'data-testid': 'confirm-who', required: true, maxlength: 100, autocomplete: 'username', value: localStorage.getItem('speedtrap-who') ?? '' });
  const typed = h('input', { id: 'typed', 'data-testid': 'confirm-text', autocomplete: 'off', spellcheck: 'false' });
  const go = h('button', { class: 'danger', 'data-testid': 'confirm-run', disabled: true }, 'Do it');
  const end = h('button', { type: 'button' }, 'Cancel');
  const said = h('p', { role: 'status' });
  let stop = false;
  let busy = false;
  const check = () => {
    const ready = !busy && reason.value.trim().length > 2 && who.value.trim() !== '' && typed.value.trim() === words;
    go.toggleAttribute('disabled', !ready);
  };
  for (const field of [reason, who, typed]) field.addEventListener('input', check);
  end.addEventListener('click', () => {
    stop = true;
    if (!busy) dialog.close();
  });
  const form = h(
    'form',
    {},
    h('h2', { id: 'question' }, title),
    h('ul', {}, ...effects.map((effect) => h('li', {}, effect))),
    h('label', { for: 'why' }, 'Why (the audit log keeps it)'), reason,
    h('label', { for: 'who' }, 'Who you are'), who,
    h('label', { for: 'typed' }, `Type ${words} to go on`), typed,
    said,
    h('div', { class: 'buttons' }, end, go)
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (go.hasAttribute('disabled')) return;
    busy = true;
    check();
    localStorage.setItem('speedtrap-who', who.value.trim());
    end.textContent = 'Stop';
    try {
      said.textContent = await act({ reason: reason.value.trim(), who: who.value.trim() }, (text) => (said.textContent = text), () => stop);
    } catch (error) {
      said.textContent = `It failed: ${/** @type {Error} */ (error).message}`;
    }
    busy = false;
    stop = false;
    end.textContent = 'Close';
  });
  dialog.setAttribute('aria-labelledby', 'question');
  dialog.replaceChildren(form);
  dialog.showModal();
  reason.focus();
}
