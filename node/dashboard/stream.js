// The live data: one connection for all tabs of a browser, since it opens six to one address at most. The tab that holds the lock
// listens and tells the others; when it goes, the next one has the lock.
// @ts-check
import { apply, empty, whole } from './model.js';

/** The server sends a frame a second; what is older than this is stale, and after longer silence the node counts as gone. */
const STALE_AFTER_MS = 1_800;
const SILENT_AFTER_MS = 2_700;
const LOOK_EVERY_MS = 400;
/** How long to wait before a connection that failed at once is tried again. */
const AGAIN_AFTER_MS = 2_000;

/**
 * @typedef {{ standing: 'connecting' | 'live' | 'stale' | 'disconnected', age: number | null, paused: boolean, why: string | null }} Live
 * @param {(state: any, live: Live, fresh: boolean) => void} onChange
 */
export function listen(onChange) {
  const state = empty();
  const others = 'BroadcastChannel' in globalThis ? new BroadcastChannel('speedtrap-stream') : null;
  let source = /** @type {EventSource | null} */ (null);
  let [leads, paused, lost, opened] = [false, false, false, performance.now()];
  let why = /** @type {string | null} */ (null);

  /** @returns {Live} */
  function live() {
    const age = state.heard ? performance.now() - state.heard : null;
    const silence = age ?? performance.now() - opened;
    const standing = lost || silence > SILENT_AFTER_MS ? 'disconnected' : age === null ? 'connecting' : age > STALE_AFTER_MS ? 'stale' : 'live';
    return { standing, age, paused, why };
  }

  /** @param {string} text */
  function take(text) {
    const begun = performance.now();
    const frame = JSON.parse(text);
    // A whole frame that another tab asked for.
    if (frame.full && frame.epoch === state.epoch && frame.seq === state.seq) return true;
    if (!apply(state, frame, begun)) return false;
    [lost, why] = [false, null];
    if (!paused) onChange(state, live(), true);
    measured('frame', begun);
    return true;
  }

  function open() {
    source?.close();
    opened = performance.now();
    const mine = (source = new EventSource('/api/v1/stream'));
    const heard = (event) => {
      others?.postMessage({ kind: 'frame', text: event.data });
      if (!take(event.data)) open();
    };
    mine.addEventListener('snapshot', heard);
    mine.addEventListener('delta', heard);
    const gone = () => {
      if (source !== mine) return;
      lost = true;
      others?.postMessage({ kind: 'lost' });
      onChange(state, live(), false);
    };
    mine.addEventListener('bye', gone);
    mine.addEventListener('error', async () => {
      gone();
      if (mine.readyState !== EventSource.CLOSED || source !== mine) return;
      why = await refusal();
      if (why === null) return;
      onChange(state, live(), false);
    });
  }

  others?.addEventListener('message', ({ data }) => {
    if (data.kind === 'hello' && leads && state.heard) others.postMessage({ kind: 'frame', text: JSON.stringify(whole(state)) });
    if (leads) return;
    if (data.kind === 'lost') {
      lost = true;
      onChange(state, live(), false);
    }
    if (data.kind === 'frame' && !take(data.text)) others.postMessage({ kind: 'hello' });
  });

  // A connection that hangs raises no error, so silence decides as well.
  setInterval(() => {
    const now = performance.now();
    const failed = source?.readyState === EventSource.CLOSED && now - opened > AGAIN_AFTER_MS;
    if (leads && (failed || now - Math.max(state.heard, opened) > SILENT_AFTER_MS)) open();
    onChange(state, live(), false);
  }, LOOK_EVERY_MS);

  function lead() {
    leads = true;
    open();
    // Held as long as the tab lives.
    return new Promise(() => {});
  }
  if (navigator.locks && others) {
    navigator.locks.request('speedtrap-stream', lead);
    others.postMessage({ kind: 'hello' });
  } else lead();
  addEventListener('pagehide', () => source?.close());

  return {
    state,
    /** @param {boolean} value */
    pause(value) {
      paused = value;
      if (!paused && state.heard) onChange(state, live(), true);
    },
    /** After signing in, or on another's request. */
    again: () => leads && open(),
  };
}

/** Why the node refuses a stream; null if it does not. An EventSource does not tell. */
async function refusal() {
  const stop = new AbortController();
  try {
    const response = await fetch('/api/v1/stream', { signal: stop.signal });
    if (response.ok) return null;
    if (response.status === 401) dispatchEvent(new Event('signed-out'));
    return (await response.json()).detail ?? `HTTP status ${response.status}`;
  } catch {
    return null;
  } finally {
    stop.abort();
  }
}

/** Measures kept for whoever looks at them. */
const KEPT = 300;

/**
 * Notes how long something took, up to the layout that it causes.
 * @param {string} name @param {number} begun
 */
export function measured(name, begun) {
  document.body.getBoundingClientRect();
  performance.measure(name, { start: begun, end: performance.now() });
  if (performance.getEntriesByName(name, 'measure').length > KEPT) performance.clearMeasures(name);
}
