// What is worked out of a load, without a browser: how it stands, how far it is, and whether its rows add up.
// @ts-check
import { count, percent, size, span } from './words.js';

/** A load that is under way says something at least every 5 s. */
const SILENT_AFTER_MS = 15_000;

/** How a load stands: glyph, word, colour. A loader of an earlier version tells of commits only. */
const STATES = {
  looking: ['◐', 'looks what is there already', 'busy'], sending: ['◐', 'sends', 'busy'], staging: ['◐', 'waits for Firehose', 'busy'], committing: ['◐', 'copies', 'busy'],
  committed: ['●', 'committed', 'good'], interrupted: ['▲', 'interrupted', 'busy'], failed: ['✕', 'failed', 'bad'],
};
const UNDER_WAY = ['looking', 'sending', 'staging', 'committing'];

/** @param {any} run */
export const stateOf = (run) => run.state ?? (run.committed_at ? 'committed' : null);

/** @param {any} run @param {string | null} now when the page was made */
export function standing(run, now) {
  const state = stateOf(run);
  const [glyph, word, kind] = STATES[/** @type {keyof typeof STATES} */ (state)] ?? ['○', state ?? 'unknown', 'muted'];
  const silentMs = Date.parse(now ?? '') - Date.parse(run.told_at ?? '');
  // A loader that was killed cannot say so.
  if (UNDER_WAY.includes(state) && silentMs > SILENT_AFTER_MS) return { glyph: '▲', word: `${word}; nothing heard for ${span(silentMs)}`, kind: 'bad', state, silent: true };
  return { glyph, word, kind, state, silent: false };
}

/** How much of the file is read: a share of 1 and words. @param {any} run */
export function reading(run) {
  if (run.size === null || run.size === undefined || run.read_bytes === null || run.read_bytes === undefined) return { share: null, text: 'unknown' };
  const share = run.size > 0 ? Math.min(1, run.read_bytes / run.size) : 1;
  return { share, text: `${percent(share)} of ${size(run.size)}` };
}

/** What has become of the COPY. @param {any} run */
export function copying(run) {
  const state = stateOf(run);
  if (state === 'committed') return { text: `● committed ${count(run.merged)} rows`, kind: 'good', value: 'committed' };
  if (state === 'committing') return { text: '◐ copies', kind: 'busy', value: 'copying' };
  if (state === 'failed') return { text: '✕ not done', kind: 'bad', value: 'failed' };
  if (state === null) return { text: '○ unknown', kind: 'muted', value: 'unknown' };
  return { text: '○ not begun', kind: 'muted', value: 'waiting' };
}

/**
 * Rows in = loaded + replaced in the file + rejected: the equation, and whether it holds. Before the commit it says nothing.
 * @param {any} run
 */
export function reconciled(run) {
  const parts = [run.merged, run.duplicates, run.rejected];
  const lacks = (value) => value === null || value === undefined;
  if (stateOf(run) !== 'committed') return { text: '○ when it is committed', kind: 'muted', value: 'open' };
  if (lacks(run.rows) || parts.some(lacks)) return { text: '○ unknown', kind: 'muted', value: 'unknown' };
  const left = run.rows - parts.reduce((sum, part) => sum + part, 0);
  const equation = `${count(run.rows)} = ${parts.map(count).join(' + ')}`;
  if (left === 0) return { text: `● ${equation}, adds up`, kind: 'good', value: 'yes' };
  return { text: `✕ ${equation.replace('=', '≠')}, ${count(Math.abs(left))} ${left > 0 ? 'missing' : 'too many'}`, kind: 'bad', value: 'no' };
}

/** Why it does not go on, if it does not. @param {any} run */
export function trouble(run) {
  if (run.last_error) return { text: run.last_error, kind: 'bad' };
  if (run.waits_for) return { text: `waits for ${run.waits_for.what}: ${run.waits_for.reason}`, kind: 'busy' };
  return { text: '', kind: '' };
}
