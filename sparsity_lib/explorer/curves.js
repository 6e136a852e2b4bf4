/** Validation loss and the layer's mean entropy over epochs, with the epoch shown marked. */

import { BOTTOM, drawing, extent, horizontals, LEFT, RIGHT, scaled, ticks, TOP, WIDTH } from "./charts.js";
import { change } from "./data.js";
import { html, KINDS, signed, svg } from "./dom.js";

/** What a line shows, in words. */
function described(values, epochs) {
  const known = values.flatMap((value, i) => (value === null ? [] : [{ value, epoch: epochs[i] }]));
  if (!known.length) return "no values";
  const at = ({ value, epoch }) => `${value.toFixed(2)} at epoch ${signed(epoch)}`;
  const lowest = known.reduce((best, one) => (one.value < best.value ? one : best));
  return `from ${at(known[0])} to ${at(known.at(-1))}; lowest ${at(lowest)}`;
}

/** Grid and labels. */
function axes(x, y, limits) {
  const across = ticks(limits.x, 1, 5);
  const labels = across.map(({ value, text }, i) => {
    const anchor = i === across.length - 1 && x(value) > RIGHT - 12 ? "end" : "middle";
    return svg("text", { x: x(value), y: BOTTOM + 18, "text-anchor": anchor }, ...(i ? [] : [svg("tspan", {}, "epoch ")]), text);
  });
  return [...horizontals(y, ticks(limits.y, 0.01, 3)), ...labels];
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
    picture.replaceChildren(...axes(x, y, limits), ...moments, ...paths.reverse(), now, ...dots);
  };
  const update = ({ lines, limits, title }) => {
    const key = [...lines.map(({ values }) => values), limits.y[0], limits.y[1]];
    if (key.length !== drawn.length || key.some((value, i) => value !== drawn[i])) draw(lines, limits);
    drawn = key;
    const here = lines.map(({ values, at }) => values[at]);
    const unit = (i) => (i === here.length - 1 ? " nats" : "");
    const texts = here.map((value, i) => (value === null ? "" : value.toFixed(2) + unit(i)));
    const inWords = lines.map(({ label, values, epochs, onset }) => {
      const moment = onset === null ? "" : `; moment of overfitting at epoch ${onset}`;
      return `${label}: ${described(values, epochs)}${moment}`;
    });
    say(title, texts, `${title} over epochs. ${inWords.join(". ")}`);
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
      const moment = onset !== null ? `epoch ${onset}` : judged ? "none" : "not known";
      texts[i].textContent = `${moment} (${label})`;
    });
  };
  return { element, update };
}

/** The charts; those over epochs are hidden where there is one epoch, and all where there are no channels either. */
export function curves({ model, data, channels }) {
  const x = extent(data.runs.flatMap((run) => run.epochs));
  const ask = (share) => change(model, { epoch: x[0] + share * (x[1] - x[0]), playing: false });
  const loss = overEpochs("loss", ask);
  const entropy = overEpochs("entropy", ask);
  // Limits are those of all runs, so that another network is drawn on the same axes.
  const lossLimits = { x, y: extent(data.runs.flatMap((run) => run.loss)) };
  const entropyLimits = (name, measure, stretched) => {
    const same = data.runs.flatMap((run) => run.layers.filter((layer) => layer.name === name));
    const most = Math.max(...same.map(({ channels }) => Math.log(channels)));
    return { x, y: stretched ? extent(same.flatMap((layer) => layer.means[measure])) : [0, most] };
  };
  const moments = momentsKey();
  const drawings = [loss, entropy, channels, moments].map(({ element }) => element);
  const element = html("div", { class: "curves" }, ...drawings);
  const update = ({ panes, layer, measure, stretched }) => {
    const epochs = panes[0].run.epochs;
    element.hidden = epochs.length < 2 && !panes.some((pane) => pane.layer?.activations);
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
      limits: entropyLimits(layer.name, measure, stretched),
      title: `${data.measures[measure]}, ${layer.name}`,
    });
  };
  return { element, update };
}
