// What is shown, worked out from what the stream sent. Nothing here touches the page, so it is tested without a browser.
// @ts-check

/** Rates are means over this time. */
export const RATE_OVER_MS = 10_000;
/** Samples of totals kept for the small charts: 15 minutes. */
const KEPT = 900;
/** Points of a small chart. */
const POINTS = 60;
/** A stage that spends more of its time than this waiting is held up by what is behind it. */
export const HELD_UP = 0.5;
/** A stage that spends more of its time than this in its own work is near its limit. */
export const NEAR_LIMIT = 0.8;
/** A mailbox of this length is trouble, and one of the other length worth a look. */
export const LONG_MAILBOX = 1_000;
export const FILLED_MAILBOX = 100;
/** A shard that is further behind than this is late. */
export const LATE_MS = 10_000;

/** The state of a page that has heard nothing yet. */
export function empty() {
  return {
    seq: 0, epoch: '', at: 0, heard: 0, rows: new Map(), shape: 0, status: null, nodes: null, shards: null, restarts: [], silent: [], stale: new Map(), findings: [], notes: [], kpis: {},
    samples: [],
    // What this operator has asked for and is not seen yet: target -> { kind, id }.
    asked: new Map(),
  };
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
    const rows = new Map(frame.actors.rows.map((row) => [row.name, row]));
    const isSame = rows.size === state.rows.size && frame.actors.rows.every((row) => state.rows.get(row.name)?.parent === row.parent);
    if (!isSame) state.shape += 1;
    for (const row of frame.actors.rows) row.heard = now;
    state.rows = rows;
  } else {
    if (frame.epoch !== state.epoch || frame.seq !== state.seq + 1) return false;
    for (const name of frame.actors.removed) if (state.rows.delete(name)) state.shape += 1;
    for (const row of frame.actors.rows) {
      const known = state.rows.get(row.name);
      if (!known || known.parent !== row.parent) state.shape += 1;
      row.heard = now;
      state.rows.set(row.name, row);
    }
  }
  Object.assign(state, {
    seq: frame.seq, epoch: frame.epoch, at: frame.at, heard: now, status: frame.status, nodes: frame.nodes, shards: frame.shards,
    restarts: frame.restarts, silent: frame.silent, stale: stale(frame), findings: found(frame), notes: frame.notes ?? [], kpis: frame.kpis ?? {},
  });
  sample(state, now);
  return true;
}

/** The whole of what was heard, for a tab that comes later. @param {any} state */
export function whole(state) {
  const { seq, epoch, at, status, nodes, shards, restarts, silent, findings, notes, kpis } = state;
  return { schema: 1, full: true, seq, epoch, at, status, nodes, shards, restarts, silent, findings, notes, kpis, actors: { rows: [...state.rows.values()], removed: [] } };
}

/** How old what is known of a node's actors is, for nodes that do not answer. @param {any} frame @returns {Map<string, number | null>} */
const stale = (frame) => new Map(frame.silent.map((node) => [node.node, node.last_heard_ms]));

/** The findings of a frame, critical ones first and the oldest of a kind first. @param {any} frame */
function found(frame) {
  const plain = (text) => ({ id: text, rule: 'problem', severity: 'critical', target: '', node: null, since: null, text, link: '#/nodes', next: null });
  const all = frame.findings ?? frame.status.findings ?? frame.status.problems.map(plain);
  return [...all].sort((one, other) => rank(one) - rank(other) || String(one.since).localeCompare(String(other.since)));
}

const rank = (finding) => (finding.severity === 'critical' ? 0 : 1);

/** @param {any} state @param {number} now */
function sample(state, now) {
  const [processes, lanes] = [new Map(), new Map()];
  for (const { worker, silent, status } of state.status.nodes) {
    if (!status || silent) continue;
    if (status.process) processes.set(worker, status.process.cpu_s);
    for (const lane of status.lanes ?? []) lanes.set(`${worker} ${lane.role}/${lane.shard} ${lane.generation}`, lane.records_in);
  }
  const lags = new Map(state.shards.shards.map((shard) => [`${shard.role}/${shard.shard}`, shard.lane?.lag_ms ?? null]));
  // Rows are replaced and never changed, so a copy of the map alone keeps their counts of now.
  state.samples.push({ now, rows: new Map(state.rows), processes, lanes, lags, totals: totals(state) });
  if (state.samples.length > KEPT) state.samples.shift();
  // Only totals and lags are charted for long; the rest serves for rates.
  for (let i = state.samples.length - 2; i >= 0 && state.samples[i].rows; i -= 1) {
    const old = state.samples[i];
    if (now - old.now > RATE_OVER_MS + 2_000) old.rows = old.processes = old.lanes = null;
  }
}

/**
 * Remote calls of all nodes, those to one resource put together: the slowest and the longest failing count.
 * @param {any} state @param {(call: any) => boolean} wanted
 */
export function slowest(state, wanted) {
  let p95 = null;
  for (const { silent, status } of state.status.nodes) {
    if (silent) continue;
    for (const call of status?.facts?.calls ?? []) if (wanted(call)) p95 = most(p95, call.p95_ms);
  }
  return p95;
}

/** Counters of the whole cluster. @param {any} state */
export function totals(state) {
  const outcomes = (role, name) => state.status.outcomes_by_role[role]?.[name] ?? 0;
  const cache = { hits: 0, misses: 0, queries: 0, entries: 0, known: false };
  for (const node of state.status.nodes) {
    const counts = node.status?.cache;
    if (!counts) continue;
    cache.known = true;
    for (const key of ['hits', 'misses', 'queries', 'entries']) cache[key] += counts[key] ?? 0;
  }
  let [waiting, restarts] = [0, 0];
  for (const row of state.rows.values()) {
    waiting += row.mailbox;
    restarts += row.restarts;
  }
  const lags = state.shards.shards.map((shard) => shard.lane?.lag_ms).filter((lag) => lag !== null && lag !== undefined);
  return {
    events: state.status.events_in,
    under: outcomes('enrich', 'under_limit'),
    texts: outcomes('notify', 'notified'),
    suppressed: outcomes('notify', 'suppressed'),
    repeats: state.status.possible_repeats,
    cache, waiting, restarts,
    ends: state.status.outcomes_by_role,
    lag: lags.length ? Math.max(...lags) : null,
  };
}

/** The oldest sample within the time that rates are taken over. @param {any} state @param {(sample: any) => any} part */
function before(state, part) {
  const last = state.samples.at(-1);
  // From the back: there may be 900, and 12 at most are young enough.
  let oldest = null;
  for (let i = state.samples.length - 2; i >= 0; i -= 1) {
    const old = state.samples[i];
    if (last.now - old.now > RATE_OVER_MS) break;
    if (part(old)) oldest = old;
  }
  return oldest;
}

/** Change of a counter a second between two samples. */
const slope = (now, then, last, old) => (now < then ? null : ((now - then) * 1_000) / (last.now - old.now));

/**
 * Change of a cluster-wide counter a second; null until two samples were heard, and while a node's counts come or go.
 * @param {any} state @param {(totals: any) => number} of
 */
export function perSecond(state, of) {
  const last = state.samples.at(-1);
  const old = last && before(state, (it) => it.totals);
  return old ? slope(of(last.totals), of(old.totals), last, old) : null;
}

/** Values for a small chart, oldest first, the highest of each stretch. @param {any} state @param {(totals: any) => number | null} of */
export const series = (state, of) => thin(state.samples.map((it) => of(it.totals)));

/** As `series`, of the changes from sample to sample. @param {any} state @param {(totals: any) => number} of */
export function rateSeries(state, of) {
  const values = [];
  for (let i = 1; i < state.samples.length; i += 1) {
    const [old, now] = [state.samples[i - 1], state.samples[i]];
    values.push(Math.max(0, ((of(now.totals) - of(old.totals)) * 1_000) / Math.max(1, now.now - old.now)));
  }
  return thin(values);
}

/** How far a shard was behind. @param {any} state @param {string} shard role/shard */
export const lagSeries = (state, shard) => thin(state.samples.map((it) => it.lags.get(shard) ?? null));

/** @param {(number | null)[]} values */
export function thin(values) {
  const step = Math.ceil(values.length / POINTS);
  if (step <= 1) return values;
  const few = [];
  for (let from = 0; from < values.length; from += step) {
    const known = values.slice(from, from + step).filter((value) => value !== null);
    few.push(known.length ? Math.max(...known) : null);
  }
  return few;
}

/**
 * Finds how actors spend their time: one for many rows of the same moment.
 * @param {any} state
 * @returns {(row: any) => { rate: number | null, busy: number | null, waiting: number | null }}
 */
export function paces(state) {
  const last = state.samples.at(-1);
  const unknown = { rate: null, busy: null, waiting: null };
  if (!last) return () => unknown;
  const olds = state.samples.slice(-14, -1).filter((old) => old.rows && last.now - old.now <= RATE_OVER_MS);
  return (row) => {
    if (row.id === null) return unknown;
    // A new incarnation counts from 0 again.
    const old = olds.find((it) => it.rows.get(row.name)?.id === row.id);
    if (!old) return unknown;
    const then = old.rows.get(row.name);
    const ms = last.now - old.now;
    const share = (now, before_) => Math.min(1, Math.max(0, (now - before_) / ms));
    return { rate: Math.max(0, ((row.done - then.done) * 1_000) / ms), busy: share(row.busy_ms, then.busy_ms), waiting: share(row.waiting_ms, then.waiting_ms) };
  };
}

/**
 * How one actor spends its time, over the last seconds: shares of 1 and messages a second; null while that is not known.
 * @param {any} state @param {any} row
 */
export const pace = (state, row) => paces(state)(row);

/** How long an actor has run, in milliseconds: its row is sent only when something but its age has changed. @param {any} state @param {any} row */
export const upFor = (state, row) => (row.up_s ?? NaN) * 1_000 + (state.heard - (row.heard ?? state.heard));

/** Share of one core that a node uses. @param {any} state @param {any} node */
export function cpu(state, node) {
  const last = state.samples.at(-1);
  const old = last && before(state, (it) => it.processes?.has(node.worker));
  if (!old || !last.processes?.has(node.worker)) return null;
  return Math.max(0, ((last.processes.get(node.worker) - old.processes.get(node.worker)) * 1_000) / (last.now - old.now));
}

/** Records that the lane of a shard let in, a second; null while nobody knows. @param {any} state @param {any} shard */
export function intake(state, shard) {
  const last = state.samples.at(-1);
  if (!last || !shard.lane || !shard.worker) return null;
  const lane = `${shard.worker} ${shard.role}/${shard.shard} ${shard.lane.generation}`;
  const old = before(state, (it) => it.lanes?.has(lane));
  return old && last.lanes.has(lane) ? slope(last.lanes.get(lane), old.lanes.get(lane), last, old) : null;
}

/** Flink's words for a share of time: what is held up is so for most of its time. @param {number | null} share */
export function level(share) {
  if (share === null || share === undefined) return 'unknown';
  return share > HELD_UP ? 'HIGH' : share > 0.1 ? 'LOW' : 'OK';
}

/** The stages of each role in the order of the way of an event. */
export const STAGES = {
  enrich: ['ShardReader', 'RawPersister', 'SpeedFilter', 'DriverLookup', 'ViolationPersister', 'ViolationPublisher', 'LaneEnd'],
  notify: ['ShardReader', 'OwnerNotifier', 'LaneEnd'],
  archive: ['ShardReader', 'ArchiveWriter', 'LaneEnd'],
  errors: ['ShardReader', 'RuleErrorReader', 'LaneEnd'],
};

const most = (one, other) => (other === null || other === undefined ? one : Math.max(one ?? 0, other));

/**
 * The stages of all roles over all lanes of all nodes: sums of messages, the highest shares of time, and their means.
 * @param {any} state
 * @returns {Map<string, any[]>}
 */
export function stagesByRole(state) {
  const fresh = (kind) => ({ kind, actors: 0, mailbox: 0, rate: null, busy: null, waiting: null, p95_us: null, mailbox_p95_us: null, busySum: 0, waitingSum: 0, known: 0, restarts: 0 });
  const found_ = new Map(Object.entries(STAGES).map(([role, kinds]) => [role, new Map(kinds.map((kind) => [kind, fresh(kind)]))]));
  const speed = paces(state);
  for (const row of state.rows.values()) {
    const stage = found_.get(row.name.split('/', 2)[1] ?? '')?.get(row.kind);
    if (!stage) continue;
    const { rate, busy, waiting } = speed(row);
    stage.actors += 1;
    stage.mailbox += row.mailbox;
    stage.restarts += row.restarts;
    if (rate !== null) stage.rate = (stage.rate ?? 0) + rate;
    stage.busy = most(stage.busy, busy);
    stage.waiting = most(stage.waiting, waiting);
    stage.p95_us = most(stage.p95_us, row.p95_us);
    stage.mailbox_p95_us = most(stage.mailbox_p95_us, row.mailbox_p95_us);
    if (busy === null || waiting === null) continue;
    stage.known += 1;
    stage.busySum += busy;
    stage.waitingSum += waiting;
  }
  const done = (kinds) => [...kinds.values()].filter((stage) => stage.actors > 0);
  return new Map([...found_].map(([role, kinds]) => [role, done(kinds)]));
}

/** The stages of one role. @param {any} state @param {string} role */
export const stages = (state, role) => stagesByRole(state).get(role) ?? [];

const KEYS = 2n ** 128n;

/** The part of all hash keys that a shard takes. @param {{ first: string, last: string } | null | undefined} range decimals */
export function keyShare(range) {
  if (!range || ![range.first, range.last].every((text) => /^\d{1,39}$/.test(text))) return 'unknown';
  const percent = (key) => Number((key * 1_000n + KEYS / 2n) / KEYS) / 10;
  return `${percent(BigInt(range.first))} – ${percent(BigInt(range.last) + 1n)} %`;
}

/**
 * What became of texts, over all nodes: those sent first, then what was held back, then what failed.
 * @param {any[]} nodes
 */
export function textCauses(nodes) {
  const order = ['sent', 'suppressed', 'failed'];
  const sums = new Map();
  for (const { fate, cause, texts } of nodes.flatMap((node) => node.status?.texts ?? [])) {
    const key = `${fate}/${cause}`;
    sums.set(key, { fate, cause, texts: (sums.get(key)?.texts ?? 0) + texts });
  }
  return [...sums.values()].sort((one, other) => order.indexOf(one.fate) - order.indexOf(other.fate) || other.texts - one.texts);
}
