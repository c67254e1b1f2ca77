// What is not as it should be, each with a way to what proves it.
// @ts-check
import { h } from '../dom.js';

/** @param {any} state */
export function findings(state) {
  const found = state.status.problems;
  const title = found.length === 0 ? 'No findings' : found.length === 1 ? '1 finding' : `${found.length} findings`;
  const link = (text) => h('li', { 'data-testid': 'finding', 'data-rule': 'problem' }, h('a', { href: `#/${page(text)}`, title: text }, text));
  return h('section', { class: `findings ${found.length ? 'some' : ''}`, 'aria-label': 'Findings' }, h('h2', {}, title), h('ol', {}, ...found.map(link)));
}

/** @param {string} text */
const page = (text) => (/ shardId-|-shard-|owner/.test(text) ? 'shards' : 'nodes');
