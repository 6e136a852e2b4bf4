/** Validation loss, the layer's mean entropy, and its filters' correlations, with the epoch shown marked. */

import { change } from "./data.js";
import { html, KINDS, signed, svg, swatch } from "./dom.js";

const [WIDTH, HEIGHT] = [240, 132];
const [LEFT, RIGHT, TOP, BOTTOM] = [34, 234, 8, 108];

function extent(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

/** Round numbers between low and high, at most `most` + 2, with equally many decimals: {value, text}. */
function ticks([low, high], smallest, most) {
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

function scaled([low, high], from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** What a line shows, in words. */
function described(values, epochs) {
  const known = values.flatMap((value, i) => (value === null ? [] : [{ value, epoch: epochs[i] }]));
  if (!known.length) return "no values";
  const told = ({ value, epoch }) => `${value.toFixed(2)} at epoch ${signed(epoch)}`;
  const lowest = known.reduce((best, one) => (one.value < best.value ? one : best));
  return `from ${told(known[0])} to ${told(known.at(-1))}; lowest ${told(lowest)}`;
}

/** Grid and labels; `unit` goes before the first label of the horizontal axis. */
function axes(x, y, limits, unit) {
  const horizontal = ticks(limits.y, 0.01, 4).map(({ value, text }) =>
    svg(
      "g",
      {},
      svg("line", { x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, text),
    ),
  );
  const across = ticks(limits.x, unit ? 1 : 0.5, 5);
  const vertical = across.map(({ value, text }, i) => {
    const anchor = i === across.length - 1 && x(value) > RIGHT - 12 ? "end" : "middle";
    const label = i || !unit ? text : `${unit} ${text}`;
    return svg("text", { x: x(value), y: BOTTOM + 17, "text-anchor": anchor }, label);
  });
  return [...horizontal, ...vertical];
}

/** A path through points, broken where a value is null. */
function pathOf(values, epochs, x, y) {
  let pen = "M";
  const steps = values.map((value, i) => {
    const step = value === null ? "" : `${pen}${x(epochs[i]).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = value === null ? "M" : "L";
    return step;
  });
  return steps.join("");
}

/** A drawing with a caption: a name, and each network's value. */
function drawing(kind) {
  const name = html("span");
  const values = KINDS.map((one) => html("strong", { class: one }));
  const beside = KINDS.map((one, i) => html("span", { class: "value-of" }, swatch(one), values[i]));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const caption = html("figcaption", {}, name, html("span", {}, ...beside));
  const element = html("figure", { class: `curve ${kind}` }, caption, picture);
  const say = (title, texts, description) => {
    name.textContent = title;
    values.forEach((value, i) => {
      value.textContent = texts[i] ?? "";
      beside[i].hidden = texts[i] === undefined;
    });
    picture.setAttribute("aria-label", description);
  };
  return { element, picture, say };
}

/** A mark for the moment of overfitting: a line from top to bottom with a foot. */
function momentMark(at, kind) {
  const foot = svg("path", { d: `M${at} ${BOTTOM}l-4 7h8z` });
  const line = svg("line", { x1: at, x2: at, y1: TOP, y2: BOTTOM });
  return svg("g", { class: `moment ${kind}` }, line, foot);
}

/** Both networks' lines over epochs; a click, or a drag, asks for the epoch, as a share of the axis. */
function overEpochs(kind, ask) {
  const { element, picture, say } = drawing(kind);
  const now = svg("line", { y1: TOP, y2: BOTTOM, class: "now" });
  const dots = KINDS.map((one) => svg("circle", { r: 4, class: `dot ${one}` }));
  let drawn = [];
  let x;
  let y;
  const asked = ({ clientX, buttons, type }) => {
    if (type === "pointermove" && !buttons) return;
    const { left, width } = picture.getBoundingClientRect();
    const share = (((clientX - left) / width) * WIDTH - LEFT) / (RIGHT - LEFT);
    ask(Math.min(1, Math.max(0, share)));
  };
  picture.addEventListener("pointerdown", asked);
  picture.addEventListener("pointermove", asked);
  const draw = (lines, limits) => {
    x = scaled(limits.x, LEFT, RIGHT);
    y = scaled(limits.y, BOTTOM, TOP);
    const moments = lines.map(({ onset }, i) => (onset === null ? "" : momentMark(x(onset), KINDS[i])));
    const paths = lines.map(({ values, epochs }, i) =>
      svg("path", { d: pathOf(values, epochs, x, y), class: `line ${KINDS[i]}` }),
    );
    picture.replaceChildren(...axes(x, y, limits, "epoch"), ...moments, ...paths.reverse(), now, ...dots);
  };
  const update = ({ lines, limits, title }) => {
    const key = [...lines.map(({ values }) => values), limits.y[0], limits.y[1]];
    if (key.length !== drawn.length || key.some((value, i) => value !== drawn[i])) draw(lines, limits);
    drawn = key;
    const here = lines.map(({ values, at }) => values[at]);
    const unit = (i) => (i === here.length - 1 ? " nats" : "");
    const texts = here.map((value, i) => (value === null ? "" : value.toFixed(2) + unit(i)));
    const told = lines.map(({ label, values, epochs, onset }) => {
      const moment = onset === null ? "" : `; moment of overfitting at epoch ${onset}`;
      return `${label}: ${described(values, epochs)}${moment}`;
    });
    say(title, texts, `${title} over epochs. ${told.join(". ")}`);
    const place = x(lines[0].epochs[lines[0].at]);
    now.setAttribute("x1", place);
    now.setAttribute("x2", place);
    dots.forEach((dot, i) => {
      const known = (here[i] ?? null) !== null;
      dot.classList.toggle("hidden", !known);
      if (!known) return;
      dot.setAttribute("cx", x(lines[i].epochs[lines[i].at]));
      dot.setAttribute("cy", y(here[i]));
    });
  };
  return { element, update };
}

/** How often which correlation occurs among the pairs of the layer's filters, after the epoch shown. */
function histogram(decoded) {
  const { element, picture, say } = drawing("correlation");
  const update = (panes, name) => {
    const having = panes.map(({ layer }) => layer?.correlation ?? null);
    element.classList.toggle("empty", !having.some(Boolean));
    if (!having.some(Boolean)) return;
    const top = Math.max(...having.map((one) => one?.top ?? 0));
    const limits = { x: [-1, 1], y: [0, top] };
    const x = scaled(limits.x, LEFT, RIGHT);
    const y = scaled(limits.y, BOTTOM, TOP);
    const paths = having.map((one, i) => {
      if (!one) return "";
      const shares = decoded.get(one).subarray(panes[i].step * one.bins, (panes[i].step + 1) * one.bins);
      const edge = (bin) => x(-1 + (2 * bin) / one.bins).toFixed(1);
      const height = (share) => y((share / 65535) * one.top).toFixed(1);
      const steps = Array.from(shares, (share, bin) => `L${edge(bin)} ${height(share)}H${edge(bin + 1)}`);
      return svg("path", { d: `M${LEFT} ${BOTTOM}${steps.join("")}V${BOTTOM}`, class: `area ${KINDS[i]}` });
    });
    picture.replaceChildren(...axes(x, y, limits, ""), ...paths);
    const means = having.map((one, i) => one && one.mean[panes[i].step]);
    const texts = means.map((mean) => (mean === null ? "" : `|c| ${mean.toFixed(2)}`));
    const told = panes.map(({ run }, i) =>
      means[i] === null ? "" : `${run.label}: mean |c| ${means[i].toFixed(2)}. `,
    );
    say(`Correlation of filters`, texts, `Histogram of correlations of ${name}'s filters. ${told.join("")}`);
  };
  return { element, update };
}

/** In words: when each network begins to overfit. */
function momentsKey() {
  const texts = KINDS.map(() => html("span"));
  const entries = KINDS.map((kind, i) => {
    const mark = svg("svg", { viewBox: "0 0 10 10", class: `moment ${kind}`, "aria-hidden": "true" });
    mark.append(svg("path", { d: "M5 1l-4 8h8z" }));
    return html("span", {}, mark, texts[i]);
  });
  const element = html("div", { class: "moments muted" }, "Moment of overfitting, by validation loss:", ...entries);
  const update = (panes) => {
    entries.forEach((entry, i) => {
      entry.hidden = !panes[i];
      if (!panes[i]) return;
      const { onset, judged, label } = panes[i].run;
      const told = onset !== null ? `epoch ${onset}` : judged ? "none" : "not known";
      texts[i].textContent = `${told} (${label})`;
    });
  };
  return { element, update };
}

/** The three drawings; those over epochs are hidden where there are none, and all where none has anything. */
export function curves({ model, data, decoded }) {
  const x = extent(data.runs.flatMap((run) => run.epochs));
  const ask = (share) => change(model, { epoch: x[0] + share * (x[1] - x[0]), playing: false });
  const loss = overEpochs("loss", ask);
  const entropy = overEpochs("entropy", ask);
  const correlation = histogram(decoded);
  // Limits are those of all runs, so that another network is drawn on the same axes.
  const lossLimits = { x, y: extent(data.runs.flatMap((run) => run.loss)) };
  const entropyLimits = (name, measure) => {
    const same = data.runs.flatMap((run) => run.layers.filter((layer) => layer.name === name));
    return { x, y: extent(same.flatMap((layer) => layer.means[measure])) };
  };
  const moments = momentsKey();
  const drawings = [loss, entropy, correlation, moments].map(({ element }) => element);
  const element = html("div", { class: "curves" }, ...drawings);
  const update = ({ panes, layer, measure }) => {
    correlation.update(panes, layer.name);
    const epochs = panes[0].run.epochs;
    element.hidden = epochs.length < 2 && !panes.some((pane) => pane.layer?.correlation);
    [loss, entropy, moments].forEach((one) => (one.element.hidden = epochs.length < 2));
    if (epochs.length < 2) return;
    moments.update(panes);
    const line = ({ run, at }, values) => ({ ...run, values, at });
    loss.update({
      lines: panes.map((pane) => line(pane, pane.run.loss)),
      limits: lossLimits,
      title: "Validation loss",
    });
    entropy.update({
      lines: panes.filter((pane) => pane.layer).map((pane) => line(pane, pane.layer.means[measure])),
      limits: entropyLimits(layer.name, measure),
      title: `${data.measures[measure]}, ${layer.name}`,
    });
  };
  return { element, update };
}
