// What is not as it should be, each with a way to what proves it.
// @ts-check
import { h, tell } from '../dom.js';
import { ago, many } from '../words.js';

const SEVERITY = {
  info: ['●', 'Note', 'muted'], critical: ['✕', 'Critical', 'bad'], warning: ['▲', 'Warning', 'busy'] };

export const severity = (finding) => SEVERITY[/** @type {keyof typeof SEVERITY} */ (finding.severity)] ?? SEVERITY.warning;

/** Links of findings lead to pages of this one only. @param {string | null | undefined} link */
const within = (link) => (link?.startsWith('#/') ? link : '#/overview');

/** The strip of findings; made once, so that a link that has the focus keeps it. */
export function findings() {
  const title = h('h2', { 'data-testid': 'findings-count' });
  const list = h('ol', {});
  const element = h('section', { class: 'findings', 'aria-label': 'Findings' }, title, list);
  const items = new Map();

  /** @param {any} finding */
  function made(finding) {
    const [glyph, word, kind] = severity(finding);
    const [text, more] = [h('span', {}), h('small', { class: 'muted' })];
    const link = h('a', {}, h('strong', { class: kind }, `${glyph} ${word} `), text);
    const item = h('li', { 'data-testid': finding.severity === 'info' ? 'note' : 'finding', 'data-rule': finding.rule, 'data-severity': finding.severity, 'data-target': finding.target, 'data-node': finding.node }, link, more);
    return { item, link, text, more };
  }

  return {
    element,
    /** @param {any} state */
    show(state) {
      const found = state.findings;
      element.classList.toggle('some', found.length > 0);
      tell(title, found.length === 0 ? '● No findings' : many(found.length, 'finding'));
      title.dataset.value = String(found.length);
      const here = new Set();
      // Notes make nothing unhealthy, and do not count.
      [...found, ...state.notes].forEach((finding, at) => {
        const name = finding.id ?? finding.text;
        here.add(name);
        if (!items.has(name)) items.set(name, made(finding));
        const { item, link, text, more } = items.get(name);
        link.setAttribute('href', within(finding.link));
        link.title = finding.text;
        tell(text, finding.text);
        const since = finding.since ? `for ${ago(finding.since, state.at)}` : '';
        tell(more, [since, finding.next].filter(Boolean).join(' · '));
        more.title = finding.next ?? '';
        if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
      });
      for (const [name, { item }] of items) {
        if (here.has(name)) continue;
        item.remove();
        items.delete(name);
      }
    },
  };
}
