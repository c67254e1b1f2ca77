// What maps, histories and dialogs are worked out from, without a browser: node --test node/dashboard/tests/*.test.js
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isOver, isReady, KINDS, standing as outcome } from '../action_model.js';
import { words } from '../api.js';
import { newest, note, nothing, standing, stretches } from '../history.js';
import { addsUp, bars, byCode, ceiling, code, STATES, strength } from '../map_model.js';

const minutes = (n) => new Date(Date.UTC(2026, 0, 1, 0, n)).toISOString();

test('every outline has a name and every name an outline', () => {
  const outlines = JSON.parse(readFileSync(new URL('../us_states.json', import.meta.url), 'utf8'));
  assert.deepEqual(Object.keys(outlines.s).sort(), Object.keys(STATES).sort());
});

test('states are found by name and by letters; what has no outline is not drawn', () => {
  assert.deepEqual([code('Iowa'), code(' IA '), code('new york'), code('Guam')], ['IA', 'IA', 'NY', null]);
  const counts = byCode({ states: [{ state: 'IA', events: 3, violations: 1 }, { state: 'DC', events: 9, violations: 9 }] });
  assert.deepEqual([...counts], [['IA', { events: 3, violations: 1 }]]);
});

test('states and events without one add up to all events', () => {
  const page = { events: 10, states: [{ events: 7 }, { events: 2 }], state_unknown: { events: 1 } };
  assert.ok(addsUp(page));
  assert.ok(!addsUp({ ...page, events: 11 }));
});

test('colours tell few from none, and grow with the count', () => {
  assert.equal(strength(0, 100), 0);
  assert.equal(strength(5, 0), 0);
  assert.ok(strength(1, 10_000) > 0.05 && strength(1, 10_000) < strength(100, 10_000));
  assert.equal(strength(100, 100), 1);
});

test('the limit itself is within the limit, and empty ends are left out', () => {
  const bins = Array.from({ length: 40 }, (_, i) => ({ from: i * 5, to: i * 5 + 4, events: i >= 14 && i <= 16 ? 10 : 0 }));
  const { top, bars: shown } = bars({ limit_mph: 75, bins });
  assert.deepEqual(shown.map((bar) => bar.from), [65, 70, 75, 80, 85]);
  assert.deepEqual(shown.map((bar) => bar.above), [0, 0, 0.8, 1, 1]);
  assert.deepEqual([top, shown[1].height], [10, 1]);
  assert.deepEqual(bars({ limit_mph: null, bins: bins.map((bin) => ({ ...bin, events: 0 })) }).bars, []);
});

test('scales end at a round even number', () => {
  assert.deepEqual([0, 1, 3, 7, 10, 11, 65, 1_089].map(ceiling), [2, 2, 4, 8, 10, 20, 80, 2_000]);
});

test('a node stands as its row, its link and its answer say', () => {
  const node = (more) => ({ presence: 'linked', draining: false, ...more });
  const said = (more) => ({ silent: null, status: { state: 'running' }, ...more });
  for (const [one, other, expected] of [
    [node(), said(), 'up'], [node(), said({ status: { state: 'starting' } }), 'starting'], [node({ draining: true }), said({ status: { state: 'draining' } }), 'draining'],
    [node({ draining: true }), said({ status: { state: 'aside' } }), 'resting'], [node(), said({ silent: 'no answer' }), 'stale'], [node({ presence: 'suspect' }), said(), 'suspect'],
    [node({ presence: 'dead' }), said({ silent: 'dead' }), 'lost'], [node({ presence: 'left' }), undefined, 'left'],
  ]) assert.equal(standing(one, other), expected);
});

test('a later boot of a name is the node of that name', () => {
  assert.deepEqual(newest([{ name: 'a', worker: 'a#1' }, { name: 'b', worker: 'b#1' }, { name: 'a', worker: 'a#2' }]).map((node) => node.worker), ['a#2', 'b#1']);
});

test('owners and comings and goings are noted once for each change', () => {
  const history = nothing();
  const state = (at, owner, presence) => ({
    at, shards: { shards: [{ role: 'enrich', shard: 's', node: owner, state: 'held' }] }, nodes: { nodes: [{ name: 'a', worker: 'a#1', presence, draining: false }] },
    status: { nodes: [{ worker: 'a#1', silent: null, status: { state: 'running' } }] },
  });
  assert.equal(note(history, state(minutes(0), 'a', 'linked')), true);
  assert.equal(note(history, state(minutes(1), 'a', 'linked')), false);
  assert.equal(note(history, state(minutes(2), 'b', 'dead')), true);
  assert.deepEqual(history.owners['enrich/s'].map((it) => [it.what, it.first]), [['a', true], ['b', false]]);
  assert.deepEqual(history.nodes.a.map((it) => it.what), ['up', 'lost']);
});

test('a timeline holds the last minutes only, from left to right', () => {
  const list = [{ at: minutes(0), what: 'up', first: true }, { at: minutes(20), what: 'lost', first: false }, { at: minutes(25), what: 'up', first: false }];
  const shown = stretches(list, Date.parse(minutes(30)), 15 * 60_000);
  assert.deepEqual(shown.map((it) => [it.what, Number(it.from.toFixed(2)), Number(it.to.toFixed(2)), it.came]), [['up', 0, 0.33, false], ['lost', 0.33, 0.67, true], ['up', 0.67, 1, true]]);
});

test('nothing is done before the words, the reason and the name are there', () => {
  const form = { preview: { confirm_text: 'speed_filter' }, typed: ' speed_filter ', reason: 'it hangs', who: 'desk', busy: false };
  assert.ok(isReady(form));
  assert.ok(isReady({ ...form, who: null }), 'who is signed in need not say who they are');
  for (const lacking of [{ typed: 'speed-filter' }, { typed: '' }, { reason: ' x ' }, { who: '' }, { busy: true }, { preview: null }]) assert.ok(!isReady({ ...form, ...lacking }), JSON.stringify(lacking));
});

test('questions name what they are about, and what loses work takes an admin', () => {
  assert.equal(KINDS['kill-actor'].ask('n/a'), 'Kill n/a?');
  assert.equal(KINDS.redrive.ask(['a']), 'Redrive 1 letter?');
  assert.equal(KINDS.discard.ask({ state: 'open', stage: 'notify', reason: 'bad number' }), 'Discard all open letters of stage notify with the reason “bad number”?');
  assert.deepEqual(Object.entries(KINDS).filter(([, kind]) => kind.role === 'admin').map(([name]) => name), ['kill-actor', 'discard']);
});

test('how an action stands is told in words', () => {
  assert.equal(outcome({ state: 'running', progress: { done: 2, left: 7, total: 10 }, outcome: null }), 'Running: 3 of 10');
  assert.equal(outcome({ state: 'done', progress: null, outcome: 'it runs again' }), 'Done: it runs again');
  assert.deepEqual(['intent', 'running', 'done', 'failed', 'cancelled'].map((state) => isOver({ state })), [false, false, true, true, true]);
});

test('a refusal is told in words, with when to come again', () => {
  assert.equal(words(403, { detail: '`desk` is a viewer; this takes an operator' }, null), 'You may not do that: `desk` is a viewer; this takes an operator');
  assert.equal(words(429, { detail: '10 a minute' }, '6'), 'Too many requests; try again in 6 s: 10 a minute');
  assert.equal(words(409, { detail: 'it drains already', hint: 'wait' }, null), 'It cannot be done now: it drains already (wait)');
  assert.equal(words(500, {}, null), 'HTTP status 500');
});
