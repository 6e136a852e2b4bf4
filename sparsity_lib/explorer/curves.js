/** Validation loss, and the layer's mean entropy, over epochs, with the epoch shown marked. */

import { html, signed, svg } from "./dom.js";

const [WIDTH, HEIGHT] = [340, 132];
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 332, 8, 108];

function extent(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

/** Round numbers between low and high, at most six, with equally many decimals: {value, text}. */
function ticks([low, high], smallest) {
  const rough = Math.max((high - low) / 4, smallest);
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

function scaled([low, high], from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** What the line shows, in words. */
function described(values, epochs) {
  const known = values.flatMap((value, i) => (value === null ? [] : [{ value, epoch: epochs[i] }]));
  if (!known.length) return "no values";
  const told = ({ value, epoch }) => `${value.toFixed(2)} at epoch ${signed(epoch)}`;
  const lowest = known.reduce((best, one) => (one.value < best.value ? one : best));
  return `from ${told(known[0])} to ${told(known.at(-1))}; lowest ${told(lowest)}`;
}

function axes(x, y, limits) {
  const horizontal = ticks(limits.y, 0.01).map(({ value, text }) =>
    svg(
      "g",
      {},
      svg("line", { x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, text),
    ),
  );
  const vertical = ticks(limits.x, 1).map(({ value, text }, i) =>
    svg("text", { x: x(value), y: BOTTOM + 17, "text-anchor": "middle" }, i ? text : `epoch ${text}`),
  );
  return [...horizontal, ...vertical];
}

/** One curve; `limits` are those of all runs, so that another network is drawn on the same axes. */
function curve(kind) {
  const name = html("span");
  const value = html("strong");
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const marker = svg("line", { y1: TOP, y2: BOTTOM, class: "now" });
  const dot = svg("circle", { r: 4, class: "dot" });
  let source;
  let x;
  let y;
  const draw = (values, epochs, limits, title) => {
    x = scaled(limits.x, LEFT, RIGHT);
    y = scaled(limits.y, BOTTOM, TOP);
    let pen = "M";
    const path = values.map((value, i) => {
      const step = value === null ? "" : `${pen}${x(epochs[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = value === null ? "M" : "L";
      return step;
    });
    name.textContent = title;
    drawing.setAttribute("aria-label", `${title} over epochs: ${described(values, epochs)}`);
    drawing.replaceChildren(
      ...axes(x, y, limits),
      svg("path", { d: path.join(""), class: "line" }),
      marker,
      dot,
    );
  };
  const update = ({ values, epochs, limits, title, at }) => {
    if (values !== source) draw((source = values), epochs, limits, title);
    marker.setAttribute("x1", x(epochs[at]));
    marker.setAttribute("x2", x(epochs[at]));
    const here = values[at];
    dot.classList.toggle("hidden", here === null);
    if (here !== null) {
      dot.setAttribute("cx", x(epochs[at]));
      dot.setAttribute("cy", y(here));
    }
    value.textContent = here === null ? "" : `${here.toFixed(2)} nats`;
  };
  const caption = html("figcaption", {}, name, value);
  return { element: html("figure", { class: `curve ${kind}` }, caption, drawing), update };
}

/** Both curves. */
export function curves({ data }) {
  const loss = curve("loss");
  const entropy = curve("entropy");
  const x = extent(data.runs.flatMap((run) => run.epochs));
  const lossLimits = { x, y: extent(data.runs.flatMap((run) => run.loss)) };
  const entropyLimits = (name) => {
    const same = data.runs.flatMap((run) => run.layers.filter((layer) => layer.name === name));
    return { x, y: extent(same.flatMap((layer) => layer.entropy)) };
  };
  const update = ({ run, layer, at }) => {
    const { epochs } = run;
    loss.update({ values: run.loss, epochs, limits: lossLimits, title: "Validation loss", at });
    const title = `Mean entropy of ${layer.name}, held-out`;
    entropy.update({ values: layer.entropy, epochs, limits: entropyLimits(layer.name), title, at });
  };
  return { element: html("div", { class: "curves" }, loss.element, entropy.element), update };
}
