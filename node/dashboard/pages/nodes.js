// The nodes: who is there, how well the links answer, what each costs.
// @ts-check
import { h, panel, raw, table } from '../dom.js';
import { cpu } from '../model.js';
import { count, percent, size, span } from '../words.js';

export function nodes() {
  const body = h('div', { class: 'scroll' });
  return {
    element: panel('Nodes', {}, [], body),
    /** @param {any} state */
    show: (state) => body.replaceChildren(nodesTable(state, { short: false })),
  };
}

/** @param {any} state @param {{ short: boolean }} options */
export function nodesTable(state, { short }) {
  const rows = state.nodes.nodes.map((node) => {
    const said = state.status.nodes.find((it) => it.worker === node.worker);
    const own = [...state.rows.values()].filter((row) => row.node === node.name);
    const [glyph, word, kind] = standing(node, said);
    const process = said?.status?.process;
    const leases = Object.values(node.leases);
    const held = leases.length && leases.every((n) => n !== null) ? leases.reduce((sum, n) => sum + n, 0) : null;
    const trip = node.presence === 'here' ? 'itself' : node.round_trip_ms === null ? 'unknown' : `${node.round_trip_ms.toFixed(1)} ms`;
    const link = node.dashboard ? h('a', { href: node.dashboard.startsWith('http') ? node.dashboard : `http://${node.dashboard}` }, node.name) : node.name;
    const few = [[link, ''], [`${glyph} ${word}`, kind, { 'data-field': 'state', 'data-value': word }], [count(held), 'number', raw('leases', held)], [count(own.length), 'number', raw('actors', own.length)], [percent(cpu(state, node)), 'number', raw('cpu', cpu(state, node))], [size(process?.rss_bytes), 'number', raw('rss', process?.rss_bytes)], [trip, 'number', raw('round-trip', node.round_trip_ms)]];
    const attributes = { 'data-testid': 'node-row', 'data-node': node.name, 'data-presence': node.presence };
    if (short) return { attributes, cells: few };
    return { attributes, cells: [...few, [span(said?.status ? said.status.uptime_s * 1_000 : null), 'number'], [count(process?.open_files), 'number'], said?.status?.version ?? 'unknown', node.roles.join(', '), node.address ?? 'unknown'] };
  });
  const heads = ['Node', 'State', ['Leases', 'number'], ['Actors', 'number'], ['CPU', 'number'], ['Memory', 'number'], ['Round trip', 'number']];
  return table('Nodes', short ? heads : [...heads, ['Up', 'number'], ['Open files', 'number'], 'Version', 'Roles', 'Link address'], rows);
}

/** @param {any} node @param {any} said */
function standing(node, said) {
  if (said?.silent) return ['✕', said.age_ms === null ? node.presence : `${node.presence}, last heard ${span(said.age_ms)} ago`, 'bad'];
  if (node.draining) return ['◐', 'draining', 'busy'];
  return ['●', said?.status?.state ?? node.presence, 'good'];
}
