// What is told of how actors start again: node --test node/dashboard/tests/*.test.js
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lastDelay, pathTo, strategy } from '../supervision.js';
import { actor } from './frames.js';

test('every supervisor says what becomes of a child that ends', () => {
  const of = (kind) => strategy(actor('n/a', { parent: 'n' }), actor('n', { kind })).name;
  assert.deepEqual(['NodeSupervisor', 'ShardAssigner', 'LaneSupervisor', 'IngestSupervisor', 'Other'].map(of), ['one for one', 'one for one', 'one for all', 'one for all', 'unknown']);
  assert.equal(strategy(actor('n', { parent: null }), undefined).name, 'none');
});

test('the delay before the last restart is told if it is known', () => {
  const row = (last) => actor('n/a', { restarts: 3, last });
  assert.deepEqual([null, { delay_ms: 450 }, {}].map((last) => lastDelay(row(last))), ['never needed', 'restart 3, after 450 ms', 'restart 3, after unknown']);
});

test('the way from the root goes by supervisors', () => {
  const rows = new Map([actor('n', { parent: null }), actor('n/l', { parent: 'n' }), actor('n/l/f', { parent: 'n/l' })].map((row) => [row.name, row]));
  const places = new Map();
  for (const row of rows.values()) places.set(row.name, { name: row.name, own: row.name.split('/').at(-1), parent: places.get(row.parent) ?? null });
  assert.deepEqual(pathTo('n/l/f', (name) => places.get(name)).map((it) => it.own), ['n', 'l', 'f']);
  assert.deepEqual(pathTo('gone', (name) => places.get(name)), []);
});
