// Events by state and by speed, made ready to be drawn. No page in here.
// @ts-check

/** Names of the states by the letters that the outlines have. */
export const STATES = {
  AL: 'Alabama', AK: 'Alaska', AZ: 'Arizona', AR: 'Arkansas', CA: 'California', CO: 'Colorado', CT: 'Connecticut', DE: 'Delaware', FL: 'Florida',
  GA: 'Georgia', HI: 'Hawaii', ID: 'Idaho', IL: 'Illinois', IN: 'Indiana', IA: 'Iowa', KS: 'Kansas', KY: 'Kentucky', LA: 'Louisiana', ME: 'Maine',
  MD: 'Maryland', MA: 'Massachusetts', MI: 'Michigan', MN: 'Minnesota', MS: 'Mississippi', MO: 'Missouri', MT: 'Montana', NE: 'Nebraska',
  NV: 'Nevada', NH: 'New Hampshire', NJ: 'New Jersey', NM: 'New Mexico', NY: 'New York', NC: 'North Carolina', ND: 'North Dakota', OH: 'Ohio',
  OK: 'Oklahoma', OR: 'Oregon', PA: 'Pennsylvania', RI: 'Rhode Island', SC: 'South Carolina', SD: 'South Dakota', TN: 'Tennessee', TX: 'Texas',
  UT: 'Utah', VT: 'Vermont', VA: 'Virginia', WA: 'Washington', WV: 'West Virginia', WI: 'Wisconsin', WY: 'Wyoming',
};

const CODES = new Map(Object.entries(STATES).flatMap(([code, name]) => [[code.toLowerCase(), code], [name.toLowerCase(), code]]));

/** The letters of a state that is told by name or letters; null if it has no outline. @param {string} state */
export const code = (state) => CODES.get(state.trim().toLowerCase()) ?? null;

/**
 * Counts by letters, for the map. What has no outline (the District, territories) stands in the table alone.
 * @param {any} page of /api/v1/map
 */
export function byCode(page) {
  const counts = new Map();
  for (const row of page.states) {
    const letters = code(row.state);
    if (!letters) continue;
    const known = counts.get(letters) ?? { events: 0, violations: 0 };
    counts.set(letters, { events: known.events + row.events, violations: known.violations + row.violations });
  }
  return counts;
}

/** Whether every event in the window is in a state or among those without one. @param {any} page */
export const addsUp = (page) => page.states.reduce((sum, row) => sum + row.events, page.state_unknown.events) === page.events;

/** How strong a colour is, 0 to 1: even one event can be told from none. @param {number} value @param {number} most */
export const strength = (value, most) => (value <= 0 || most <= 0 ? 0 : 0.12 + 0.88 * (value / most));

/**
 * Bars of the histogram: how much of each is above the limit, and its height as a share of the scale.
 * @param {any} histogram
 */
export function bars({ limit_mph: limit, bins: all }) {
  // Speeds that nobody drives would only make the rest narrow; those beside the limit stay.
  const isShown = (bin) => bin.events > 0 || (limit !== null && bin.from <= limit + 1 && bin.to >= limit);
  const [first, last] = [all.findIndex(isShown), all.findLastIndex(isShown)];
  const bins = first < 0 ? [] : all.slice(Math.max(0, first - 1), last + 2);
  const top = ceiling(Math.max(0, ...bins.map((bin) => bin.events)));
  // Both ends of a bin belong to it, and the limit itself is within the limit.
  const above = ({ from, to }) => (limit === null ? 0 : Math.min(1, Math.max(0, (to - limit) / (to - from + 1))));
  return { top, bars: bins.map((bin) => ({ ...bin, height: bin.events / top, above: above(bin) })) };
}

/** A round number at or above the highest, for the scale. @param {number} most */
export function ceiling(most) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(1, most)));
  return [1, 2, 4, 6, 8].map((times) => times * unit).find((it) => it >= most && it % 2 === 0) ?? 10 * unit;
}
