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

/**
 * A table whose rows are given as cells, or as { attributes, cells }. A cell is a text, a node, or [text, class, attributes].
 * @param {string} label
 * @param {(string | [string, string])[]} heads [text, class]
 * @param {any[]} rows
 */
export function table(label, heads, rows) {
  const cell = (tag, value, head) => {
    const [content, kind, more] = Array.isArray(value) ? value : [value, Array.isArray(head) ? head[1] : '', {}];
    return h(tag, { class: kind || null, scope: tag === 'th' ? 'col' : null, ...more }, content === null || content === undefined ? 'unknown' : content);
  };
  const line = (row) => {
    const { attributes, cells } = Array.isArray(row) ? { attributes: {}, cells: row } : row;
    return h('tr', attributes, ...cells.map((value, place) => cell('td', value, heads[place])));
  };
  return h(
    'table',
    { 'aria-label': label },
    h('thead', {}, h('tr', {}, ...heads.map((head) => cell('th', head, head)))),
    h('tbody', {}, ...rows.map(line))
  );
}
