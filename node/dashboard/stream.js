// The live data: one connection a tab, which finds its way back by itself.
// @ts-check
import { apply, empty } from './model.js';

/** The server sends a frame a second; longer silence means that it is gone. */
const SILENT_AFTER_MS = 2_500;

/**
 * @param {(state: any, live: { connected: boolean, age: number | null, dropped: boolean }) => void} onChange
 */
export function listen(onChange) {
  const state = empty();
  let source = /** @type {EventSource | null} */ (null);
  let opened = 0;
  let paused = false;

  const live = () => {
    const age = state.heard ? performance.now() - state.heard : null;
    return { connected: age !== null && age < SILENT_AFTER_MS, age, dropped: paused };
  };

  function open() {
    source?.close();
    opened = performance.now();
    source = new EventSource('/api/v1/stream');
    const take = (event) => {
      if (!apply(state, JSON.parse(event.data), performance.now())) return open();
      if (!paused) onChange(state, live());
    };
    source.addEventListener('snapshot', take);
    source.addEventListener('delta', take);
    source.addEventListener('bye', () => onChange(state, { ...live(), connected: false }));
  }

  // A connection that hangs raises no error, so silence alone decides.
  setInterval(() => {
    const now = performance.now();
    if (now - Math.max(state.heard, opened) > SILENT_AFTER_MS) open();
    onChange(state, live());
  }, 1_000);
  open();
  return {
    /** @param {boolean} value */
    pause(value) {
      paused = value;
    },
    state,
  };
}
