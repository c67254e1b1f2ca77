// What the pages work out from the stream, without a browser: node --test node/dashboard/tests/*.test.js
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apply, cpu, empty, filter, forest, pace, perSecond, stages, totals } from '../model.js';
import { count, percent, rate, shortShard, size, span, tail } from '../words.js';

const actor = (name, more = {}) => ({
  id: 1, node: name.split('/')[0], parent: name.includes('/') ? name.split('/').slice(0, -1).join('/') : null, name, kind: 'SpeedFilter',
  state: 'running', mailbox: 0, received: 0, done: 0, busy_ms: 0, waiting_ms: 0, waiting: false, restarts: 0, last: null, up_s: 1, ...more,
});

const frame = (seq, full, rows, more = {}) => ({
  schema: 1, epoch: 'a', seq, full, at: '', actors: { rows, removed: more.removed ?? [] }, restarts: [], silent: [],
  status: {
    served_by: 'n', problems: [], possible_repeats: 0, events_in: more.events ?? 0, outcomes_by_role: { enrich: { under_limit: 0 } },
    nodes: [{ worker: 'n#1', silent: null, status: { cache: null, process: { cpu_s: more.cpu ?? 0, rss_bytes: 1, open_files: 1 } } }],
  },
  nodes: { nodes: [] }, shards: { shards: more.shards ?? [] },
});

test('a delta changes what it names, and one that does not follow is refused', () => {
  const state = empty();
  assert.ok(apply(state, frame(1, true, [actor('n'), actor('n/a'), actor('n/b')]), 0));
  assert.ok(apply(state, frame(2, false, [actor('n/a', { mailbox: 7 })], { removed: ['n/b'] }), 1_000));
  assert.deepEqual([...state.rows.keys()], ['n', 'n/a']);
  assert.equal(state.rows.get('n/a').mailbox, 7);
  assert.equal(apply(state, frame(4, false, []), 2_000), false);
  assert.equal(apply(state, { ...frame(3, false, []), epoch: 'b' }, 2_000), false);
  assert.ok(apply(state, frame(9, true, []), 3_000));
  assert.equal(state.rows.size, 0);
});

test('rates come from the last seconds, and are unknown until there are two samples', () => {
  const state = empty();
  apply(state, frame(1, true, [actor('n/a', { done: 10, busy_ms: 100, waiting_ms: 0 })], { events: 100, cpu: 1 }), 0);
  assert.equal(perSecond(state, (it) => it.events), null);
  assert.deepEqual(pace(state, state.rows.get('n/a')), { rate: null, busy: null, waiting: null });
  apply(state, frame(2, false, [actor('n/a', { done: 30, busy_ms: 600, waiting_ms: 1_000 })], { events: 300, cpu: 2 }), 2_000);
  assert.equal(perSecond(state, (it) => it.events), 100);
  assert.deepEqual(pace(state, state.rows.get('n/a')), { rate: 10, busy: 0.25, waiting: 0.5 });
  assert.equal(cpu(state, { worker: 'n#1' }), 0.5);
});

test('a new incarnation of an actor, and counts that went with a node, give no rate', () => {
  const state = empty();
  apply(state, frame(1, true, [actor('n/a', { id: 1, done: 500 })], { events: 500 }), 0);
  apply(state, frame(2, false, [actor('n/a', { id: 2, done: 3 })], { events: 20 }), 1_000);
  assert.equal(pace(state, state.rows.get('n/a')).rate, null);
  assert.equal(perSecond(state, (it) => it.events), null);
});

test('a lag that is not known is not 0', () => {
  const state = empty();
  const shards = [{ lane: { lag_ms: null } }, { lane: null }];
  apply(state, frame(1, true, [], { shards }), 0);
  assert.equal(totals(state).lag, null);
  apply(state, frame(2, true, [], { shards: [...shards, { lane: { lag_ms: 5 } }] }), 1);
  assert.equal(totals(state).lag, 5);
});

test('what stands below an actor is added up, and its trouble is seen at the top', () => {
  const [root] = forest([actor('n'), actor('n/a', { mailbox: 3 }), actor('n/a/b', { mailbox: 4, restarts: 2, state: 'backoff' })]);
  assert.deepEqual(root.below, { actors: 2, mailbox: 7, restarts: 2, worst: 'backoff', trouble: true });
  assert.equal(root.children[0].children[0].level, 3);
});

test('a filter takes words, fields and limits', () => {
  const rows = [actor('node-1/a', { mailbox: 200 }), actor('node-2/b', { state: 'backoff', kind: 'ShardReader' })];
  const found = (text) => rows.filter(filter(text)).map((row) => row.name);
  assert.deepEqual(found(''), ['node-1/a', 'node-2/b']);
  assert.deepEqual(found('mailbox>100'), ['node-1/a']);
  assert.deepEqual(found('state:backoff node:node-2'), ['node-2/b']);
  assert.deepEqual(found('shardreader'), ['node-2/b']);
  assert.deepEqual(found('state:backoff node:node-1'), []);
});

test('stages of a role are those of its own lanes, over all nodes', () => {
  const state = empty();
  const rows = ['n/enrich/s1/speed_filter', 'm/enrich/s2/speed_filter', 'n/notify/s1/speed_filter'].map((name) => actor(name, { mailbox: 2 }));
  apply(state, frame(1, true, rows), 0);
  assert.deepEqual(stages(state, 'enrich').map((stage) => [stage.kind, stage.actors, stage.mailbox]), [['SpeedFilter', 2, 4]]);
});

test('numbers are told in words, and the unknown as such', () => {
  assert.deepEqual([count(1_234_567), count(null), rate(0), rate(3.14159), rate(null)], ['1,234,567', 'unknown', '0', '3.1', 'unknown']);
  assert.deepEqual([percent(0.004), percent(0.5), percent(undefined)], ['0.4 %', '50 %', 'unknown']);
  assert.deepEqual([span(12), span(1_500), span(90_000), span(600_000), span(NaN)], ['12 ms', '1.5 s', '90 s', '10 min', 'unknown']);
  assert.deepEqual([size(52_428_800), tail('49590338271490256608559692538361571095921575989136588898'), tail('TRIM_HORIZON')], ['50 MiB', '…588898', 'TRIM_HORIZON']);
  assert.equal(shortShard('shardId-000000000012'), '12');
});
