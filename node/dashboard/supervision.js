// How a supervisor answers the end of an actor below it, in words. ARCHITECTURE.md has the same.
// @ts-check
import { count, span } from './words.js';

const DELAYS = 'after 200 ms to 30 s, longer each time, with jitter';

/** By the kind of the supervisor. */
const STRATEGIES = {
  NodeSupervisor: ['one for one', `it alone starts again, ${DELAYS}`, 'without end; 60 s of work begin the delays anew'],
  ShardAssigner: ['one for one', 'its lease is taken anew a second later, here or elsewhere', 'without end'],
  LaneSupervisor: ['one for all', `the lane starts again whole from its checkpoint, ${DELAYS} (lane.backoff_first, lane.backoff_most)`, 'without end; after 3 faults without progress records come alone, and one that ends the lane 3 times alone becomes a dead letter'],
  IngestSupervisor: ['one for all', `both start again, ${DELAYS}`, 'without end'],
};

/** @param {any} row @param {any} supervisor the row of its supervisor */
export function strategy(row, supervisor) {
  if (row.parent === null || row.parent === undefined) return { name: 'none', text: 'it is the root: the process ends with it' };
  const known = STRATEGIES[/** @type {keyof typeof STRATEGIES} */ (supervisor?.kind)];
  if (!known) return { name: 'unknown', text: 'nothing is known of its supervisor' };
  return { name: known[0], text: `${known[0]}: ${known[1]}; ${known[2]}` };
}

/** How long it took to start again, and how often it did. @param {any} row */
export function lastDelay(row) {
  if (!row.last) return 'never needed';
  return `restart ${count(row.restarts)}, after ${span(row.last.delay_ms)}`;
}

/** The names from the root to an actor, each with its own. @param {string} name @param {(name: string) => any} place */
export function pathTo(name, place) {
  const path = [];
  for (let at = place(name); at; at = at.parent) path.unshift({ name: at.name, own: at.own });
  return path;
}
