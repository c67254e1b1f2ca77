// What is shown, worked out from what the stream sent. Nothing here touches the page, so it is tested without a browser.
// @ts-check

/** Rates are means over this time. */
export const RATE_OVER_MS = 10_000;
/** Samples kept for the small charts. */
const KEPT = 180;
/** A stage that spends more of its time than this waiting is held up by what is behind it. */
export const HELD_UP = 0.5;
/** A stage that spends more of its time than this in its own work is near its limit. */
export const NEAR_LIMIT = 0.8;

/** The state of a page that has heard nothing yet. */
export function empty() {
  return { seq: 0, epoch: '', at: 0, heard: 0, rows: new Map(), status: null, nodes: null, shards: null, restarts: [], silent: [], letters: null, samples: [] };
}

/**
 * Takes a frame in: a whole one replaces everything, a delta must follow the one before it.
 * @param {any} state
 * @param {any} frame
 * @param {number} now milliseconds of a clock that only goes forward
 * @returns {boolean} whether it could be used
 */
export function apply(state, frame, now) {
  if (frame.full) {
    if (frame.epoch !== state.epoch) state.samples = [];
    state.rows = new Map();
  } else if (frame.epoch !== state.epoch || frame.seq !== state.seq + 1) return false;
  for (const name of frame.actors.removed) state.rows.delete(name);
  for (const row of frame.actors.rows) state.rows.set(row.name, row);
  Object.assign(state, {
    seq: frame.seq, epoch: frame.epoch, at: frame.at, heard: now,
    status: frame.status, nodes: frame.nodes, shards: frame.shards, restarts: frame.restarts, silent: frame.silent,
  });
  sample(state, now);
  return true;
}

/** @param {any} state @param {number} now */
function sample(state, now) {
  const actors = new Map();
  for (const row of state.rows.values()) actors.set(row.name, [row.id, row.received, row.done, row.busy_ms, row.waiting_ms]);
  const processes = new Map();
  for (const node of state.status.nodes) if (node.status?.process && !node.silent) processes.set(node.worker, node.status.process.cpu_s);
  state.samples.push({ now, actors, processes, totals: totals(state) });
  if (state.samples.length > KEPT) state.samples.shift();
  // Only totals are charted for long; the rest serves for rates.
  for (const old of state.samples) if (now - old.now > RATE_OVER_MS + 2_000) old.actors = old.processes = null;
}

/** Counters of the whole cluster. @param {any} state */
export function totals(state) {
  const outcomes = (role, name) => state.status.outcomes_by_role[role]?.[name] ?? 0;
  const cache = { hits: 0, misses: 0, queries: 0, entries: 0, known: false };
  for (const node of state.status.nodes) {
    const counts = node.status?.cache;
    if (!counts) continue;
    cache.known = true;
    for (const key of ['hits', 'misses', 'queries', 'entries']) cache[key] += counts[key];
  }
  let waiting = 0;
  for (const row of state.rows.values()) waiting += row.mailbox;
  const lags = state.shards.shards.map((shard) => shard.lane?.lag_ms).filter((lag) => lag !== null && lag !== undefined);
  return {
    events: state.status.events_in,
    under: outcomes('enrich', 'under_limit'),
    texts: outcomes('notify', 'notified'),
    repeats: state.status.possible_repeats,
    cache,
    waiting,
    restarts: state.status.restarts_last_hour ?? null,
    lag: lags.length ? Math.max(...lags) : null,
  };
}

/** The oldest sample within the time that rates are taken over. @param {any} state @param {(sample: any) => any} part */
function before(state, part) {
  const last = state.samples.at(-1);
  return state.samples.find((old) => old !== last && last.now - old.now <= RATE_OVER_MS && part(old));
}

/**
 * Change of a cluster-wide counter a second; null until two samples were heard, and while a node's counts come or go.
 * @param {any} state @param {(totals: any) => number} of
 */
export function perSecond(state, of) {
  const last = state.samples.at(-1);
  const old = last && before(state, (it) => it.totals);
  if (!old) return null;
  const change = of(last.totals) - of(old.totals);
  return change < 0 ? null : (change * 1_000) / (last.now - old.now);
}

/** Values for a small chart, oldest first. @param {any} state @param {(totals: any) => number | null} of */
export const series = (state, of) => state.samples.map((it) => of(it.totals));

/** As `series`, of the changes from sample to sample. @param {any} state @param {(totals: any) => number} of */
export function rateSeries(state, of) {
  const values = [];
  for (let i = 1; i < state.samples.length; i += 1) {
    const [old, now] = [state.samples[i - 1], state.samples[i]];
    values.push(Math.max(0, ((of(now.totals) - of(old.totals)) * 1_000) / Math.max(1, now.now - old.now)));
  }
  return values;
}

/**
 * How one actor spends its time, over the last seconds: shares of 1 and messages a second; null while that is not known.
 * @param {any} state @param {any} row
 */
export function pace(state, row) {
  const last = state.samples.at(-1);
  // A new incarnation counts from 0 again.
  const old = last && before(state, (it) => it.actors?.get(row.name)?.[0] === row.id);
  if (!old || row.id === null) return { rate: null, busy: null, waiting: null };
  const [, , done, busy, waited] = old.actors.get(row.name);
  const ms = last.now - old.now;
  const share = (now, then) => Math.min(1, Math.max(0, (now - then) / ms));
  return { rate: Math.max(0, ((row.done - done) * 1_000) / ms), busy: share(row.busy_ms, busy), waiting: share(row.waiting_ms, waited) };
}

/** Share of one core that a node uses. @param {any} state @param {any} node */
export function cpu(state, node) {
  const last = state.samples.at(-1);
  const old = last && before(state, (it) => it.processes?.has(node.worker));
  if (!old || !last.processes?.has(node.worker)) return null;
  return Math.max(0, ((last.processes.get(node.worker) - old.processes.get(node.worker)) * 1_000) / (last.now - old.now));
}

const WORST = { running: 0, stopped: 1, backoff: 2 };

/** @param {any} row */
export const isTrouble = (row) => row.state === 'backoff' || row.mailbox >= 1_000;

/**
 * All actors as trees, one for each node, with what stands below each added up.
 * @param {Iterable<any>} rows
 */
export function forest(rows) {
  const places = new Map();
  const roots = [];
  for (const row of [...rows].sort((one, other) => (one.name < other.name ? -1 : 1))) {
    places.set(row.name, { row, children: [], parent: null, level: 1, below: null });
  }
  for (const place of places.values()) {
    const parent = places.get(place.row.parent);
    if (parent) {
      place.parent = parent;
      parent.children.push(place);
    } else roots.push(place);
  }
  const add = (place, level) => {
    place.level = level;
    const below = { actors: 0, mailbox: 0, restarts: 0, worst: place.row.state, trouble: false };
    for (const child of place.children) {
      add(child, level + 1);
      below.actors += 1 + child.below.actors;
      below.mailbox += child.row.mailbox + child.below.mailbox;
      below.restarts += child.row.restarts + child.below.restarts;
      below.trouble ||= isTrouble(child.row) || child.below.trouble;
      if (WORST[child.below.worst] > WORST[below.worst]) below.worst = child.below.worst;
    }
    place.below = below;
  };
  for (const root of roots) add(root, 1);
  return roots;
}

/**
 * Reads a filter such as `state:backoff node:node-3 kind:speed mailbox>100 restarts>0 reader`.
 * @param {string} text
 * @returns {(row: any) => boolean}
 */
export function filter(text) {
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const more = /^(mailbox|restarts|received|done)([<>])(\d+)$/.exec(word);
    if (more) {
      const [, field, sign, limit] = more;
      return (row) => (sign === '>' ? row[field] > Number(limit) : row[field] < Number(limit));
    }
    const named = /^(state|node|kind|name):(.*)$/.exec(word);
    if (named) return (row) => String(row[named[1]]).toLowerCase().includes(named[2]);
    return (row) => `${row.name} ${row.kind} ${row.state}`.toLowerCase().includes(word);
  });
  return (row) => tests.every((test) => test(row));
}

/** The stages of each role in the order of the way of an event. */
export const STAGES = {
  enrich: ['ShardReader', 'RawPersister', 'SpeedFilter', 'DriverLookup', 'ViolationPersister', 'ViolationPublisher', 'LaneEnd'],
  notify: ['ShardReader', 'OwnerNotifier', 'LaneEnd'],
  archive: ['ShardReader', 'ArchiveWriter', 'LaneEnd'],
  errors: ['ShardReader', 'RuleErrorReader', 'LaneEnd'],
};

/**
 * The stages of one role over all lanes of all nodes: sums of messages, the highest shares of time.
 * @param {any} state @param {string} role
 */
export function stages(state, role) {
  const found = new Map(STAGES[role].map((kind) => [kind, { kind, actors: 0, mailbox: 0, rate: null, busy: null, waiting: null }]));
  for (const row of state.rows.values()) {
    const stage = found.get(row.kind);
    if (!stage || row.name.split('/')[1] !== role) continue;
    const { rate, busy, waiting } = pace(state, row);
    stage.actors += 1;
    stage.mailbox += row.mailbox;
    if (rate !== null) stage.rate = (stage.rate ?? 0) + rate;
    if (busy !== null) stage.busy = Math.max(stage.busy ?? 0, busy);
    if (waiting !== null) stage.waiting = Math.max(stage.waiting ?? 0, waiting);
  }
  return [...found.values()].filter((stage) => stage.actors > 0);
}
