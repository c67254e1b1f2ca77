// What changed while a page watched: owners of shards, and which nodes came and went. No page in here.
// @ts-check

/** Changes kept of one shard or node. */
const KEPT = 50;

/** @returns {{ owners: Record<string, any[]>, nodes: Record<string, any[]> }} */
export const nothing = () => ({ owners: {}, nodes: {} });

/** How a node stands: one word. @param {any} node of the nodes page @param {any} said of the status page, if it is there */
export function standing(node, said) {
  if (node.presence === 'left') return 'left';
  if (node.presence === 'dead') return 'lost';
  if (node.presence === 'suspect') return 'suspect';
  if (said?.silent) return 'stale';
  if (node.draining) return said?.status?.state === 'aside' ? 'resting' : 'draining';
  return said?.status?.state === 'starting' ? 'starting' : 'up';
}

/**
 * Notes what is not as it was. The first look notes what there is, without calling it a change.
 * @param {ReturnType<typeof nothing>} history @param {any} state
 * @returns {boolean} whether anything is new
 */
export function note(history, state) {
  let isNew = false;
  const add = (list, what, since = state.at) => {
    const last = list.at(-1);
    if (last?.what === what) return;
    list.push({ at: last ? state.at : since, what, first: last === undefined });
    if (list.length > KEPT) list.shift();
    isNew = true;
  };
  for (const shard of state.shards.shards) {
    const owner = shard.node ?? shard.worker ?? 'nobody';
    add((history.owners[`${shard.role}/${shard.shard}`] ??= []), shard.state === 'held' ? owner : `${owner}, ${shard.state.replaceAll('_', ' ')}`);
  }
  for (const node of newest(state.nodes.nodes)) {
    const said = state.status.nodes.find((it) => it.worker === node.worker);
    // Before the page came it has been up for as long as it says.
    const since = Date.parse(state.at) - (said?.status?.uptime_s ?? 0) * 1_000;
    add((history.nodes[node.name] ??= []), standing(node, said), Number.isNaN(since) ? state.at : new Date(since).toISOString());
  }
  return isNew;
}

/** One node for each name: a boot that a later one replaced is of no interest. @param {any[]} nodes */
export function newest(nodes) {
  const boot = (node) => Number(node.worker.split('#')[1] ?? 0);
  const byName = new Map();
  for (const node of nodes) {
    const known = byName.get(node.name);
    if (!known || boot(known) < boot(node)) byName.set(node.name, node);
  }
  return [...byName.values()];
}

/**
 * Stretches of one state each within the last time, as shares of it from left to right.
 * @param {any[]} list @param {number} now @param {number} span milliseconds
 */
export function stretches(list, now, span) {
  const found = [];
  for (const [place, { at, what, first }] of list.entries()) {
    const from = Math.max(now - span, Date.parse(at));
    const to = place + 1 < list.length ? Date.parse(list[place + 1].at) : now;
    if (to < now - span) continue;
    found.push({ what, from: (from - (now - span)) / span, to: (to - (now - span)) / span, came: !first && Date.parse(at) >= now - span, at });
  }
  return found;
}
