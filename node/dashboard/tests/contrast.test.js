// The colours of the tokens against each other, as WCAG 2 measures contrast: 4.5 for text, 3 for what is drawn.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const text = readFileSync(new URL('../tokens.css', import.meta.url), 'utf8');
const themes = { light: text.slice(0, text.indexOf('@media')), dark: text.slice(text.indexOf(':root[data-theme="dark"]')) };

function colours(css) {
  return Object.fromEntries([...css.matchAll(/--([a-z-]+): (#[0-9a-f]{6})/g)].map(([, name, hex]) => [name, hex]));
}

function luminance(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

for (const [theme, css] of Object.entries(themes)) {
  test(`${theme}: text can be read on every ground it stands on`, () => {
    const c = colours(css);
    for (const ground of ['panel', 'ground', 'selected']) {
      for (const ink of ['text', 'muted', 'accent', 'good', 'busy', 'bad']) {
        assert.ok(contrast(c[ink], c[ground]) >= 4.5, `${ink} on ${ground}: ${contrast(c[ink], c[ground]).toFixed(2)}`);
      }
    }
    assert.ok(contrast(c.accent, c['accent-ground']) >= 4.5, 'accent on its ground');
    assert.ok(contrast(c.panel, c.bad) >= 4.5, 'the heading of the findings');
  });

  test(`${theme}: bars and focus can be told from what they stand on`, () => {
    const c = colours(css);
    for (const [mark, ground] of [['good-fill', 'idle'], ['busy-fill', 'idle'], ['bad-fill', 'idle'], ['focus', 'panel'], ['data', 'panel'], ['edge', 'panel'], ['edge', 'ground'], ['data', 'idle']]) {
      assert.ok(contrast(c[mark], c[ground]) >= 3, `${mark} on ${ground}: ${contrast(c[mark], c[ground]).toFixed(2)}`);
    }
  });
}

test('both dark themes are the same', () => {
  const media = text.slice(text.indexOf('@media'), text.indexOf(':root[data-theme="dark"]'));
  assert.deepEqual(colours(media), colours(themes.dark));
});
