// Frames as the stream sends them, for the tests.

export const actor = (name, more = {}) => ({
  id: 1, node: name.split('/')[0], parent: name.includes('/') ? name.split('/').slice(0, -1).join('/') : null, name, kind: 'SpeedFilter',
  state: 'running', mailbox: 0, received: 0, done: 0, busy_ms: 0, waiting_ms: 0, waiting: false, restarts: 0, last: null, up_s: 1, ...more,
});

export const frame = (seq, full, rows, more = {}) => ({
  schema: 1, epoch: 'a', seq, full, at: more.at ?? '', actors: { rows, removed: more.removed ?? [] }, restarts: [], silent: [], findings: more.findings,
  status: {
    served_by: 'n', problems: more.problems ?? [], possible_repeats: 0, events_in: more.events ?? 0, outcomes_by_role: { enrich: { under_limit: 0 } },
    nodes: more.said ?? [{ worker: 'n#1', silent: null, status: { cache: null, process: { cpu_s: more.cpu ?? 0, rss_bytes: 1, open_files: 1 }, lanes: more.lanes ?? [] } }],
  },
  nodes: { nodes: more.nodes ?? [] }, shards: { shards: more.shards ?? [] },
});
