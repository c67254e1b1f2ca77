// Small charts in SVG.
// @ts-check
import { s } from './dom.js';

/**
 * A line without axes beside a number that says the same.
 * @param {(number | null)[]} values
 */
export function spark(values, width = 60, height = 20) {
  const known = values.map((value) => value ?? 0);
  const chart = s('svg', { width, height, 'aria-hidden': 'true', class: 'spark' });
  if (known.length < 2) return chart;
  const most = Math.max(...known, 1e-9);
  const points = known.map((value, place) => `${((place * width) / (known.length - 1)).toFixed(1)},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`);
  chart.append(s('polyline', { points: points.join(' ') }));
  return chart;
}

/**
 * How a stage spends its time: busy, waiting, the rest idle. Says the same in words.
 * @param {number | null} busy @param {number | null} waiting
 */
export function split(busy, waiting, width = 120, height = 7) {
  const [b, w] = [busy ?? 0, Math.min(waiting ?? 0, 1 - (busy ?? 0))];
  return s(
    'svg',
    { width: '100%', height, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'split' },
    s('rect', { class: 'idle', width, height }),
    s('rect', { class: b > 0.8 ? 'near' : 'busy', width: b * width, height }),
    s('rect', { class: 'waits', x: b * width, width: w * width, height })
  );
}
