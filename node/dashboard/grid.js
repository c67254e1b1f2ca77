// A table that stands still while its numbers change: rows are known by a key, and only cells that changed are touched.
// @ts-check
import { h, tell } from './dom.js';

/**
 * What a column shows of a row: a text, or more about it. `link` is an address in this page; `value` the bare number or word.
 * @typedef {string | { text: string, kind?: string, title?: string | null, value?: any, link?: string | null }} Cell
 */

/**
 * @typedef {object} Column
 * @property {string} id
 * @property {string} head
 * @property {string} [kind] class of head and cells
 * @property {(row: any) => Cell} [show]
 * @property {(of: () => any) => HTMLElement} [make] for a cell with something to press in it; gets the row of the moment
 * @property {(node: any, row: any) => void} [update]
 * @property {(row: any) => any} [order] makes the column one to sort by; unknown (null) comes last
 */

/**
 * @param {{
 *   label: string, columns: Column[], key: (row: any) => string, testid?: string, attributes?: (row: any) => Record<string, any>,
 *   sort?: string, empty?: string, onSort?: (text: string) => void,
 * }} options
 */
export function grid({ label, columns, key, testid, attributes, sort = '', empty = '', onSort }) {
  let [by, down] = [sort.replace(/^-/, ''), sort.startsWith('-')];
  let rows = /** @type {any[]} */ ([]);
  let chosen = /** @type {string | null} */ (null);
  /** @type {Map<string, { line: HTMLElement, cells: any[], row: any }>} */
  const lines = new Map();
  const heads = columns.map((column) => {
    const button = column.order ? h('button', { type: 'button', class: 'sort', click: () => turn(column.id) }, column.head) : null;
    return h('th', { scope: 'col', class: column.kind ?? null }, button ?? column.head);
  });
  const body = h('tbody', {});
  const none = h('p', { class: 'none muted' }, empty);
  const table = h('table', { 'aria-label': label }, h('thead', {}, h('tr', {}, ...heads)), body);
  const element = h('div', { class: 'grid' }, table, none);

  /** @param {string} id */
  function turn(id) {
    [by, down] = id === by ? (down ? ['', false] : [id, true]) : [id, false];
    onSort?.(by ? `${down ? '-' : ''}${by}` : '');
    draw();
  }

  function sorted() {
    const order = columns.find((column) => column.id === by)?.order;
    if (!order) return rows;
    const lacks = (value) => value === null || value === undefined;
    return rows
      .map((row) => [order(row), row])
      .sort(([one], [other]) => {
        if (lacks(one) || lacks(other)) return Number(lacks(one)) - Number(lacks(other));
        return (one < other ? -1 : one > other ? 1 : 0) * (down ? -1 : 1);
      })
      .map(([, row]) => row);
  }

  /** @param {string} name @param {any} row */
  function made(name, row) {
    const entry = { line: h('tr', testid ? { 'data-testid': testid } : {}), cells: /** @type {any[]} */ ([]), row };
    for (const column of columns) {
      const cell = h('td', { class: column.kind ?? null, 'data-field': column.id });
      const node = column.make?.(() => entry.row) ?? null;
      if (node) cell.append(node);
      entry.cells.push({ cell, node, kind: column.kind ?? '', base: column.kind ?? '' });
      entry.line.append(cell);
    }
    lines.set(name, entry);
    return entry;
  }

  /** @param {any} place @param {Cell} shown */
  function put(place, shown) {
    const { text, kind = '', title = null, value, link = null } = typeof shown === 'string' ? { text: shown } : shown;
    const wanted = `${place.base} ${kind}`.trim();
    if (place.kind !== wanted) place.cell.className = place.kind = wanted;
    if (Boolean(link) !== Boolean(place.link)) {
      place.link = link ? h('a', {}) : null;
      place.cell.replaceChildren(...(link ? [place.link] : []));
    }
    if (link && place.link.getAttribute('href') !== link) place.link.setAttribute('href', link);
    tell(place.link ?? place.cell, text);
    if (place.title !== title) {
      if (title === null) place.cell.removeAttribute('title');
      else place.cell.title = title;
      place.title = title;
    }
    const bare = value === undefined ? undefined : value === null ? 'unknown' : String(value);
    if (place.value !== bare && bare !== undefined) place.cell.dataset.value = place.value = bare;
  }

  function draw() {
    heads.forEach((head, place) => {
      const is = columns[place].id === by;
      if (is) head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    const here = new Set();
    sorted().forEach((row, at) => {
      const name = key(row);
      here.add(name);
      const entry = lines.get(name) ?? made(name, row);
      entry.row = row;
      columns.forEach((column, place) => {
        if (column.show) put(entry.cells[place], column.show(row));
        else column.update?.(entry.cells[place].node, row);
      });
      for (const [attribute, value] of Object.entries(attributes?.(row) ?? {})) {
        if (entry.line.getAttribute(attribute) !== String(value)) entry.line.setAttribute(attribute, String(value));
      }
      entry.line.classList.toggle('chosen', name === chosen);
      // Moved only if it stands elsewhere: what is moved loses the focus.
      if (body.children[at] !== entry.line) body.insertBefore(entry.line, body.children[at] ?? null);
    });
    for (const [name, { line }] of lines) {
      if (here.has(name)) continue;
      line.remove();
      lines.delete(name);
    }
    none.hidden = rows.length > 0 || empty === '';
  }

  return {
    element,
    /** @param {any[]} now */
    show(now) {
      rows = now;
      draw();
    },
    /** Marks a row, and brings it in sight. @param {string | null} name */
    choose(name) {
      chosen = name;
      draw();
      lines.get(name ?? '')?.line.scrollIntoView({ block: 'nearest' });
    },
    redraw: draw,
  };
}

/** A cell that is pressed to see more of the row. @param {(row: any) => string} text @param {(row: any) => void} act */
export const pressed = (text, act) => ({
  make: (of) => h('button', { type: 'button', class: 'link', click: () => act(of()) }, ''),
  update: (node, row) => tell(node, text(row)),
});
