// What the loader's page makes of a load: node --test node/dashboard/tests/*.test.js
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copying, reading, reconciled, standing, stateOf, trouble } from '../load_model.js';
import { keyShare } from '../model.js';

const at = (second) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
const run = (more) => ({ state: 'committed', rows: 10, merged: 7, duplicates: 2, rejected: 1, told_at: at(0), ...more });

test('rows in are rows out, or it is said how many are missing', () => {
  assert.deepEqual(reconciled(run({})), { text: '● 10 = 7 + 2 + 1, adds up', kind: 'good', value: 'yes' });
  assert.equal(reconciled(run({ rows: 12 })).text, '✕ 12 ≠ 7 + 2 + 1, 2 missing');
  assert.equal(reconciled(run({ merged: 8 })).text, '✕ 10 ≠ 8 + 2 + 1, 1 too many');
  assert.equal(reconciled(run({ duplicates: null })).value, 'unknown');
  assert.equal(reconciled(run({ state: 'sending', merged: 0 })).value, 'open', 'before the commit nothing is missing');
});

test('a load under way that says nothing any more is not shown as alive', () => {
  assert.equal(standing(run({ state: 'staging' }), at(9)).silent, false);
  const gone = standing(run({ state: 'staging' }), at(42));
  assert.deepEqual([gone.silent, gone.kind, gone.word], [true, 'bad', 'waits for Firehose; nothing heard for 42 s']);
  assert.equal(standing(run({}), at(50)).word, 'committed', 'what is done needs no more words');
});

test('a loader of before tells of commits only', () => {
  const old = { ...run({ committed_at: at(1) }), state: undefined, size: undefined, read_bytes: null };
  assert.deepEqual([stateOf(old), reading(old).text, copying(old).value, trouble(old).text], ['committed', 'unknown', 'committed', '']);
});

test('how far it is and what it waits for', () => {
  assert.deepEqual(reading({ size: 4_194_304, read_bytes: 1_048_576 }), { share: 0.25, text: '25 % of 4.0 MiB' });
  assert.equal(reading({ size: 0, read_bytes: 0 }).share, 1);
  assert.deepEqual(['sending', 'committing', 'failed'].map((state) => copying(run({ state })).value), ['waiting', 'copying', 'failed']);
  assert.equal(trouble({ waits_for: { what: 'warehouse', reason: 'refused' } }).text, 'waits for warehouse: refused');
  assert.equal(trouble({ last_error: 'no such file', waits_for: { what: 'x', reason: 'y' } }).kind, 'bad');
});

test('a range of hash keys is told as its part of all keys', () => {
  const half = (2n ** 127n).toString();
  assert.deepEqual([keyShare({ first: '0', last: (2n ** 128n - 1n).toString() }), keyShare({ first: half, last: (2n ** 128n - 1n).toString() })], ['0 – 100 %', '50 – 100 %']);
  assert.equal(keyShare({ first: (2n ** 125n).toString(), last: (2n ** 126n - 1n).toString() }), '12.5 – 25 %');
  assert.deepEqual([keyShare(null), keyShare({ first: 'x', last: '1' })], ['unknown', 'unknown']);
});
