// The nodes: who is there, how well the links answer, what each costs, who came and went.
// @ts-check
import { actionButton } from '../actions.js';
import { may } from '../api.js';
import { timeline } from '../charts.js';
import { h, panel, tell } from '../dom.js';
import { grid } from '../grid.js';
import { newest, standing } from '../history.js';
import { cpu } from '../model.js';
import { clock, count, percent, size, span } from '../words.js';

const STANDS = {
  up: ['●', 'Up', 'good'], starting: ['◐', 'Starting', 'busy'], draining: ['◐', 'Draining', 'busy'], resting: ['◐', 'Stands aside', 'busy'],
  stale: ['▲', 'Stale', 'bad'], suspect: ['▲', 'Suspect', 'bad'], lost: ['✕', 'Lost', 'bad'], left: ['■', 'Left', 'muted'],
};

/** @param {{ history: () => any }} context */
export function nodes({ history }) {
  const table = nodesTable({ short: false, history });
  const changes = grid({
    label: 'Comings and goings', key: (row) => `${row.node} ${row.at} ${row.what}`, testid: 'membership-row', empty: 'Nothing changed while this page watched.',
    columns: [
      { id: 'at', head: 'At', show: (row) => ({ text: clock(row.at), title: row.at }) },
      { id: 'node', head: 'Node', show: (row) => row.node },
      { id: 'what', head: 'Became', show: (row) => ({ text: `${(STANDS[row.what] ?? STANDS.up)[0]} ${row.what}`, kind: (STANDS[row.what] ?? STANDS.up)[2] }) },
    ],
  });
  return {
    element: h('div', { class: 'stack' }, panel('Nodes', {}, [], h('div', { class: 'scroll' }, table.element)), panel('Comings and goings', {}, [h('span', { class: 'muted' }, 'while this page watched')], h('div', { class: 'scroll' }, changes.element))),
    /** @param {any} state */
    show(state) {
      table.show(state);
      const all = Object.entries(history().nodes).flatMap(([node, list]) => list.filter((it) => !it.first).map((it) => ({ node, ...it })));
      changes.show(all.sort((one, other) => other.at.localeCompare(one.at)));
    },
  };
}

/** @param {{ short: boolean, history: () => any }} options */
export function nodesTable({ short, history }) {
  let state = /** @type {any} */ (null);
  const bare = (id, head, of, words) => ({ id, head, kind: 'number', order: of, show: (row) => ({ text: words(of(row)), value: of(row) ?? null, kind: row.said?.silent ? 'old' : '' }) });
  const process = (row) => row.said?.status?.process;
  const address = ({ node }) => (node.dashboard ? (/^https?:/.test(node.dashboard) ? node.dashboard : `${location.protocol}//${node.dashboard}`) : null);
  const few = [
    { id: 'name', head: 'Node', kind: 'strong', order: (row) => row.node.name, show: (row) => ({ text: row.node.name, link: address(row), title: row.node.worker }) },
    {
      id: 'state', head: 'State', order: (row) => row.stands,
      show: (row) => {
        const asked = state.asked.get(row.node.name)?.kind;
        const wish = asked === 'drain-node' ? 'Draining…' : asked === 'resume-node' ? 'Resuming…' : null;
        const [glyph, word, kind] = wish ? ['◐', wish, 'busy'] : STANDS[/** @type {keyof typeof STANDS} */ (row.stands)];
        const since = row.said?.silent ? (row.said.age_ms === null ? ', never heard' : ` ${span(row.said.age_ms)}`) : '';
        const old = since && row.stands !== 'stale' && since.startsWith(' ') ? `, stale${since}` : since;
        return { text: `${glyph} ${word}${old}`, kind, value: row.stands, title: row.said?.silent };
      },
    },
    bare('leases', 'Leases', (row) => row.leases, count),
    bare('actors', 'Actors', (row) => row.actors, count),
    bare('cpu', 'CPU', (row) => cpu(state, row.node), percent),
    bare('rss', 'Memory', (row) => process(row)?.rss_bytes, size),
    { ...bare('round-trip', 'RTT', (row) => row.node.round_trip_ms, (ms) => (ms === null || ms === undefined ? 'unknown' : `${ms.toFixed(1)} ms`)), show: (row) => ({ text: row.node.presence === 'here' ? 'itself' : row.node.round_trip_ms === null ? 'unknown' : `${row.node.round_trip_ms.toFixed(1)} ms`, value: row.node.round_trip_ms }) },
  ];
  const line = { id: 'timeline', head: 'Last 15 min', make: () => h('span', {}), update: (node, row) => node.replaceChildren(timeline(history().nodes[row.node.name] ?? [], Date.parse(state.at), short ? 64 : 130)) };
  const more = [
    bare('up', 'Up', (row) => (row.said?.status ? row.said.status.uptime_s * 1_000 : null), span),
    bare('files', 'Open files', (row) => process(row)?.open_files, count),
    bare('misses', 'Missed pings', (row) => row.node.misses, count),
    { id: 'link', head: 'Link', show: (row) => row.node.presence },
    { id: 'version', head: 'Version', show: (row) => row.said?.status?.version ?? 'unknown' },
    { id: 'roles', head: 'Serves', show: (row) => row.node.roles.map((role) => `${role} ${row.node.leases[role] ?? '?'}`).join(', ') },
    { id: 'address', head: 'Link address', kind: 'mono', show: (row) => row.node.address ?? 'unknown' },
  ];
  const acts = { id: 'acts', head: '', make: buttons, update: (node, row) => node.turn(row) };

  /** @param {() => any} of */
  function buttons(of) {
    const drain = actionButton('drain-node', () => ({ target: of().node.name, asked: state.asked, options: { stay: false }, fields: stays }));
    const resume = actionButton('resume-node', () => ({ target: of().node.name, asked: state.asked }));
    const box = h('span', { class: 'buttons' }, drain, resume);
    box.turn = (row) => {
      if (drain) drain.hidden = !['up', 'starting'].includes(row.stands);
      if (resume) resume.hidden = !['resting', 'draining'].includes(row.stands);
    };
    return box;
  }
  const columns = short ? [...few, line] : [...few, line, ...(may('operator') ? [acts] : []), ...more];
  const table = grid({ label: 'Nodes', key: (row) => row.node.worker, testid: 'node-row', attributes: (row) => ({ 'data-node': row.node.name, 'data-presence': row.node.presence, 'data-state': row.stands }), columns });
  return {
    element: table.element,
    /** @param {any} now */
    show(now) {
      state = now;
      const actors = new Map();
      for (const row of now.rows.values()) actors.set(row.node, (actors.get(row.node) ?? 0) + 1);
      const rows = newest(now.nodes.nodes).map((node) => {
        const said = now.status.nodes.find((it) => it.worker === node.worker);
        const held = Object.values(node.leases);
        return { node, said, stands: standing(node, said), actors: actors.get(node.name) ?? (said?.silent ? null : 0), leases: held.length && held.every((n) => n !== null) ? held.reduce((sum, n) => sum + n, 0) : null };
      });
      table.show(rows);
    },
  };
}

/** Whether the node ends once it is empty. @param {(options: Record<string, any>) => void} change */
function stays(change) {
  const box = h('input', { type: 'checkbox', id: 'drain-stay', 'data-testid': 'drain-stay' });
  const told = h('span', {});
  const say = () => tell(told, box.checked ? 'It gives everything away, takes nothing, and goes on running.' : 'It gives everything away and exits with 0.');
  box.addEventListener('change', () => {
    say();
    change({ stay: box.checked });
  });
  say();
  return [h('p', { class: 'check' }, box, h('label', { for: 'drain-stay' }, 'Keep it running'), ' ', told)];
}
