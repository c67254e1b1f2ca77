// The way of an event as one picture: stages with how they spend their time, what they read from and write to.
// @ts-check
import { s, tell } from './dom.js';
import { HELD_UP, NEAR_LIMIT, perSecond, slowest, stagesByRole } from './model.js';
import { brief, count, many, micros, percent, rate, span } from './words.js';

/** Boxes: x, y, width, then a role and a kind of actor, or a name. */
const TOP = 8;
const LOW = 112;
const BOXES = {
  in: [4, TOP, 92, 'in-stream'], er: [136, TOP, 150, 'enrich', 'ShardReader', 'reader'], ef: [326, TOP, 150, 'enrich', 'SpeedFilter', 'filter'],
  el: [516, TOP, 166, 'enrich', 'DriverLookup', 'driver lookup'], ep: [722, TOP, 150, 'enrich', 'ViolationPersister', 'persister'],
  eo: [912, TOP, 150, 'enrich', 'ViolationPublisher', 'publisher'], out: [1102, TOP, 144, 'out-stream'],
  back: [4, LOW, 92, 'out-stream'], nr: [120, LOW, 110, 'notify', 'ShardReader', 'reader'], nn: [256, LOW, 140, 'notify', 'OwnerNotifier', 'notifier'],
  sns: [422, LOW, 76, 'SNS'], rs: [516, LOW, 166, 'Redshift'], db: [722, LOW, 118, 'DynamoDB'], ar: [868, LOW, 114, 'archive', 'ShardReader', 'reader'],
  aw: [1010, LOW, 124, 'archive', 'ArchiveWriter', 'writer'], s3: [1162, LOW, 84, 'S3'],
};
const EDGES = [
  ['in', 'er'], ['er', 'ef'], ['ef', 'el'], ['el', 'ep'], ['ep', 'eo'], ['eo', 'out'], ['el', 'rs', 'down'], ['ep', 'db', 'down'],
  ['back', 'nr'], ['nr', 'nn'], ['nn', 'sns'], ['db', 'ar'], ['ar', 'aw'], ['aw', 's3'],
];
const WAITS_ON = { el: 'Redshift', ep: 'DynamoDB', eo: 'the out-stream', nn: 'SNS', aw: 'Firehose' };
const TALL = 50;

export function picture() {
  const pattern = s('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, s('rect', { class: 'hatch-low', width: 6, height: 6 }), s('rect', { class: 'hatch', width: 3.5, height: 6 }));
  const arrow = s('marker', { id: 'tip', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: 'userSpaceOnUse', orient: 'auto' }, s('path', { d: 'M0 0L8 4L0 8z' }));
  const element = s('svg', { class: 'pipe', viewBox: '0 0 1250 172', role: 'img' }, s('defs', {}, pattern, arrow));
  const edges = new Map(EDGES.map(([from, to, way]) => [`${from} ${to}`, edge(from, to, way)]));
  for (const { parts } of edges.values()) element.append(...parts);
  const boxes = new Map(Object.entries(BOXES).map(([id, place]) => [id, box(place)]));
  for (const { group } of boxes.values()) element.append(group);
  const within = s('text', { class: 'low', x: 326, y: 76 });
  const unknown = s('text', { class: 'low', x: 912, y: 76 });
  element.append(within, unknown);

  return {
    element,
    /** @param {any} state */
    show(state) {
      const byRole = stagesByRole(state);
      const stage = (id) => byRole.get(BOXES[id][3])?.find((it) => it.kind === BOXES[id][4]) ?? null;
      const ends = (role, ...names) => perSecond(state, () => 0) === null ? null : endsPerSecond(state, role, names);
      const events = perSecond(state, (it) => it.events);
      const under = ends('enrich', 'under_limit');
      const over = events === null || under === null ? null : Math.max(0, events - under);
      const queries = perSecond(state, (it) => it.cache.queries);
      const published = ends('enrich', 'published');
      const [texts, archived] = [ends('notify', 'notified'), ends('archive', 'archived')];
      const flows = { 'in er': events, 'er ef': events, 'ef el': over, 'el ep': over, 'ep eo': over, 'eo out': published, 'el rs': queries, 'ep db': over, 'nn sns': texts, 'aw s3': archived };
      for (const [name, it] of edges) {
        const value = flows[/** @type {keyof typeof flows} */ (name)];
        if (value !== undefined) tell(it.text, name === 'el rs' ? `${rate(value)} queries/s` : value === null ? '?' : shortRate(value));
        it.wide.setAttribute('stroke-width', String(value ? Math.min(9, 2 + Math.log10(1 + value) * 2.2) : 2));
      }
      for (const [id, it] of boxes) if (BOXES[id].length > 4) put(it, stage(id), id);
      const open = (role) => state.shards.shards.filter((shard) => shard.role === role && shard.state !== 'ended').length;
      const looked = state.samples.at(-1)?.totals.cache;
      const known = looked && looked.known && looked.hits + looked.misses > 0;
      const late = (resource) => {
        const p95 = slowest(state, (call) => call.resource === resource);
        return p95 === null ? '' : `p95 ${span(p95)}`;
      };
      const say = { in: many(open('enrich'), 'shard'), out: published === null ? 'unknown' : `${shortRate(published)}/s`, back: many(open('notify'), 'shard'), sns: `${shortRate(texts)}/s`, db: `${shortRate(over)}/s`, s3: `${shortRate(archived)}/s`, rs: [known ? `hits ${percent(looked.hits / (looked.hits + looked.misses))}` : 'hits unknown', late('warehouse')].filter(Boolean).join(', ') };
      for (const [id, text] of Object.entries(say)) tell(boxes.get(id)?.low, text);
      tell(within, under === null ? '' : `${shortRate(under)}/s within the limit`);
      const lost = ends('enrich', 'owner_unknown');
      tell(unknown, lost ? `${shortRate(lost)}/s without a known owner` : '');
      element.setAttribute('aria-label', `Pipeline: ${rate(events)} events a second, ${rate(over)} above the limit, ${rate(texts)} texts. ${[...boxes].filter(([id]) => BOXES[id].length > 4).map(([id]) => `${BOXES[id][5]}: ${spoken(stage(id))}`).join('; ')}`);
    },
  };
}

/** Narrow places take few characters, and no word for what is not known. */
const shortRate = (value) => (value === null || value === undefined ? '?' : value >= 1_000 ? brief(value) : rate(value));

/** How many events ended in one of these ways, a second. @param {any} state @param {string} role @param {string[]} names */
function endsPerSecond(state, role, names) {
  const sum = (ends) => names.reduce((all, name) => all + (ends?.[role]?.[name] ?? 0), 0);
  return perSecond(state, (it) => sum(it.ends));
}

const spoken = (stage) => (stage === null ? 'none runs' : `${percent(stage.busy)} busy, ${percent(stage.waiting)} waiting, ${count(stage.mailbox)} queued`);

/** @param {string} from @param {string} to @param {string} [way] */
function edge(from, to, way) {
  const [one, other] = [BOXES[from], BOXES[to]];
  const down = way === 'down';
  const [x1, y1] = down ? [one[0] + 40, one[1] + TALL] : [one[0] + one[2], one[1] + TALL / 2];
  const [x2, y2] = down ? [x1, other[1] - 2] : [other[0] - 2, y1];
  const d = `M${x1} ${y1}L${x2} ${y2}`;
  const wide = s('path', { d, class: 'road', 'stroke-width': 2 });
  const text = s('text', down ? { class: 'edge', x: x1 + 8, y: (y1 + y2) / 2 + 4 } : { class: 'edge middle', x: (x1 + x2) / 2, y: y1 - 8 });
  return { wide, text, parts: [wide, s('path', { d, class: 'flowing', 'marker-end': 'url(#tip)' }), text] };
}

/** @param {any[]} place */
function box([x, y, width, name, kind, label]) {
  const isStage = kind !== undefined;
  const frame = s('rect', { class: isStage ? 'frame' : 'frame outside', x, y, width, height: TALL, rx: 6 });
  const title = s('text', { class: 'title', x: x + 9, y: y + 17 }, isStage ? label : name);
  const low = s('text', { class: 'low', x: x + 9, y: y + (isStage ? 43 : 38) });
  const hint = s('title', {});
  const group = s('g', isStage ? { 'data-testid': 'stage', 'data-stage': `${name}/${kind}` } : {}, hint, frame, title, low);
  if (!isStage) return { group, frame, title, low, hint };
  const [busy, waits] = [s('rect', { class: 'busy', x: x + 9, y: y + 23, height: 6, rx: 2 }), s('rect', { class: 'waits', x: x + 9, y: y + 23, height: 6 })];
  group.append(s('rect', { class: 'idle', x: x + 9, y: y + 23, width: width - 18, height: 6, rx: 2 }), busy, waits);
  return { group, frame, title, low, hint, busy, waits, x: x + 9, width: width - 18, label, room: width };
}

/** @param {any} it @param {any} stage @param {string} id */
function put(it, stage, id) {
  if (stage === null) {
    tell(it.title, it.label);
    tell(it.low, 'none runs');
    for (const bar of [it.busy, it.waits]) bar.setAttribute('width', '0');
    it.frame.setAttribute('class', 'frame');
    return;
  }
  const [b, w] = [stage.busy ?? 0, Math.min(stage.waiting ?? 0, 1 - (stage.busy ?? 0))];
  const [held, near] = [(stage.waiting ?? 0) > HELD_UP, b > NEAR_LIMIT];
  tell(it.title, `${it.label} ×${stage.actors}`);
  it.busy.setAttribute('width', String(b * it.width));
  it.busy.setAttribute('class', near ? 'near' : 'busy');
  it.waits.setAttribute('x', String(it.x + b * it.width));
  it.waits.setAttribute('width', String(w * it.width));
  it.frame.setAttribute('class', `frame ${held ? 'held' : near ? 'near' : ''}`);
  const on = it.room > 130 && WAITS_ON[id] ? ` on ${WAITS_ON[id]}` : '';
  const more = it.room > 130 && stage.p95_us !== null && stage.p95_us !== undefined ? `, p95 ${micros(stage.p95_us)}` : '';
  tell(it.low, held ? `${percent(stage.waiting)} waiting${on}` : `${percent(stage.busy)} busy${more}`);
  it.low.setAttribute('class', held ? 'low bad' : near ? 'low busy' : 'low');
  it.group.setAttribute('data-busy', String(stage.busy ?? 'unknown'));
  it.group.setAttribute('data-waiting', String(stage.waiting ?? 'unknown'));
  tell(it.hint, `${stage.kind}: ${spoken(stage)}, ${rate(stage.rate)} messages a second`);
}
