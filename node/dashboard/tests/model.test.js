// What the pages work out from the stream, without a browser: node --test node/dashboard/tests/*.test.js
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apply, cpu, empty, intake, level, pace, perSecond, slowest, stages, textCauses, thin, totals, upFor, whole } from '../model.js';
import { actor, frame } from './frames.js';
import { ago, brief, count, many, micros, percent, rate, shortShard, size, span, tail } from '../words.js';

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

test('stages of a role are those of its own lanes, over all nodes', () => {
  const state = empty();
  const rows = ['n/enrich/s1/speed_filter', 'm/enrich/s2/speed_filter', 'n/notify/s1/speed_filter'].map((name) => actor(name, { mailbox: 2 }));
  apply(state, frame(1, true, rows), 0);
  assert.deepEqual(stages(state, 'enrich').map((stage) => [stage.kind, stage.actors, stage.mailbox]), [['SpeedFilter', 2, 4]]);
});

test('numbers are told in words, and the unknown as such', () => {
  assert.deepEqual([count(1_234_567), count(null), rate(0), rate(3.14159), rate(null)], ['1,234,567', 'unknown', '0', '3.1', 'unknown']);
  assert.deepEqual([percent(0.004), percent(0.5), percent(0.997), percent(0.9999), percent(1), percent(undefined)], ['0.4 %', '50 %', '99.7 %', '99.9 %', '100 %', 'unknown']);
  assert.deepEqual([span(12), span(1_500), span(90_000), span(600_000), span(NaN)], ['12 ms', '1.5 s', '90 s', '10 min', 'unknown']);
  assert.deepEqual([size(52_428_800), tail('49590338271490256608559692538361571095921575989136588898'), tail('TRIM_HORIZON')], ['50 MiB', '…588898', 'TRIM_HORIZON']);
  assert.deepEqual(['shardId-000000000012', 'shardId-00000000000000000000-00000000', 'shardId-00000001614870393939-6a2f0c11', 'a'].map(shortShard), ['12', '0', '…6a2f0c11', 'a']);
});

test('a tab that comes later gets the whole of what the first one heard', () => {
  const [state, later] = [empty(), empty()];
  apply(state, frame(1, true, [actor('n'), actor('n/a')]), 0);
  apply(state, frame(2, false, [actor('n/a', { mailbox: 7 })]), 1_000);
  assert.ok(apply(later, JSON.parse(JSON.stringify(whole(state))), 1_500));
  assert.equal(later.rows.get('n/a').mailbox, 7);
  assert.ok(apply(later, frame(3, false, [actor('n/a', { mailbox: 8 })]), 2_000), 'and goes on with the next delta');
});

test('findings come critical ones first and the oldest first; a node that knows none tells problems', () => {
  const state = empty();
  const finding = (id, severity, since) => ({ id, rule: 'r', severity, since, text: id, link: '#/nodes' });
  apply(state, frame(1, true, [], { findings: [finding('b', 'warning', '2'), finding('c', 'critical', '3'), finding('a', 'critical', '1')] }), 0);
  assert.deepEqual(state.findings.map((it) => it.id), ['a', 'c', 'b']);
  apply(state, frame(2, true, [], { problems: ['it is lost'] }), 1);
  assert.deepEqual(state.findings.map((it) => it.text), ['it is lost']);
});

test('records a second belong to one life of a lane', () => {
  const state = empty();
  const shard = (generation) => ({ role: 'enrich', shard: 's1', worker: 'n#1', lane: { generation, lag_ms: null } });
  const lanes = (generation, records_in) => ({ shards: [shard(generation)], lanes: [{ role: 'enrich', shard: 's1', generation, records_in }] });
  apply(state, frame(1, true, [], lanes(1, 100)), 0);
  apply(state, frame(2, true, [], lanes(1, 400)), 2_000);
  assert.equal(intake(state, shard(1)), 150);
  apply(state, frame(3, true, [], lanes(2, 5)), 3_000);
  assert.equal(intake(state, shard(2)), null);
  assert.equal(intake(state, { role: 'enrich', shard: 's1', worker: null, lane: null }), null);
});

test('long series are thinned to their peaks, and gaps stay gaps', () => {
  assert.deepEqual(thin([1, null, 3]), [1, null, 3]);
  const many_ = Array.from({ length: 120 }, (_, i) => (i < 2 ? null : i === 7 ? 99 : 1));
  assert.equal(thin(many_).length, 60);
  assert.deepEqual([thin(many_)[0], thin(many_)[3], thin(many_)[4]], [null, 99, 1]);
});

test('levels are those of Flink', () => {
  assert.deepEqual([0, 0.1, 0.11, 0.5, 0.51, null].map(level), ['OK', 'OK', 'LOW', 'LOW', 'HIGH', 'unknown']);
});

test('times and large numbers are told in few characters', () => {
  assert.deepEqual([micros(90), micros(1_500), micros(25_000), micros(null)], ['90 µs', '1.5 ms', '25 ms', 'unknown']);
  assert.deepEqual([brief(9_999), brief(12_345), brief(123_456), brief(2_000_000)], ['9,999', '12.3k', '123k', '2.0M']);
  assert.deepEqual([ago('2026-01-01T00:00:00Z', '2026-01-01T00:00:09Z'), ago(null, 0), ago('2026-01-01T00:00:09Z', '2026-01-01T00:00:00Z')], ['9.0 s', 'unknown', '0 ms']);
  assert.deepEqual([many(1, 'node'), many(2, 'node'), many(1_000, 'letter')], ['1 node', '2 nodes', '1,000 letters']);
});

test('rows of a node that does not answer are known to be old', () => {
  const state = empty();
  apply(state, { ...frame(1, true, [actor('n')]), silent: [{ node: 'm', last_heard_ms: 12_000 }, { node: 'o', last_heard_ms: null }] }, 0);
  assert.deepEqual([state.stale.get('m'), state.stale.get('o'), state.stale.has('n')], [12_000, null, false]);
});

test('the slowest calls to a resource are those of nodes that answer', () => {
  const state = empty();
  const node = (worker, silent, p95_ms) => ({ worker, silent, status: { cache: null, process: null, facts: { calls: [{ resource: 'warehouse', p95_ms }, { resource: 'SMS', p95_ms: 900 }] } } });
  const wanted = (call) => call.resource === 'warehouse';
  apply(state, frame(1, true, [], { said: [node('n#1', null, 40), node('m#1', null, 70), node('o#1', 'dead', 5_000)] }), 0);
  assert.equal(slowest(state, wanted), 70);
  apply(state, frame(2, true, [], { said: [node('n#1', null, null)] }), 1);
  assert.equal(slowest(state, wanted), null);
});

test('an actor grows older while nothing else about it changes', () => {
  const state = empty();
  apply(state, frame(1, true, [actor('n', { up_s: 5 })]), 1_000);
  apply(state, frame(2, false, []), 4_000);
  assert.equal(upFor(state, state.rows.get('n')), 8_000);
});

test('texts of all nodes are added up by what became of them, and why', () => {
  const text = (fate, cause, texts) => ({ fate, cause, texts });
  const nodes = [{ status: { texts: [text('failed', 'OptedOut', 1), text('sent', null, 4)] } }, { status: { texts: [text('sent', null, 3), text('suppressed', 'texted before', 2)] } }, { status: null }, { status: {} }];
  assert.deepEqual(textCauses(nodes), [text('sent', null, 7), text('suppressed', 'texted before', 2), text('failed', 'OptedOut', 1)]);
});
