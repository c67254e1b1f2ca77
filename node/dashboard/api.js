// Asking the node that serves the page.
// @ts-check

/** @param {Response} response */
async function understood(response) {
  const body = await response.json().catch(() => ({ detail: `HTTP status ${response.status}` }));
  if (!response.ok) throw new Error(body.detail ?? `HTTP status ${response.status}`);
  return body;
}

/** @param {string} path */
export const get = async (path) => understood(await fetch(path, { cache: 'no-store' }));

/** @param {string} path @param {unknown} body */
export const post = async (path, body) =>
  understood(await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }));
