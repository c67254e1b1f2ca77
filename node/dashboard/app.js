// The frame around the pages: navigation, live state, theme, keys, who is signed in.
// @ts-check
import { dialog } from './actions.js';
import { learnSession, ownName, session, signIn, signOut } from './api.js';
import { h, tell } from './dom.js';
import { newest, note, nothing } from './history.js';
import { listen } from './stream.js';
import { count, many, span } from './words.js';
import { actors } from './pages/actors.js';
import { audit } from './pages/audit.js';
import { deadLetters } from './pages/dead_letters.js';
import { loader } from './pages/loader.js';
import { mapPage } from './pages/map.js';
import { nodes } from './pages/nodes.js';
import { overview } from './pages/overview.js';
import { pipeline } from './pages/pipeline.js';
import { shards } from './pages/shards.js';

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

/** A page is made when it is opened, and shown whenever a frame came. */
const PAGES = {
  overview: { title: 'Overview', make: overview, badge: (state) => (state.findings.length ? count(state.findings.length) : '') },
  actors: { title: 'Actors', make: actors, badge: (state) => count(state.rows.size) },
  shards: { title: 'Shards', make: shards, badge: (state) => count(state.shards.shards.filter((shard) => shard.state !== 'ended').length) },
  pipeline: { title: 'Pipeline', make: pipeline, badge: () => '' },
  loader: { title: 'Loader', make: loader, badge: () => '' },
  'dead-letters': { title: 'Dead letters', make: deadLetters, badge: () => '' },
  map: { title: 'Map', make: mapPage, badge: () => '' },
  nodes: { title: 'Nodes', make: nodes, badge: (state) => count(newest(state.nodes.nodes).filter((node) => node.presence !== 'left').length) },
  audit: { title: 'Audit', make: audit, badge: () => '' },
};
const WITH_WINDOW = ['overview', 'map'];

let current = '';
/** @type {any} */
let page = null;
let heard = /** @type {any} */ (null);
let history_ = remembered();

/** What this browser saw before the page was loaded again. */
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem('speedtrap-history') ?? 'null') ?? nothing();
  } catch {
    return nothing();
  }
}

/** The page and its parameters stand in the address, so that a link shows the same. */
function place() {
  const [name, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { name: name in PAGES ? name : 'overview', query: new URLSearchParams(query ?? '') };
}

/** @param {string} name @param {Record<string, string>} query */
function address(name, query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#/${name}${text ? `?${text}` : ''}`;
}

function open() {
  const { name, query } = place();
  current = name;
  const { title, make } = PAGES[/** @type {keyof typeof PAGES} */ (name)];
  const context = {
    query, go, windowOf: () => $('window').value, history: () => history_,
    remember: (wish) => window.history.replaceState(null, '', address(name, wish)),
  };
  page = make(/** @type {any} */ (context));
  document.title = `${title} · Speedtrap`;
  $('main').className = `page-${name}`;
  tell($('title'), title);
  $('page').replaceChildren(page.element);
  $('window-label').hidden = !WITH_WINDOW.includes(name);
  navigation();
  if (heard) page.show(heard);
}

/** @param {string} name @param {Record<string, string>} [query] */
function go(name, query = {}) {
  location.hash = address(name, query);
}

/** @type {Map<string, { link: any, badge: any }>} */
const links = new Map();
const foot = h('div', { class: 'foot' });

function makeNavigation() {
  for (const [name, { title }] of Object.entries(PAGES)) {
    const badge = h('span', { class: 'badge' });
    links.set(name, { link: h('a', { href: `#/${name}`, 'data-testid': `nav-${name}` }, title, badge), badge });
  }
  $('nav').replaceChildren(...[...links.values()].map((it) => it.link), foot);
}

function navigation() {
  for (const [name, { link, badge }] of links) {
    if (name === current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    if (heard) tell(badge, PAGES[/** @type {keyof typeof PAGES} */ (name)].badge(heard));
    badge.classList.toggle('bad', name === 'overview' && heard?.findings.length > 0);
  }
  if (!heard) return;
  const self = heard.status.nodes.find((node) => node.name === heard.status.served_by)?.status;
  const lines = ['Served by ', heard.status.served_by, self ? `v${self.version}, up ${span(self.uptime_s * 1_000)}` : '', 'Personal data masked'];
  if (foot.childElementCount === 0) foot.replaceChildren(lines[0], h('b', {}, lines[1]), h('br'), h('span', {}, lines[2]), h('br'), lines[3]);
  tell(foot.children[0], lines[1]);
  tell(foot.children[2], lines[2]);
}

let told = '';
const WORDS = { live: ['●', 'Live', 'good'], stale: ['▲', 'Stale', 'busy'], disconnected: ['✕', 'Disconnected', 'bad'], connecting: ['○', 'Connecting', 'muted'] };

/** @param {any} state @param {import('./stream.js').Live} live @param {boolean} fresh */
function change(state, live, fresh) {
  const [glyph, word, kind] = WORDS[live.standing];
  const pill = $('live-pill');
  pill.className = `pill ${live.paused ? 'busy' : kind}`;
  pill.dataset.value = live.standing;
  pill.dataset.age = live.age === null ? 'unknown' : String(Math.round(live.age));
  tell(pill, `${live.paused ? '❚❚ Paused' : `${glyph} ${word}`}${live.age === null ? '' : ` · snapshot ${span(live.age)} old`}`);
  lost(live);
  if (!fresh) return;
  heard = state;
  if (note(history_, state)) sessionStorage.setItem('speedtrap-history', JSON.stringify(history_));
  const all = newest(state.status.nodes).filter((node) => node.presence !== 'left');
  const well = all.filter((node) => !node.silent).length;
  tell($('nodes-pill'), `${well === all.length ? '●' : '▲'} ${well} of ${many(all.length, 'node')}`);
  $('nodes-pill').className = `pill ${well === all.length ? 'good' : 'bad'}`;
  $('nodes-pill').dataset.value = `${well}/${all.length}`;
  const found = state.findings;
  $('findings-pill').hidden = found.length === 0;
  tell($('findings-pill'), `▲ ${many(found.length, 'finding')}`);
  navigation();
  page?.show(state);
  const findings = found.map((it) => it.text).join('; ');
  const names = found.map((it) => it.id ?? it.text).join();
  if (names !== told) {
    // Only what is new is worth a word: numbers inside a finding change every second.
    $('announcer').textContent = findings === '' ? 'no findings' : findings;
    told = names;
  }
}

/** Offers the other nodes when this one is gone. @param {import('./stream.js').Live} live */
function lost(live) {
  const gone = live.standing === 'disconnected';
  if ($('lost').hidden === !gone) return;
  $('lost').hidden = !gone;
  if (!gone) return;
  const served = heard?.status.served_by;
  const others = (heard?.nodes.nodes ?? []).filter((node) => node.name !== served && node.dashboard && !['dead', 'left'].includes(node.presence));
  const link = (node) => h('a', { href: `${/^https?:/.test(node.dashboard) ? node.dashboard : `${location.protocol}//${node.dashboard}`}/${location.hash}`, 'data-testid': 'other-node' }, node.name);
  $('lost').replaceChildren(
    h('strong', {}, '✕ Disconnected. '),
    live.why ?? `${served ?? 'The node'} does not answer; what is shown is old. It is tried again all the time.`,
    ...(others.length ? [' The same is shown by ', ...others.flatMap((node, at) => [at ? ', ' : '', link(node)]), '.'] : [])
  );
}

function keys() {
  const rows = [
    ['1 to 9', 'open the page of that place'], ['/', 'filter'], ['p', 'pause or go on'], ['t', 'theme'], ['?', 'this'],
    ['arrows, Home, End, Page Up, Page Down', 'move in the tree of actors; right and left open and close'], ['Enter', 'details of an actor'], ['Esc', 'close a dialog'],
  ];
  const element = dialog('keys-dialog', 'Keys');
  element.append(h('dl', { class: 'facts' }, ...rows.flatMap(([key, does]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, does)])), h('form', { method: 'dialog', class: 'buttons' }, h('button', {}, 'Close')));
  element.showModal();
}

/** @type {any} */
let asking = null;

function signInDialog() {
  if (asking) return;
  const element = (asking = dialog('sign-in-dialog', 'Sign in'));
  const token = h('input', { id: 'token', type: 'password', 'data-testid': 'sign-in-token', required: true, autocomplete: 'current-password', spellcheck: 'false' });
  const said = h('p', { class: 'bad', role: 'status', 'data-testid': 'sign-in-said' });
  const form = h(
    'form', { 'data-testid': 'sign-in' },
    h('p', {}, 'This node has to know who looks. ', h('code', {}, 'speedtrap token new'), ' makes a token for each user; it is shown once.'),
    // Password managers want a name beside it.
    h('input', { type: 'text', autocomplete: 'username', value: 'speedtrap', hidden: true }),
    h('label', { for: 'token' }, 'Your token'), token, said, h('div', { class: 'buttons' }, h('button', { class: 'primary', 'data-testid': 'sign-in-run' }, 'Sign in'))
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await signIn(token.value.trim());
      element.close();
      begin();
    } catch (error) {
      tell(said, /** @type {Error} */ (error).message);
      token.value = '';
      token.focus();
    }
  });
  // There is nothing to see behind it, so it does not close by Escape.
  element.addEventListener('cancel', (event) => event.preventDefault());
  element.addEventListener('close', () => (asking = null));
  element.append(form);
  element.showModal();
  token.focus();
}

function user() {
  const who = session.users ? session.name : ownName();
  tell($('user-pill'), session.role ? `${session.role} · ${who}` : 'not signed in');
  Object.assign($('user-pill').dataset, { role: session.role ?? '', value: session.role ?? 'nobody' });
  document.body.dataset.role = session.role ?? '';
  $('sign-out').hidden = !session.users || session.name === null;
}

let live = /** @type {any} */ (null);

/** Learns who looks, and shows what they may see. */
async function begin() {
  try {
    await learnSession();
  } catch {
    // The stream tells soon enough that the node does not answer.
  }
  user();
  if (session.users && session.name === null) return signInDialog();
  open();
  if (live) live.again();
  else live = listen(change);
}

function pause() {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', String(paused));
  tell($('pause'), paused ? 'Go on' : 'Pause');
  live?.pause(paused);
}

const NEXT = { auto: 'light', light: 'dark', dark: 'auto' };

/** @param {string} name */
function wear(name) {
  document.documentElement.dataset.theme = name in NEXT ? name : 'auto';
  tell($('theme'), `Theme: ${document.documentElement.dataset.theme}`);
}
function theme() {
  wear(NEXT[/** @type {keyof typeof NEXT} */ (document.documentElement.dataset.theme ?? 'auto')]);
  localStorage.setItem('speedtrap-theme', document.documentElement.dataset.theme ?? 'auto');
}

wear(localStorage.getItem('speedtrap-theme') ?? 'auto');
$('pause').addEventListener('click', pause);
$('theme').addEventListener('click', theme);
$('keys').addEventListener('click', keys);
$('window').addEventListener('change', () => page?.window?.());
$('sign-out').addEventListener('click', async () => {
  await signOut().catch(() => {});
  location.reload();
});
addEventListener('signed-out', signInDialog);
addEventListener('hashchange', open);
document.addEventListener('keydown', (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, textarea, select, dialog')) return;
  const name = Object.keys(PAGES)[Number(event.key) - 1];
  if (name) go(name);
  else if (event.key === '?') keys();
  else if (event.key === 'p') pause();
  else if (event.key === 't') theme();
  else if (event.key === '/') {
    event.preventDefault();
    document.querySelector('main input')?.focus();
  }
});
makeNavigation();
begin();
