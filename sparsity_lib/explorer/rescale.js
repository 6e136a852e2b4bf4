/**
 * The rescale control: a slider multiplies a layer's activations by a factor and divides the next layer's weights
 * by it. Entropies and maps follow; the logits, computed anew from the rescaled numbers, do not.
 *
 * The model is as in explorer.js, over `data` (see rescaling.py in the study) and `exponent`, the factor's log2.
 */

import { standardised, unpacked } from "./data.js";
import { followTheme, html, svg } from "./dom.js";
import { colourTable, paintImage, paintMap, paintScale } from "./paint.js";
import { STYLE } from "./style.js";

const FURTHEST = 4; // exponents of 2 on the slider, either way
const CLASSES = 3; // shown, the most probable

const RESCALE_STYLE = `
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 0.8rem 2rem; }
.columns > section { display: grid; grid-template-columns: 2fr 3fr; gap: 0.5rem 0.8rem; align-content: start; }
.columns > section > div { grid-column: 1 / -1; }
.columns canvas { width: 100%; height: auto; border: 1px solid var(--edge); }
.columns dl { margin: 0; display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 0.4rem; align-items: end; }
.columns :is(dt, dd) { margin: 0; font-variant-numeric: tabular-nums; }
.columns dd { text-align: right; font-weight: 600; }
.same { border-top: 1px solid var(--edge); padding-top: 0.5rem; }
.share { height: 0.5rem; background: linear-gradient(var(--first), var(--first)) 0 / calc(100% * var(--share)) no-repeat var(--grid); grid-column: 1 / -1; }
.scale-of { display: grid; gap: 0.3rem; }
.scale-of output { font-size: 1.0625rem; font-weight: 600; }
@container (max-width: 30rem) {
  .columns { gap: 0.8rem; font-size: 0.8125rem; line-height: 1.25; grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .columns > section { grid-template-columns: 1fr 1fr; grid-template-rows: auto auto 4rem; }
}
`;

/** RFAV entropy of factor * vector in nats, stable as in the page on measures. */
function entropyOf(vector, factor) {
  const largest = vector.reduce((most, value) => Math.max(most, factor * value), -Infinity);
  let [sum, weighted, skipped] = [0, 0, false];
  for (const value of vector) {
    const z = factor * value - largest;
    if (z === 0 && !skipped) skipped = true;
    else {
      sum += Math.exp(z);
      weighted += z * Math.exp(z);
    }
  }
  return Math.log1p(sum) - weighted / (1 + sum);
}

const relu = (value) => Math.max(0, value);

/** A linear layer with `weights` divided by `divisor`, of the inputs. */
function linear({ outputs, inputs, levels, steps, bias }, values, divisor) {
  return Array.from({ length: outputs }, (_, row) => {
    let sum = 0;
    for (let i = 0; i < inputs; i++) sum += ((levels[row * inputs + i] * steps[row]) / divisor) * values[i];
    return sum + bias[row];
  });
}

/** ReLU, 2 x 2 max-pooling, and flattening as torch does, channel by channel. */
function pooled({ vectors, height, width, channels }, factor) {
  const values = [];
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y + 1 < height; y += 2) {
      for (let x = 0; x + 1 < width; x += 2) {
        const four = [y * width + x, y * width + x + 1, (y + 1) * width + x, (y + 1) * width + x + 1];
        values.push(Math.max(...four.map((place) => relu(factor * vectors[place][channel]))));
      }
    }
  }
  return values;
}

function logitsOf(image, [next, last], factor) {
  const hidden = linear(next, pooled(image, factor), factor).map(relu);
  return linear(last, hidden, 1);
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const shares = logits.map((logit) => Math.exp(logit - largest));
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

/** The stored numbers as the functions above take them. */
async function decoded({ activations, linears, channels, height, width, images }) {
  const words = new Int16Array((await unpacked(activations.words)).buffer);
  const positions = height * width;
  const vectors = Array.from({ length: words.length / channels }, (_, i) =>
    Array.from(words.subarray(i * channels, (i + 1) * channels), (word) => (word / 32767) * activations.top),
  );
  const of = images.captions.map((_, i) => ({
    vectors: vectors.slice(i * positions, (i + 1) * positions),
    ...{ height, width, channels },
  }));
  const layers = linears.map(async (one) => ({ ...one, levels: new Int8Array((await unpacked(one.levels)).buffer) }));
  return { of, layers: await Promise.all(layers), pixels: await unpacked(images.pixels) };
}

/** 1/4, 0.35, 1, 2.83 */
function factorText(factor) {
  const whole = factor < 1 && Number.isInteger(1 / factor);
  return whole ? `1/${1 / factor}` : String(Number(factor.toPrecision(factor < 1 ? 2 : 3)));
}

function pairs(...names) {
  const values = names.map(() => html("dd"));
  const element = html("dl", {}, ...names.flatMap((name, i) => [html("dt", {}, name), values[i]]));
  return { element, values };
}

/** One image: its picture, its map, entropies that follow the factor, probabilities that do not. */
function column(data, image, i, { layers, pixels }, colours) {
  const picture = html("canvas", { role: "img", "aria-label": data.images.captions[i] });
  const map = html("canvas", { role: "img" });
  const { element, values } = pairs(`entropy of ${data.layer}`, "at unit variance");
  const first = logitsOf(image, layers, 1);
  const most = [...first.keys()].sort((one, other) => first[other] - first[one]).slice(0, CLASSES);
  const probable = pairs(...most.map((index) => data.classes[index].replaceAll("_", " ")));
  const bars = most.map(() => html("div", { class: "share" }));
  probable.values.forEach((value, at) => value.after(bars[at]));
  const changed = html("div", { class: "muted" });
  const same = html("div", { class: "same" }, changed, probable.element);
  const caption = html("div", { class: "muted" }, data.images.captions[i]);
  const section = html("section", {}, caption, picture, map, html("div", {}, element), same);
  paintImage(picture, pixels, i, data.images);
  const highest = Math.log(data.channels);
  const update = (factor) => {
    const entropies = image.vectors.map((vector) => entropyOf(vector, factor));
    const scaleFree = image.vectors.map((vector) => entropyOf(standardised(vector.map((value) => factor * value)), 1));
    const [entropy, free] = [entropies, scaleFree].map((all) => all.reduce((sum, one) => sum + one, 0) / all.length);
    const bytes = Uint8Array.from(entropies, (value) => Math.round((255 * value) / highest));
    paintMap(map, { bytes, nats: (byte) => (byte / 255) * highest }, data, [0, highest], colours);
    map.setAttribute("aria-label", `Entropy of ${data.layer} at each position, ${entropy.toFixed(2)} nats on average`);
    values[0].textContent = `${entropy.toFixed(2)} nats`;
    values[1].textContent = `${free.toFixed(2)} nats`;
    const logits = logitsOf(image, layers, factor);
    const probabilities = softmax(logits);
    most.forEach((index, at) => {
      probable.values[at].textContent = probabilities[index].toFixed(4);
      bars[at].style.setProperty("--share", probabilities[index]);
    });
    const change = Math.max(...logits.map((logit, index) => Math.abs(logit - first[index])));
    changed.textContent = `Class probabilities; logits change by ${change.toFixed(6)}`;
  };
  return { section, update };
}

async function render({ model, el }) {
  const data = model.get("data");
  const kept = await decoded(data);
  const host = html("div");
  const root = host.attachShadow({ mode: "open" });
  const colours = colourTable(data);
  const slider = html("input", {
    ...{ type: "range", min: -FURTHEST, max: FURTHEST, step: 0.125, value: model.get("exponent") },
    "aria-label": `Factor on the scale of ${data.layer}`,
  });
  const marks = html("div", { class: "slider-marks", "aria-hidden": "true" });
  const mark = (exponent, ...content) => {
    const element = html(content.length ? "span" : "i", { class: "first" }, ...content);
    element.style.setProperty("--share", (exponent + FURTHEST) / (2 * FURTHEST));
    return element;
  };
  marks.append(...[-4, -2, 0, 2, 4].map((exponent) => mark(exponent, `×${factorText(2 ** exponent)}`)));
  marks.append(mark(Math.log2(data.lowest)));
  const factors = html("output");
  const foot = svg("svg", { viewBox: "0 0 10 10", class: "moment first", "aria-hidden": "true" });
  foot.append(svg("path", { d: "M5 1l-4 8h8z" }));
  const moment = html("div", { class: "muted" }, foot, `×${factorText(data.lowest)}: as large as at the lowest validation loss`);
  const columns = kept.of.map((image, i) => column(data, image, i, kept, colours));
  const bar = html("canvas", { "aria-hidden": "true" });
  const labels = html("div", { class: "labels" }, html("span", {}, "0: one channel alone"), html("span"));
  labels.append(html("span", {}, `ln ${data.channels} = ${Math.log(data.channels).toFixed(2)} nats: all alike`));
  const scale = html("div", { class: "scale" }, html("div", { class: "bar" }, bar), labels);
  paintScale(bar, colours);
  const frame = html("div", { class: "explorer", role: "group", "aria-label": "Rescale control" });
  frame.append(html("div", { class: "muted" }, `${data.label}, after the last epoch`));
  frame.append(html("div", { class: "scale-of" }, factors, html("div", {}, slider, marks), moment));
  frame.append(html("div", { class: "columns" }, ...columns.map(({ section }) => section)), scale);
  const update = () => {
    const factor = 2 ** Number(slider.value);
    const text = factorText(factor);
    columns.forEach((one) => one.update(factor));
    slider.setAttribute("aria-valuetext", `times ${text}`);
    factors.textContent = `${data.layer} × ${text}, weights of ${data.next} ÷ ${text}`;
  };
  slider.addEventListener("input", update);
  const leaveTheme = followTheme(host);
  root.append(html("style", {}, STYLE + RESCALE_STYLE), frame);
  update();
  el.append(host);
  return () => {
    leaveTheme();
    host.remove();
  };
}

export default { initialize: () => {}, render };
