// Asking for a token, where a node wants to know who looks.
// @ts-check
import { session, signIn } from './api.js';
import { h } from './dom.js';

/** Who the page works for; waits until somebody has signed in, if somebody has to. */
export async function signedIn() {
  const page = await session();
  return page.users && page.name === null ? ask() : page;
}

/** @returns {Promise<any>} */
function ask() {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById('dialog'));
  const token = h('input', { id: 'token', type: 'password', required: true, autocomplete: 'off', spellcheck: 'false', 'data-testid': 'sign-in-token' });
  const said = h('p', { role: 'alert' });
  const form = h(
    'form',
    { 'data-testid': 'sign-in' },
    h('h2', { id: 'question' }, 'Sign in'),
    h('label', { for: 'token' }, 'Your token'), token,
    said,
    h('div', { class: 'buttons' }, h('button', {}, 'Sign in'))
  );
  dialog.setAttribute('aria-labelledby', 'question');
  dialog.replaceChildren(form);
  return new Promise((done) => {
    const stay = (/** @type {Event} */ event) => event.preventDefault();
    // There is nothing to see behind it yet, so it does not close by Escape.
    dialog.addEventListener('cancel', stay);
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      try {
        const page = await signIn(token.value.trim());
        dialog.removeEventListener('cancel', stay);
        dialog.close();
        done(page);
      } catch (error) {
        said.textContent = /** @type {Error} */ (error).message;
        token.value = '';
        token.focus();
      }
    });
    dialog.showModal();
    token.focus();
  });
}
