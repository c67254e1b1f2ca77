// Asking the node that serves the page.
// @ts-check

/** What the node wants to see again with whatever changes something: proof that this page has read its answers. */
let csrf = '';

/** @param {Response} response */
async function understood(response) {
  const body = await response.json().catch(() => ({ detail: `HTTP status ${response.status}` }));
  if (response.ok) return body;
  throw Object.assign(new Error(body.detail ?? `HTTP status ${response.status}`), { status: response.status, code: body.code });
}

/** @param {string} path */
export const get = async (path) => understood(await fetch(path, { cache: 'no-store' }));

/** @param {'POST' | 'DELETE'} method @param {string} path @param {unknown} body @param {Record<string, string>} [more] */
async function send(method, path, body, more = {}) {
  if (csrf === '') await session();
  const headers = { 'content-type': 'application/json', 'x-speedtrap-csrf': csrf, ...more };
  return understood(await fetch(path, { method, headers, body: JSON.stringify(body) }));
}

/** @param {string} path @param {unknown} body @param {Record<string, string>} [headers] */
export async function post(path, body, headers) {
  try {
    return await send('POST', path, body, headers);
  } catch (error) {
    // A node that has started again wants another proof.
    if (/** @type {any} */ (error).code !== 'csrf') throw error;
    csrf = '';
    return send('POST', path, body, headers);
  }
}

/** @param {any} page */
function noted(page) {
  csrf = page.csrf;
  return page;
}

/** Who the page works for: `users` is whether somebody has to sign in, `name` and `role` are null until then. */
export const session = async () => noted(await get('/api/v1/session'));

/** @param {string} token */
export const signIn = async (token) => noted(await post('/api/v1/session', { token }));

export const signOut = async () => noted(await send('DELETE', '/api/v1/session', {}));
