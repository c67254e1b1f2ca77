// Asking the node that serves the page.
// @ts-check

/** What a node said instead of an answer. */
export class Refused extends Error {
  /** @param {number} status @param {any} problem @param {string | null} [after] */
  constructor(status, problem, after = null) {
    super(words(status, problem, after));
    this.status = status;
    this.code = problem.code ?? '';
  }
}

/** Why it was refused, and what to do about it. @param {number} status @param {any} problem @param {string | null} after */
export function words(status, problem, after) {
  const told = problem.detail ?? problem.title ?? `HTTP status ${status}`;
  const meaning = {
    401: 'You are not signed in', 403: 'You may not do that', 409: 'It cannot be done now', 413: 'That is too much at once',
    429: `Too many requests${after ? `; try again in ${after} s` : ''}`, 503: 'The node cannot do it at the moment',
  }[status];
  const hint = problem.hint ? ` (${problem.hint})` : '';
  return meaning ? `${meaning}: ${told}${hint}` : `${told}${hint}`;
}

/** Who works with the page. Without users everybody may do everything, and says themselves who they are. */
export const session = { users: false, name: /** @type {string | null} */ (null), role: /** @type {string | null} */ ('admin'), csrf: '' };

const ROLES = ['viewer', 'operator', 'admin'];

/** @param {string} least */
export const may = (least) => ROLES.indexOf(session.role ?? '') >= ROLES.indexOf(least);

/** The name that goes with what is done where nobody has to sign in. */
export const ownName = () => localStorage.getItem('speedtrap-who') || 'local';

/** @param {Response} response */
async function understood(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) dispatchEvent(new Event('signed-out'));
  throw new Refused(response.status, body, response.headers.get('retry-after'));
}

/** @param {string} path */
export const get = async (path) => understood(await fetch(path, { cache: 'no-store', headers: { accept: 'application/json' } }));

/** @param {string} method @param {string} path @param {unknown} body @param {Record<string, string>} more */
async function change(method, path, body, more) {
  try {
    return await send(method, path, body, more);
  } catch (error) {
    // A node that has started again wants another proof.
    if (!(error instanceof Refused) || error.code !== 'csrf') throw error;
    await learnSession();
    return send(method, path, body, more);
  }
}

/** @param {string} method @param {string} path @param {unknown} body @param {Record<string, string>} more */
async function send(method, path, body, more) {
  const headers = { 'content-type': 'application/json', 'x-speedtrap-csrf': session.csrf, ...(session.users ? {} : { 'x-speedtrap-who': plain(ownName()) }), ...more };
  return understood(await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
}

/** Headers hold ASCII only. @param {string} name */
const plain = (name) => name.replace(/[^\x20-\x7e]/g, '?').slice(0, 100);

/** @param {string} path @param {unknown} body @param {Record<string, string>} [more] headers */
export const post = (path, body, more = {}) => change('POST', path, body, more);

/** Learns who works with the page; a node that knows no sessions knows no users. */
export async function learnSession() {
  try {
    take(await get('/api/v1/session'));
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
  }
  return session;
}

/** @param {any} told */
function take(told) {
  const users = told.users ?? (told.auth ?? 'none') !== 'none';
  Object.assign(session, { users, name: told.name, role: told.role ?? (users ? null : 'admin'), csrf: told.csrf ?? '' });
}

/** @param {string} token */
export async function signIn(token) {
  take(await post('/api/v1/session', { token }));
}

export async function signOut() {
  take(await change('DELETE', '/api/v1/session', {}, {}));
}
