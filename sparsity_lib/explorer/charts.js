/** Parts of charts: axes with round numbers, and a drawing with a caption that has each network's value. */

import { html, KINDS, signed, svg, swatch } from "./dom.js";

export const [WIDTH, HEIGHT] = [240, 132];
export const [LEFT, RIGHT, TOP, BOTTOM] = [38, 234, 8, 108];

/** The lowest and the highest of the values that are not null. */
export function extent(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

/** Round numbers between low and high, at most `most` + 2, with equally many decimals: {value, text}. */
export function ticks([low, high], smallest, most) {
  const rough = Math.max((high - low) / most, smallest);
  const power = Math.floor(Math.log10(rough));
  const step = 10 ** power * [1, 2, 5, 10].find((factor) => 10 ** power * factor >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  return Array.from({ length: count }, (_, i) => {
    const value = (first + i) * step;
    return { value, text: signed(value.toFixed(decimals)) };
  });
}

/** The linear function that takes the two limits to `from` and `to`. */
export function scaled([low, high], from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Horizontal grid lines with their values. */
export function horizontals(y, marks) {
  return marks.map(({ value, text }) =>
    svg(
      "g",
      {},
      svg("line", { x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, text),
    ),
  );
}

/** A drawing with a caption: a name, and each network's value. */
export function drawing(kind) {
  const name = html("span");
  const values = KINDS.map((one) => html("strong", { class: one }));
  const pairs = KINDS.map((one, i) => html("span", { class: "value-of" }, swatch(one), values[i]));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const caption = html("figcaption", {}, name, html("span", {}, ...pairs));
  const element = html("figure", { class: `curve ${kind}` }, caption, picture);
  const say = (title, texts, description) => {
    name.textContent = title;
    values.forEach((value, i) => {
      value.textContent = texts[i] ?? "";
      pairs[i].hidden = texts[i] === undefined;
    });
    picture.setAttribute("aria-label", description);
  };
  return { element, picture, say };
}
