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

/** A shard without its zeros. @param {string} name */
export const shortShard = (name) => name.replace(/^shardId-0*(?=\d)/, '');
