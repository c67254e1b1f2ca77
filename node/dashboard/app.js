// The frame around the pages: navigation, live state, theme, keys.
// @ts-check
import { h } from './dom.js';
import { signedIn } from './sign_in.js';
import { listen } from './stream.js';
import { count, span } from './words.js';
import { actors } from './pages/actors.js';
import { audit } from './pages/audit.js';
import { deadLetters } from './pages/dead_letters.js';
import { loader } from './pages/loader.js';
import { nodes } from './pages/nodes.js';
import { overview } from './pages/overview.js';
import { pipeline } from './pages/pipeline.js';
import { shards } from './pages/shards.js';

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

/** A page is made when it is opened, and shown whenever a frame came. */
const PAGES = {
  overview: { title: 'Overview', make: overview, badge: () => null },
  actors: { title: 'Actors', make: actors, badge: (state) => count(state.rows.size) },
  shards: { title: 'Shards', make: shards, badge: (state) => count(state.shards.shards.filter((shard) => shard.state !== 'ended').length) },
  pipeline: { title: 'Pipeline', make: pipeline, badge: () => null },
  loader: { title: 'Loader', make: loader, badge: () => null },
  'dead-letters': { title: 'Dead letters', make: deadLetters, badge: () => null },
  nodes: { title: 'Nodes', make: nodes, badge: (state) => count(state.nodes.nodes.length) },
  audit: { title: 'Audit', make: audit, badge: () => null },
};

let current = '';
/** @type {{ element: HTMLElement, show: (state: any) => void } | null} */
let page = null;
let heard = /** @type {any} */ (null);

/** The page and its parameters stand in the address, so that a link shows the same. */
function place() {
  const [name, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { name: name in PAGES ? name : 'overview', query: new URLSearchParams(query ?? '') };
}

function open() {
  const { name, query } = place();
  current = name;
  page = PAGES[/** @type {keyof typeof PAGES} */ (name)].make({ query, go });
  const { title } = PAGES[/** @type {keyof typeof PAGES} */ (name)];
  document.title = `${title} · Speedtrap`;
  $('main').className = `page-${name}`;
  $('main').replaceChildren(h('h1', {}, title), page.element);
  navigation();
  if (heard) page.show(heard);
}

/** @param {string} name @param {Record<string, string>} [query] */
function go(name, query = {}) {
  const text = new URLSearchParams(query).toString();
  location.hash = `#/${name}${text ? `?${text}` : ''}`;
}

function navigation() {
  const link = ([name, { title, badge }]) =>
    h(
      'a',
      { href: `#/${name}`, 'data-testid': `nav-${name}`, 'aria-current': name === current ? 'page' : null },
      title,
      h('span', { class: 'badge' }, heard ? badge(heard) : null)
    );
  const foot = heard
    ? h('div', { class: 'foot' }, 'Served by ', h('b', {}, heard.status.served_by), h('br'), 'Personal data masked')
    : null;
  $('nav').replaceChildren(...Object.entries(PAGES).map(link), ...(foot ? [foot] : []));
}

let told = '';

/** @param {any} state @param {{ connected: boolean, age: number | null, dropped: boolean }} live */
function change(state, live) {
  const pill = $('live-pill');
  const word = live.dropped ? 'Paused' : live.connected ? 'Live' : 'Disconnected';
  pill.className = `pill ${live.connected ? (live.dropped ? 'busy' : 'good') : 'bad'}`;
  pill.dataset.value = live.age === null ? 'connecting' : live.connected ? 'live' : 'disconnected';
  pill.textContent = live.age === null ? 'connecting' : `${word} · snapshot ${span(live.age)} old`;
  if (!state.heard) return;
  const fresh = heard === null || heard.painted !== state.seq;
  heard = state;
  const all = state.status.nodes;
  const well = all.filter((node) => !node.silent).length;
  $('nodes-pill').textContent = `${well} of ${all.length} nodes`;
  $('nodes-pill').className = `pill ${well === all.length ? 'good' : 'bad'}`;
  if (!fresh || live.dropped) return;
  state.painted = state.seq;
  navigation();
  page?.show(state);
  const findings = state.status.problems.join('; ');
  if (findings !== told) {
    told = findings;
    $('announcer').textContent = findings === '' ? 'no findings' : findings;
  }
}

function keys() {
  const rows = [
    ['1 to 9', 'open the page of that place'], ['/', 'filter'], ['p', 'pause or go on'], ['?', 'this'],
    ['arrows, Home, End, Page Up, Page Down', 'move in the tree of actors'], ['Enter', 'details of an actor'],
  ];
  const dialog = $('dialog');
  dialog.replaceChildren(
    h('h2', {}, 'Keys'),
    h('dl', {}, ...rows.flatMap(([key, does]) => [h('dt', {}, key), h('dd', {}, does)])),
    h('form', { method: 'dialog' }, h('button', {}, 'Close'))
  );
  dialog.showModal();
}

// Without knowing who looks there is nothing to see.
const me = await signedIn();
document.body.dataset.role = me.role;
const live = listen(change);

function pause() {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', String(paused));
  $('pause').textContent = paused ? 'Go on' : 'Pause';
  live.pause(paused);
}

function theme() {
  const next = { auto: 'light', light: 'dark', dark: 'auto' }[document.documentElement.dataset.theme ?? 'auto'] ?? 'auto';
  document.documentElement.dataset.theme = next;
  localStorage.setItem('speedtrap-theme', next);
}

document.documentElement.dataset.theme = localStorage.getItem('speedtrap-theme') ?? 'auto';
$('pause').addEventListener('click', pause);
$('theme').addEventListener('click', theme);
$('keys').addEventListener('click', keys);
window.addEventListener('hashchange', open);
document.addEventListener('keydown', (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, textarea, select, dialog')) return;
  const name = Object.keys(PAGES)[Number(event.key) - 1];
  if (name) go(name);
  else if (event.key === '?') keys();
  else if (event.key === 'p') pause();
  else if (event.key === '/') {
    event.preventDefault();
    document.querySelector('input')?.focus();
  }
});
open();
