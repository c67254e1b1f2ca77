// The supervision trees of all nodes: what stands below each actor added up, sorted and filtered. No page in here.
// @ts-check
import { LONG_MAILBOX, paces } from './model.js';

const WORST = { running: 0, waiting: 0, stopped: 1, backoff: 2 };

/** @param {any} row */
export const isTrouble = (row) => row.state === 'backoff' || row.mailbox >= LONG_MAILBOX;

/**
 * All actors as trees, one for each node. Rows may be exchanged later, with `fill`.
 * @param {Map<string, any>} rows by name
 */
export function plant(rows) {
  const places = new Map();
  const roots = [];
  for (const name of [...rows.keys()].sort()) {
    places.set(name, { row: rows.get(name), name, own: name.slice(name.lastIndexOf('/') + 1), children: [], parent: null, level: 1, place: 0, pace: null, below: null });
  }
  for (const place of places.values()) {
    const parent = places.get(place.row.parent);
    place.parent = parent ?? null;
    (parent?.children ?? roots).push(place);
  }
  const settle = (group, level) =>
    group.forEach((place, at) => {
      Object.assign(place, { level, place: at });
      settle(place.children, level + 1);
    });
  settle(roots, 1);
  return { places, roots };
}

/**
 * Puts the rows of now in, and adds up what stands below each.
 * @param {{ places: Map<string, any>, roots: any[] }} forest @param {Map<string, any>} rows @param {(row: any) => any} pace
 */
export function fill(forest, rows, pace) {
  const add = (place) => {
    place.row = rows.get(place.name) ?? place.row;
    const { row } = place;
    place.pace = pace(row);
    const below = { actors: 0, mailbox: 0, restarts: 0, rate: null, worst: row.state, trouble: false };
    for (const child of place.children) {
      add(child);
      below.actors += 1 + child.below.actors;
      below.mailbox += child.row.mailbox + child.below.mailbox;
      below.restarts += child.row.restarts + child.below.restarts;
      for (const rate of [child.pace.rate, child.below.rate]) if (rate !== null) below.rate = (below.rate ?? 0) + rate;
      below.trouble ||= isTrouble(child.row) || child.below.trouble;
      if ((WORST[child.below.worst] ?? 0) > (WORST[below.worst] ?? 0)) below.worst = child.below.worst;
    }
    place.below = below;
  };
  forest.roots.forEach(add);
  return forest;
}

/** Keeps the trees while the same actors are there. */
export function gardener() {
  let shape = -1;
  let forest = { places: new Map(), roots: /** @type {any[]} */ ([]) };
  return (/** @type {any} */ state) => {
    if (shape !== state.shape) {
      forest = plant(state.rows);
      shape = state.shape;
    }
    return fill(forest, state.rows, paces(state));
  };
}

/** What can be sorted by; the highest first but for names. A supervisor counts with what is below it. */
const ORDERS = {
  name: null,
  state: (it) => WORST[it.below.worst] ?? 0,
  mailbox: (it) => it.row.mailbox + it.below.mailbox,
  rate: (it) => (it.pace.rate ?? 0) + (it.below.rate ?? 0),
  busy: (it) => most(it, (place) => place.pace.busy),
  waiting: (it) => most(it, (place) => place.pace.waiting),
  p95: (it) => most(it, (place) => place.row.p95_us),
  restarts: (it) => it.row.restarts + it.below.restarts,
  age: (it) => -(it.row.up_s ?? 0),
};

function most(place, of) {
  let highest = of(place) ?? -1;
  for (const child of place.children) highest = Math.max(highest, most(child, of));
  return highest;
}

/**
 * The rows to show, from top to bottom.
 * @param {{ roots: any[] }} forest
 * @param {{ filter: (row: any, pace: any) => boolean, narrowed: boolean, onlyTrouble: boolean, closed: Set<string>, order: string, up: boolean }} wish
 */
export function lines(forest, { filter: hit, narrowed, onlyTrouble, closed, order, up }) {
  const isKept = narrowed || onlyTrouble ? kept(forest, hit, onlyTrouble) : null;
  const of = ORDERS[/** @type {keyof typeof ORDERS} */ (order)];
  const sorted = (group) => {
    if (!of) return up ? group : group.toReversed();
    const values = new Map(group.map((place) => [place, of(place)]));
    return [...group].sort((one, other) => (values.get(other) - values.get(one)) * (up ? -1 : 1) || one.place - other.place);
  };
  /** @type {any[]} */
  const shown = [];
  const walk = (place) => {
    if (isKept && !isKept.has(place)) return;
    shown.push(place);
    if (isKept || !closed.has(place.name)) for (const child of sorted(place.children)) walk(child);
  };
  for (const root of sorted(forest.roots)) walk(root);
  return shown;
}

/** The actors that are asked for, and all above them. */
function kept(forest, hit, onlyTrouble) {
  const found = new Set();
  const look = (place) => {
    if ((!onlyTrouble || isTrouble(place.row)) && hit(place.row, place.pace)) for (let up = place; up && !found.has(up); up = up.parent) found.add(up);
    place.children.forEach(look);
  };
  forest.roots.forEach(look);
  return found;
}

/** Numbers that a filter may compare, in the units that the page shows. */
const NUMBERS = {
  mailbox: (row) => row.mailbox, restarts: (row) => row.restarts, received: (row) => row.received, done: (row) => row.done,
  rate: (row, pace) => pace?.rate, busy: (row, pace) => share(pace?.busy), waiting: (row, pace) => share(pace?.waiting),
  p95: (row) => (row.p95_us === null || row.p95_us === undefined ? null : row.p95_us / 1_000), age: (row) => row.up_s,
};
const share = (value) => (value === null || value === undefined ? null : value * 100);
const SIGNS = { '>': (a, b) => a > b, '<': (a, b) => a < b, '>=': (a, b) => a >= b, '<=': (a, b) => a <= b, '=': (a, b) => a === b };

/**
 * Reads a filter such as `state:backoff node:3 kind:speed mailbox>100 -name:errors reader`. What is unknown matches no comparison.
 * @param {string} text
 * @returns {(row: any, pace?: any) => boolean}
 */
export function filter(text) {
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const isNot = word.length > 1 && word.startsWith('-');
    const test = one(isNot ? word.slice(1) : word);
    return isNot ? (row, pace) => !test(row, pace) : test;
  });
  return (row, pace) => tests.every((test) => test(row, pace));
}

/** @param {string} word */
function one(word) {
  const compared = /^([a-z0-9]+)(>=|<=|>|<|=)(\d+(?:\.\d+)?)$/.exec(word);
  const of = compared && NUMBERS[/** @type {keyof typeof NUMBERS} */ (compared[1])];
  if (compared && of) {
    const [sign, limit] = [SIGNS[/** @type {keyof typeof SIGNS} */ (compared[2])], Number(compared[3])];
    return (row, pace) => {
      const value = of(row, pace);
      return value !== null && value !== undefined && sign(value, limit);
    };
  }
  const named = /^(state|node|kind|name|reason):(.*)$/.exec(word);
  if (named) {
    const [, field, wanted] = named;
    if (field === 'reason') return (row) => (row.last?.reason ?? '').toLowerCase().includes(wanted);
    if (field === 'state') return (row) => row.state.includes(wanted) || (wanted === 'waiting' && row.waiting);
    return (row) => String(row[field]).toLowerCase().includes(wanted);
  }
  return (row) => row.name.toLowerCase().includes(word) || row.kind.toLowerCase().includes(word) || row.state.includes(word);
}
