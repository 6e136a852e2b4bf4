/** The channels at one position as bars, the largest first: as they are, and at unit variance. */

import { BOTTOM, drawing, extent, horizontals, LEFT, RIGHT, scaled, ticks, TOP } from "./charts.js";
import { moments, standardised, vectorsOf } from "./data.js";
import { KINDS, signed, svg } from "./dom.js";

const MIDDLE = (TOP + BOTTOM) / 2 + 6; // where the second row of bars begins
const ROWS = [
  { name: "raw", top: TOP, bottom: MIDDLE - 14 },
  { name: "at unit variance", top: MIDDLE, bottom: BOTTOM + 6 },
];

/** The outline of bars from the line at 0. */
function bars(vector, y, kind) {
  const x = scaled([0, vector.length], LEFT, RIGHT);
  const largestFirst = vector.toSorted((one, other) => other - one);
  const steps = largestFirst.map((value, i) => `V${y(value).toFixed(1)}H${x(i + 1).toFixed(1)}`);
  return svg("path", { d: `M${LEFT} ${y(0).toFixed(1)}${steps.join("")}V${y(0).toFixed(1)}Z`, class: `area ${kind}` });
}

/** One of the two rows: the shown vectors on the scale of all, with its name. */
function row({ name, top, bottom }, vectors, shown) {
  const limits = extent([0, ...vectors.flat(2)]); // of all epochs, so that bars can be seen to grow
  const y = scaled(limits, bottom, top);
  const paths = shown.map((vector, i) => (vector ? bars(vector, y, KINDS[i]) : ""));
  const marks = ticks(limits, 0.01, 6).filter(({ value }, i, all) => !value || !i || i === all.length - 1);
  return [...horizontals(y, marks), ...paths, svg("text", { x: RIGHT, y: top + 4, "text-anchor": "end" }, name)];
}

/**
 * The chart: {element, update(now, position)}, of the position {y, x} of each pane's map. Activations are kept
 * of few epochs: those of the nearest are drawn, and the title names it.
 */
export function channelChart({ decoded }) {
  const { element, picture, say } = drawing("channels");
  const update = (now, positionIn) => {
    const found = now.panes.map((pane) => pane.layer && vectorsOf(decoded, pane, now, positionIn(pane.layer)));
    element.classList.toggle("empty", !found.some(Boolean));
    if (!found.some(Boolean)) return;
    const there = found.filter(Boolean);
    const shown = found.map((one) => one && one.vectors[one.at]);
    const all = there.map(({ vectors }) => vectors);
    const unit = (vectors) => vectors.map(standardised);
    const drawn = shown.map((vector) => vector && standardised(vector));
    picture.replaceChildren(...row(ROWS[0], all, shown), ...row(ROWS[1], all.map(unit), drawn));
    const sds = shown.map((vector) => vector && moments(vector).sd);
    const epochs = [...new Set(there.map(({ epoch }) => epoch))].map(signed).join(" and ");
    const { y, x } = positionIn(now.layer);
    const place = now.layer.height * now.layer.width > 1 ? `at row ${y + 1}, column ${x + 1}` : `of ${now.layer.name}`;
    const title = `Channels ${place}, epoch ${epochs}`;
    const inWords = found.flatMap((one, i) => {
      if (!one) return [];
      const [low, high] = extent(shown[i]);
      const [label, least, most] = [now.panes[i].run.label, signed(low.toFixed(2)), signed(high.toFixed(2))];
      return `${label}: ${shown[i].length} activations from ${least} to ${most}, standard deviation ${sds[i].toFixed(2)}`;
    });
    const texts = sds.map((sd) => (sd ? `SD ${sd.toFixed(2)}` : ""));
    say(title, texts, `${title}, largest first, raw and at unit variance. ${inWords.join(". ")}`);
  };
  return { element, update };
}
