// What is not in the stream: pages that are read now and then, while somebody looks at them.
// @ts-check
import { get } from './api.js';

/**
 * @param {() => string} path @param {number} everyMs
 * @param {(page: any, error: Error | null) => void} show
 */
export function remote(path, everyMs, show) {
  let [asked, wish, open] = [0, 0, 0];
  async function read() {
    asked = performance.now();
    const mine = (wish += 1);
    open += 1;
    try {
      const page = await get(path());
      // Who asked later wants something else.
      if (mine === wish) show(page, null);
    } catch (error) {
      if (mine === wish) show(null, /** @type {Error} */ (error));
    } finally {
      open -= 1;
    }
  }
  return {
    read,
    /** Called with every frame. Whoever is slow to answer is not asked twice. */
    due() {
      if (open === 0 && (asked === 0 || performance.now() - asked >= everyMs)) read();
    },
  };
}
