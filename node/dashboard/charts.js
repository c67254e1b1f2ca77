// Small charts in SVG, each beside words or a table that say the same.
// @ts-check
import { h, s, tell } from './dom.js';
import { bars, byCode, STATES, strength } from './map_model.js';
import { stretches } from './history.js';
import { clock, count, percent, span } from './words.js';

/**
 * A line without axes. What is not known leaves a gap.
 * @param {(number | null)[]} values
 */
export function spark(values, width = 60, height = 20) {
  const chart = s('svg', { width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true', class: 'spark' });
  if (values.length < 2) return chart;
  const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
  let piece = /** @type {string[]} */ ([]);
  const close = () => {
    if (piece.length > 1) chart.append(s('polyline', { points: piece.join(' ') }));
    piece = [];
  };
  values.forEach((value, place) => {
    if (value === null) close();
    else piece.push(`${((place * width) / (values.length - 1)).toFixed(1)},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`);
  });
  close();
  return chart;
}

/** How somebody spends its time: busy, waiting, the rest idle. Made once, changed with `update`. */
export function split() {
  const [busy, waits] = [h('i', {}), h('i', { class: 'waits' })];
  const element = h('span', { class: 'split', 'aria-hidden': 'true' }, busy, waits);
  return {
    element,
    /** @param {number | null} b @param {number | null} w */
    update(b, w) {
      const own = Math.min(1, b ?? 0);
      busy.className = own > 0.8 ? 'near' : 'busy';
      busy.style.setProperty('width', `${(own * 100).toFixed(1)}%`);
      waits.style.setProperty('width', `${(Math.min(1 - own, w ?? 0) * 100).toFixed(1)}%`);
    },
  };
}

/** The states, the more events the stronger. @param {Promise<any>} outlines */
export function choropleth(outlines) {
  const chart = s('svg', { role: 'img', class: 'states', viewBox: '-4 -4 968 602', 'aria-label': 'Events by state; the table says the same' });
  const shapes = new Map();
  let page = /** @type {any} */ (null);
  outlines.then(({ s: states }) => {
    for (const [code, { d }] of Object.entries(states)) {
      const title = s('title', {});
      const shape = s('path', { d, 'data-state': code }, title);
      shapes.set(code, { shape, title });
      chart.append(shape);
    }
    if (page) draw();
  }, () => {});
  let counted = 'events';
  function draw() {
    const counts = byCode(page);
    const most = Math.max(0, ...[...counts.values()].map((it) => it[counted]));
    for (const [code, { shape, title }] of shapes) {
      const value = counts.get(code)?.[counted] ?? 0;
      shape.style.setProperty('fill', `color-mix(in oklab, var(--data) ${Math.round(strength(value, most) * 100)}%, var(--data-low))`);
      shape.dataset.value = String(value);
      tell(title, `${STATES[/** @type {keyof typeof STATES} */ (code)]}: ${count(counts.get(code)?.events ?? 0)} events, ${count(counts.get(code)?.violations ?? 0)} above the limit`);
    }
  }
  return {
    element: chart,
    /** @param {any} now @param {string} what events or violations */
    update(now, what = 'events') {
      [page, counted] = [now, what];
      draw();
    },
  };
}

/** Events by speed with the limit. @param {any} page of /api/v1/map @param {{ width: number, height: number }} size */
export function histogram(page, { width, height }) {
  const { limit_mph: limit, bins } = page.histogram;
  const { top, bars: all } = bars(page.histogram);
  const [left, bottom, upper] = [44, 22, 22];
  const room = height - bottom - upper;
  const step = (width - left - 8) / Math.max(1, all.length);
  const share = page.events ? page.violations / page.events : null;
  const above = `${percent(share)} above`;
  const chart = s('svg', { role: 'img', class: 'histogram', viewBox: `0 0 ${width} ${height}`, 'aria-label': `Events by speed; limit ${limit ?? 'unknown'} miles an hour, ${above}` });
  for (const part of [0, 0.5, 1]) {
    const y = upper + room * (1 - part);
    chart.append(s('line', { class: 'rule', x1: left, x2: width - 8, y1: y, y2: y }), s('text', { x: left - 5, y: y + 4, class: 'end' }, count(top * part)));
  }
  const every = Math.ceil(34 / step);
  all.forEach((bar, at) => {
    const [x, tall] = [left + at * step, bar.height * room];
    const title = s('title', {}, `${bar.from} to ${bar.to} mph: ${count(bar.events)} events`);
    const box = (kind, from, part) => s('rect', { class: kind, x: x + 1 + from * (step - 2), width: Math.max(0, part * (step - 2)), y: upper + room - tall, height: tall });
    chart.append(s('g', { 'data-from': bar.from, 'data-to': bar.to, 'data-value': bar.events }, title, box('within', 0, 1 - bar.above), box('above', 1 - bar.above, bar.above)));
    if (at % every === 0) chart.append(s('text', { x, y: height - 7 }, String(bar.from)));
  });
  if (limit === null || limit === undefined || bins.length === 0) return chart;
  const at = all.findIndex((bar) => bar.to > limit);
  if (at < 0) return chart;
  const x = left + (at + 1 - all[at].above) * step;
  const near = x > width * 0.6;
  chart.append(
    s('line', { class: 'limit', x1: x, x2: x, y1: 4, y2: upper + room }),
    s('text', { class: near ? 'told end' : 'told', x: x + (near ? -5 : 5), y: 13 }, `limit ${limit}, ${above}`)
  );
  return chart;
}

const SHOWN_AS = { up: 'good', starting: 'busy', draining: 'busy', resting: 'busy', stale: 'bad', suspect: 'bad', lost: 'gone', left: 'gone' };
const MARKS = { up: '▲', starting: '△', draining: '◆', resting: '◆', stale: '!', suspect: '!', lost: '✕', left: '✕' };

/** A node's comings and goings of the last 15 minutes. @param {any[]} changes @param {number} now */
export function timeline(changes, now, width) {
  const parts = stretches(changes, now, 15 * 60_000);
  const told = parts.filter((part) => part.came).map((part) => `${part.what} at ${clock(part.at)}`).join(', ') || 'nothing changed while this page watched';
  const chart = s('svg', { width, height: 15, viewBox: `0 0 ${width} 15`, role: 'img', 'aria-label': told, class: 'timeline' }, s('title', {}, told));
  for (const part of parts) chart.append(s('rect', { class: SHOWN_AS[part.what] ?? 'busy', x: part.from * width, width: Math.max(1, (part.to - part.from) * width), y: 4, height: 7, rx: 2 }));
  for (const part of parts) if (part.came) chart.append(s('text', { x: Math.min(width - 9, Math.max(0, part.from * width - 4)), y: 12 }, MARKS[part.what] ?? '·'));
  return chart;
}

/** How long queries took, from the shortest to the longest. @param {{ up_to_ms: number | null, queries: number }[]} times */
export function queryTimes(times, width, height) {
  const most = Math.max(1, ...times.map((it) => it.queries));
  const name = (at) => (times[at].up_to_ms === null ? `over ${span(times[at - 1]?.up_to_ms)}` : `up to ${span(times[at].up_to_ms)}`);
  const told = times.map((it, at) => (it.queries ? `${name(at)}: ${count(it.queries)}` : '')).filter(Boolean).join(', ') || 'none yet';
  const step = width / Math.max(1, times.length);
  const chart = s('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Queries by time: ${told}`, class: 'query-times' }, s('title', {}, told));
  times.forEach((it, at) => {
    // Few beside many are still seen.
    const tall = it.queries ? Math.max(2, (it.queries / most) * (height - 1)) : 0.5;
    chart.append(s('rect', { class: it.queries ? 'above' : 'within', x: at * step + 0.5, width: step - 1, y: height - tall, height: tall, 'data-up-to': it.up_to_ms ?? 'any', 'data-value': it.queries }));
  });
  return chart;
}
