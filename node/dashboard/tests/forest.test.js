// Trees of actors: what is added up, what is found and in which order. Without a browser: node --test node/dashboard/tests/*.test.js
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fill, filter, gardener, lines, plant } from '../forest.js';
import { apply, empty } from '../model.js';
import { standing } from '../tree.js';
import { actor, frame } from './frames.js';

const unknown = () => ({ rate: null, busy: null, waiting: null });
const grown = (rows, pace = unknown) => {
  const named = new Map(rows.map((row) => [row.name, row]));
  return fill(plant(named), named, pace);
};
const wish = (more = {}) => ({ filter: filter(''), narrowed: false, onlyTrouble: false, closed: new Set(), order: 'name', up: true, ...more });
const names = (shown) => shown.map((place) => place.name);

test('what stands below an actor is added up, and its trouble is seen at the top', () => {
  const { roots } = grown([actor('n'), actor('n/a', { mailbox: 3 }), actor('n/a/b', { mailbox: 4, restarts: 2, state: 'backoff' })], (row) => ({ ...unknown(), rate: row.mailbox }));
  assert.deepEqual(roots[0].below, { actors: 2, mailbox: 7, restarts: 2, rate: 7, worst: 'backoff', trouble: true });
  assert.deepEqual([roots[0].children[0].children[0].level, roots[0].children[0].children[0].place], [3, 0]);
});

test('an actor whose supervisor is not there stands at the top', () => {
  const { roots } = grown([actor('m/lost/a'), actor('n')]);
  assert.deepEqual(roots.map((place) => place.name), ['m/lost/a', 'n']);
});

test('a filter takes words, fields, limits and their opposites', () => {
  const rows = [actor('node-1/a', { mailbox: 200, p95_us: 25_000 }), actor('node-2/b', { state: 'backoff', kind: 'ShardReader', last: { reason: 'Timeout of the warehouse' } })];
  const pace = { 'node-1/a': { rate: 9.5, busy: 0.9, waiting: null }, 'node-2/b': unknown() };
  const found = (text) => rows.filter((row) => filter(text)(row, pace[row.name])).map((row) => row.name);
  for (const [text, expected] of [
    ['', 'node-1/a node-2/b'], ['mailbox>100', 'node-1/a'], ['mailbox>=200', 'node-1/a'], ['mailbox<1', 'node-2/b'], ['state:backoff node:2', 'node-2/b'], ['SHARDREADER', 'node-2/b'],
    ['state:backoff node:1', ''], ['-state:backoff', 'node-1/a'], ['busy>80', 'node-1/a'], ['busy<80', ''], ['rate=9.5', 'node-1/a'], ['p95>20', 'node-1/a'], ['reason:timeout', 'node-2/b'], ['nothing>5', ''],
  ]) assert.equal(found(text).join(' '), expected, text);
});

test('what is found is shown with the way to it, and closed trees are opened for it', () => {
  const forest = grown(['n', 'n/a', 'n/a/x', 'n/b', 'n/b/y'].map((name) => actor(name)));
  assert.deepEqual(names(lines(forest, wish({ closed: new Set(['n/a']) }))), ['n', 'n/a', 'n/b', 'n/b/y']);
  assert.deepEqual(names(lines(forest, wish({ filter: filter('x'), narrowed: true, closed: new Set(['n/a']) }))), ['n', 'n/a', 'n/a/x']);
});

test('only problems are actors that wait for a restart, and long mailboxes', () => {
  const forest = grown([actor('n'), actor('n/a', { state: 'backoff' }), actor('n/b', { mailbox: 1_000 }), actor('n/c', { mailbox: 999 })]);
  assert.deepEqual(names(lines(forest, wish({ onlyTrouble: true }))), ['n', 'n/a', 'n/b']);
});

test('siblings are sorted by what stands in them and below, and trees stay whole', () => {
  const forest = grown([actor('n'), actor('n/a'), actor('n/a/x', { mailbox: 9 }), actor('n/b', { mailbox: 5 }), actor('n/c', { mailbox: 7 })]);
  assert.deepEqual(names(lines(forest, wish({ order: 'mailbox', up: false }))), ['n', 'n/a', 'n/a/x', 'n/c', 'n/b']);
  assert.deepEqual(names(lines(forest, wish({ order: 'mailbox', up: true }))), ['n', 'n/b', 'n/c', 'n/a', 'n/a/x']);
  assert.deepEqual(names(lines(forest, wish({ order: 'name', up: false }))), ['n', 'n/c', 'n/b', 'n/a', 'n/a/x']);
});

test('the trees are kept while the same actors are there, with the numbers of now', () => {
  const [state, grow] = [empty(), gardener()];
  apply(state, frame(1, true, [actor('n'), actor('n/a')]), 0);
  const first = grow(state);
  apply(state, frame(2, false, [actor('n/a', { mailbox: 7 })]), 1_000);
  const second = grow(state);
  assert.equal(second, first);
  assert.equal(second.roots[0].below.mailbox, 7);
  apply(state, frame(3, true, [actor('n'), actor('n/a', { mailbox: 8 })]), 2_000);
  assert.equal(grow(state), first);
  apply(state, frame(4, false, [], { removed: ['n/a'] }), 3_000);
  assert.equal(grow(state).roots[0].children.length, 0);
});

test('an actor stands as its row says, but for what was asked of it and what is old', () => {
  const word = (row, asked, stale) => standing(grown([actor('n', row)]).roots[0], asked, stale)[1];
  assert.deepEqual([word({}), word({ waiting: true }), word({ state: 'backoff' }), word({ state: 'stopped' })], ['Running', 'Waiting', 'Backoff', 'Stopped']);
  assert.equal(standing(grown([actor('n'), actor('n/a', { state: 'backoff' })]).roots[0], undefined, undefined)[1], 'Child trouble');
  const kill = { kind: 'kill-actor', id: 1 };
  assert.deepEqual([word({ id: 1 }, kill), word({ id: null, state: 'backoff' }, kill), word({ id: 2 }, kill)], ['Stopping…', 'Stopping…', 'Running']);
  assert.equal(word({ id: 1 }, { kind: 'drain-node', id: undefined }), 'Running', 'what was asked of a node is no word about its root');
  assert.deepEqual([word({}, undefined, 12_000), word({}, kill, null)], ['Stale 12 s', 'Stale']);
});

test('ten thousand actors are worked out in little time', () => {
  const rows = [actor('n'), ...Array.from({ length: 100 }, (_, i) => actor(`n/p${i}`)), ...Array.from({ length: 10_000 }, (_, i) => actor(`n/p${i % 100}/w${i}`))];
  const [state, grow] = [empty(), gardener()];
  apply(state, frame(1, true, rows), 0);
  grow(state);
  const begun = performance.now();
  apply(state, frame(2, false, rows.slice(0, 500)), 1_000);
  const shown = lines(grow(state), wish({ filter: filter('mailbox<1'), narrowed: true }));
  assert.equal(shown.length, rows.length);
  // Some 15 ms on a machine at rest; this one may be busy.
  assert.ok(performance.now() - begun < 500);
});
