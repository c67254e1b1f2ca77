// What operators may do, in words. No page in here.
// @ts-check
import { many } from './words.js';

/** Letters of one order at most; more take several. */
export const MOST_LETTERS = 5_000;

/** The least role and the words of each kind of action. */
export const KINDS = {
  'restart-actor': { role: 'operator', verb: 'Restart', ask: (it) => `Restart ${it}?`, doing: 'Restarting…' },
  'drain-actor': { role: 'operator', verb: 'Drain', ask: (it) => `Drain ${it}?`, doing: 'Draining…' },
  'kill-actor': { role: 'admin', verb: 'Kill', ask: (it) => `Kill ${it}?`, doing: 'Stopping…', note: 'Kill ends the actor at once. Restart is milder: it lets the message in work end first.' },
  'handoff-shard': { role: 'operator', verb: 'Hand off', ask: (it) => `Hand off ${it}?`, doing: 'Handing over…' },
  rebalance: { role: 'operator', verb: 'Rebalance', ask: (it) => (it === 'all' ? 'Rebalance the shards of all roles?' : `Rebalance the shards of ${it}?`), doing: 'Rebalancing…' },
  'drain-node': { role: 'operator', verb: 'Drain', ask: (it) => `Drain ${it}?`, doing: 'Draining…' },
  'resume-node': { role: 'operator', verb: 'Resume', ask: (it) => `Let ${it} take shards again?`, doing: 'Resuming…' },
  redrive: { role: 'operator', verb: 'Redrive', ask: (it) => `Redrive ${letters(it)}?`, doing: 'Redriving…' },
  discard: { role: 'admin', verb: 'Discard', ask: (it) => `Discard ${letters(it)}?`, doing: 'Discarding…' },
};

/** @param {any} target ids, or what letters must be like */
function letters(target) {
  if (Array.isArray(target)) return many(target.length, 'letter');
  const like = [target.stage && `of stage ${target.stage}`, target.reason && `with the reason “${target.reason}”`].filter(Boolean).join(' ');
  return `all open letters ${like}`.trim();
}

const RISKS = { low: ['●', 'good', 'Low risk'], medium: ['▲', 'busy', 'Medium risk'], high: ['✕', 'bad', 'High risk'] };

/** Glyph, colour and words of a risk. @param {string} risk */
export const riskWords = (risk) => RISKS[/** @type {keyof typeof RISKS} */ (risk)] ?? ['▲', 'busy', `Risk: ${risk}`];

/**
 * Whether the button may be pressed: the words must be those of the preview, letter by letter.
 * @param {{ preview: any, typed: string, reason: string, who: string | null, busy: boolean }} form
 */
export function isReady({ preview, typed, reason, who, busy }) {
  return !busy && preview !== null && typed.trim() === preview.confirm_text && reason.trim().length >= 3 && who !== '';
}

/** How an action stands, in words. @param {any} action */
export function standing(action) {
  const { progress, outcome, state } = action;
  const part = progress && progress.total ? ` ${progress.total - progress.left} of ${progress.total}` : '';
  const word = { intent: 'Noted in the audit', running: 'Running', done: 'Done', failed: 'Failed', cancelled: 'Cancelled' }[state] ?? state;
  return `${word}${part ? `:${part}` : ''}${outcome ? `${part ? ';' : ':'} ${outcome}` : ''}`;
}

/** Whether it can be broken off between two of its steps. @param {string} kind */
export const canStop = (kind) => ['redrive', 'discard', 'rebalance'].includes(kind);

/** @param {any} action */
export const isOver = (action) => ['done', 'failed', 'cancelled'].includes(action.state);
