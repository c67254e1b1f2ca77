// Numbers and times in words. What is not known is "unknown", never 0.
// @ts-check

export const UNKNOWN = 'unknown';

/** @param {number | null | undefined} value */
const lacking = (value) => value === null || value === undefined || Number.isNaN(value);

/** @param {number | null | undefined} value */
export function count(value) {
  if (lacking(value)) return UNKNOWN;
  return Math.round(Number(value)).toLocaleString('en-US');
}

/** A rate: one decimal below 100. @param {number | null | undefined} value */
export function rate(value) {
  if (lacking(value)) return UNKNOWN;
  const number = Number(value);
  return number >= 100 || number === 0 ? count(number) : number.toFixed(1);
}

/** @param {number | null | undefined} share of 1 */
export function percent(share) {
  if (lacking(share)) return UNKNOWN;
  const value = Number(share) * 100;
  // Almost nothing is not nothing, and almost all is not all.
  if (value > 99 && value < 100) return `${(Math.floor(value * 10) / 10).toFixed(1)} %`;
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/** @param {number | null | undefined} milliseconds */
export function span(milliseconds) {
  if (lacking(milliseconds)) return UNKNOWN;
  const ms = Number(milliseconds);
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (lacking(bytes)) return UNKNOWN;
  const mib = Number(bytes) / 1_048_576;
  return `${mib < 10 ? mib.toFixed(1) : Math.round(mib)} MiB`;
}

/** The end of a long number, such as that of a checkpoint. @param {string | null | undefined} text */
export function tail(text) {
  if (!text) return UNKNOWN;
  return text.length > 12 && /^\d+$/.test(text) ? `…${text.slice(-6)}` : text;
}

/** A shard without its zeros, and not longer than need be. @param {string} name */
export function shortShard(name) {
  const number = name.replace(/^shardId-0*(?=\d)/, '').replace(/-0+$/, '');
  return number.length > 12 ? `…${number.slice(-8)}` : number;
}

/** Time of the pure work on one message. @param {number | null | undefined} microseconds */
export function micros(microseconds) {
  if (lacking(microseconds)) return UNKNOWN;
  const us = Number(microseconds);
  if (us < 1_000) return `${Math.round(us)} µs`;
  return us < 10_000 ? `${(us / 1_000).toFixed(1)} ms` : span(us / 1_000);
}

/** A number in few characters, for narrow places. @param {number | null | undefined} value */
export function brief(value) {
  if (lacking(value)) return UNKNOWN;
  const number = Number(value);
  if (number >= 1_000_000) return `${(number / 1_000_000).toFixed(1)}M`;
  return number >= 100_000 ? `${Math.round(number / 1_000)}k` : number >= 10_000 ? `${(number / 1_000).toFixed(1)}k` : count(number);
}

/** How long ago a moment was, by the clock of the node that told it. @param {string | null | undefined} at RFC 3339 @param {string | number | null} now */
export function ago(at, now) {
  const [then, until] = [Date.parse(at ?? ''), typeof now === 'string' ? Date.parse(now) : Number(now)];
  if (Number.isNaN(then) || Number.isNaN(until)) return UNKNOWN;
  return span(Math.max(0, until - then));
}

/** The time of day of a moment, here. @param {string | null | undefined} at RFC 3339 */
export function clock(at) {
  const moment = new Date(at ?? '');
  return Number.isNaN(moment.getTime()) ? UNKNOWN : moment.toLocaleTimeString('en-GB');
}

/** One thing, several things. @param {number} n @param {string} one @param {string} [more] */
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;
