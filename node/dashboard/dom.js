// Makes elements. Text goes in as text only: names and reasons come from outside, and no string is ever read as HTML.
// @ts-check

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Record<string, string | number | boolean | null | undefined | Record<string, string> | ((event: any) => void)>} Attributes */

/**
 * @param {Element} element
 * @param {Attributes} attributes
 * @param {(Node | string | null | undefined)[]} children
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (name === 'style') {
      // The style attribute is forbidden by the content security policy; single properties are not.
      for (const [key, text] of Object.entries(value)) /** @type {any} */ (element).style.setProperty(key, text);
    } else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => /** @type {Node | string} */ (child)));
  return element;
}

/**
 * An HTML element.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Node | string | null | undefined)} children
 * @returns {any}
 */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/**
 * An SVG element.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Node | string | null | undefined)} children
 * @returns {any}
 */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A number that is shown, with the bare number beside it for whoever compares. @param {string} field @param {number | null | undefined} value */
export const raw = (field, value) => ({ 'data-field': field, 'data-value': value ?? 'unknown' });

/**
 * A panel with a heading.
 * @param {string} title
 * @param {Attributes} attributes
 * @param {(Node | string | null)[]} beside what stands beside the heading
 * @param {...(Node | string | null)} children
 */
export const panel = (title, attributes, beside, ...children) =>
  h('section', { 'aria-label': title, ...attributes }, h('header', {}, h('h2', {}, title), ...beside), ...children);

/** Changes a text only if it is another, so that what somebody has marked stays marked. @param {Node} node @param {string} text */
export function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Names and what they are, as a list. @param {[string, any][]} facts a value is a text, a node, or [text, field, raw value] */
export const factList = (facts) =>
  h(
    'dl',
    { class: 'facts' },
    ...facts.flatMap(([name, value]) => {
      const [content, field, bare] = Array.isArray(value) ? value : [value];
      return [h('dt', {}, name), h('dd', field ? raw(field, bare) : {}, content instanceof Node ? content : String(content ?? 'unknown'))];
    })
  );

/** A choice among few. @param {string} id @param {[string, string][]} options [value, text] @param {string} now @param {Attributes} [more] */
export const select = (id, options, now, more = {}) =>
  h('select', { id, ...more }, ...options.map(([value, text]) => h('option', { value, selected: value === now }, text)));
