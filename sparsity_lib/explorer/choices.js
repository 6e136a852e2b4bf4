/** Controls: the choice of networks, image, layer, measure and epoch. Each is a part, {element, update(now)}. */

import { change, mapOf, scaleOf, shown } from "./data.js";
import { epochName, html, KINDS, signed, svg } from "./dom.js";
import { paintImage, paintMap } from "./paint.js";

/** A labelled list to choose from; `options` are [value, text]. */
function selection(title, options, choose) {
  const select = html("select", {}, ...options.map(([value, text]) => html("option", { value }, text)));
  select.addEventListener("change", () => choose(select.value));
  const element = html("label", { class: "run" }, html("span", { class: "legend" }, title), select);
  return { element, select };
}

/** The network, and the one to compare it with. */
export function runChoice({ model, data }) {
  const options = data.runs.map(({ label }, index) => [index, label]);
  const network = selection("Network", options, (value) => {
    const [run, before, compare] = [Number(value), model.get("run"), model.get("compare")];
    change(model, { run, compare: compare === run ? before : compare }); // the two change places
  });
  const other = selection("Compare", [["", "none"], ...options], (value) => {
    change(model, { compare: value === "" ? null : Number(value) });
  });
  other.element.hidden = data.runs.length < 2;
  const setting = html("div", { class: "muted" }, data.setting);
  const element = html("div", { class: "runs" }, network.element, other.element, setting);
  const update = ({ panes: [first, second] }) => {
    network.select.value = first.index;
    other.select.value = second ? second.index : "";
    [...other.select.options].slice(1).forEach((option, index) => {
      const same = index === first.index && second?.index !== index;
      option.disabled = same || data.runs[index].images !== first.run.images;
    });
  };
  return { element, update };
}

/**
 * Radio buttons with a small picture each. There is one option per name in `namesOf(now)`; they are made
 * anew when `sourceOf(now)` is another object.
 */
function pictureChoice(title, { sourceOf, namesOf, chosenOf, choose, paint }) {
  const list = html("div", { class: "options" });
  const legend = html("legend", { class: "legend" }, title);
  const element = html("fieldset", { class: title.toLowerCase() }, legend, list);
  let source;
  let options = [];
  const option = (name, index) => {
    const radio = html("input", { type: "radio", name: title });
    const canvas = html("canvas", { "aria-hidden": "true" });
    radio.addEventListener("change", () => choose(index));
    list.append(html("label", { title: name }, radio, canvas, html("span", {}, name)));
    return { radio, canvas };
  };
  const update = (now) => {
    const fresh = sourceOf(now) !== source;
    if (fresh) {
      source = sourceOf(now);
      list.replaceChildren();
      options = namesOf(now).map(option);
    }
    options.forEach(({ radio, canvas }, index) => {
      radio.checked = index === chosenOf(now);
      paint(canvas, now, index, fresh);
    });
  };
  return { element, update };
}

/** The input image, by its picture. */
export function imageChoice({ model, decoded }) {
  return pictureChoice("Image", {
    sourceOf: ({ images }) => images,
    namesOf: ({ images: { captions } }) =>
      captions.map((caption, i) => `Image ${i + 1} of ${captions.length}, ${caption}`),
    chosenOf: ({ image }) => image,
    choose: (image) => change(model, { image }),
    paint: (canvas, { images }, image, fresh) => {
      if (fresh) paintImage(canvas, decoded.get(images), image, images);
    },
  });
}

/** The layer, by the network's map of the image at the epoch. */
export function layerChoice({ model, decoded, colours }) {
  return pictureChoice("Layer", {
    sourceOf: ({ run }) => run,
    namesOf: ({ run }) => run.layers.map(({ name }) => name),
    chosenOf: ({ run, layer }) => run.layers.indexOf(layer),
    choose: (index) => change(model, { layer: shown(model).run.layers[index].name }),
    paint: (canvas, now, index) => {
      const layer = now.run.layers[index];
      const scale = layer === now.layer ? now.scale : scaleOf(layer, now.measure, now.stretched);
      paintMap(canvas, mapOf(decoded, now, now, layer), layer, scale, colours);
    },
  });
}

/** The measure: entropy as it is, or of the vectors at unit variance; and whether colours are stretched. */
export function measureChoice({ model, data }) {
  const radios = Object.entries(data.measures).map(([measure, title]) => {
    const radio = html("input", { type: "radio", name: "Measure" });
    radio.addEventListener("change", () => change(model, { measure }));
    return { measure, radio, label: html("label", {}, radio, html("span", {}, title)) };
  });
  const stretch = html("input", { type: "checkbox" });
  stretch.addEventListener("change", () => change(model, { stretched: stretch.checked }));
  const box = html("label", { class: "stretch" }, stretch, "Stretch colours");
  const list = html("div", { class: "options" }, ...radios.map(({ label }) => label), box);
  const element = html("fieldset", { class: "measure" }, html("legend", { class: "legend" }, "Measure"), list);
  const update = (now) => {
    radios.forEach(({ measure, radio }) => (radio.checked = measure === now.measure));
    stretch.checked = now.stretched;
  };
  return { element, update };
}

const PLAY = "M4 2.5v11l9-5.5z";
const PAUSE = "M4 2.5h3v11h-3zM9 2.5h3v11h-3z";

const APART = 0.11; // of the slider's length, between two labels at least

/** The epochs to label on the slider: the first, the last, and round ones between, as [epoch, share of the way]. */
function labelled(saved) {
  const places = saved.map((epoch, step) => [epoch, step / (saved.length - 1 || 1)]);
  const chosen = [places[0]];
  for (const [epoch, share] of places.slice(1, -1)) {
    if (epoch % 5 === 0 && share - chosen.at(-1)[1] >= APART && 1 - share >= APART) chosen.push([epoch, share]);
  }
  return [...chosen, ...places.slice(1).slice(-1)];
}

/** Labels under the slider, and a triangle at each network's moment of overfitting. */
function sliderMarks() {
  const element = html("div", { class: "slider-marks", "aria-hidden": "true" });
  let drawn;
  const update = ({ run: { saved }, panes }) => {
    const key = panes.map(({ run }) => run);
    if (drawn?.length === key.length && key.every((run, i) => run === drawn[i])) return;
    drawn = key;
    const labels = labelled(saved).map(([epoch, share]) => {
      const label = html("span", {}, signed(epoch));
      label.style.setProperty("--share", share);
      return label;
    });
    const moments = panes.flatMap(({ run: { onset } }, i) => {
      if (onset === null) return [];
      const after = saved.findIndex((epoch) => epoch >= onset);
      const before = Math.max(0, after - 1);
      const part = after > before ? (onset - saved[before]) / (saved[after] - saved[before]) : 0;
      const mark = html("i", { class: KINDS[i] });
      mark.style.setProperty("--share", (before + part) / (saved.length - 1 || 1));
      return [mark];
    });
    element.replaceChildren(...labels, ...moments);
  };
  return { element, update };
}

/** The epoch: a slider over those with maps, and a button that plays them; hidden where there is one alone. */
export function epochChoice({ model }) {
  const path = svg("path");
  const icon = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
  const word = html("span");
  const button = html("button", { type: "button" }, icon, word);
  const slider = html("input", { type: "range", min: 0, step: 1, "aria-label": "Epoch" });
  const marks = sliderMarks();
  const label = html("span", { "aria-hidden": "true" });
  const element = html("div", { class: "epoch" }, button, html("div", {}, slider, marks.element), label);
  button.addEventListener("click", () => change(model, { playing: !model.get("playing") }));
  slider.addEventListener("input", () => {
    change(model, { epoch: shown(model).run.saved[slider.value], playing: false });
  });
  const update = (now) => {
    const { run, epoch, step, playing } = now;
    element.hidden = run.saved.length < 2;
    path.setAttribute("d", playing ? PAUSE : PLAY);
    word.textContent = playing ? "Pause" : "Play";
    slider.max = run.saved.length - 1;
    slider.value = step;
    const name = epochName(epoch, run.epochs.at(-1));
    slider.setAttribute("aria-valuetext", name);
    label.textContent = name;
    marks.update(now);
  };
  return { element, update };
}

const EVEN = 0.3; // the part of Play's time that all steps share alike
const LONGEST = 4; // times the mean

/**
 * How long Play rests before each step between epochs with maps, as a multiple of the mean: most of the time goes
 * to the steps in which the layer's mean entropy changes most.
 */
export function rests({ run: { saved }, panes, measure }) {
  const changes = saved.slice(1).map((epoch, i) =>
    panes.reduce((sum, { run, layer }) => {
      const [before, after] = [saved[i], epoch].map((one) => layer?.means[measure][run.epochs.indexOf(one)] ?? 0);
      return sum + Math.abs(after - before);
    }, 0),
  );
  const mean = changes.reduce((sum, one) => sum + one, 0) / changes.length;
  return changes.map((one) => Math.min(LONGEST, EVEN + (1 - EVEN) * (mean ? one / mean : 1)));
}

/** While `playing`, step through the epochs to the last one; slowly where little motion is preferred. */
export function play(model) {
  const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 250; // milliseconds, on average
  let timer;
  const advance = () => {
    const { run, step } = shown(model);
    const last = run.saved.length - 1;
    const next = Math.min(step + 1, last);
    change(model, { epoch: run.saved[next], playing: next < last });
    if (next < last) rest();
  };
  const rest = () => {
    const now = shown(model);
    timer = setTimeout(advance, pause * (rests(now)[now.step] ?? 1));
  };
  const update = () => {
    clearTimeout(timer);
    if (!model.get("playing") || !model.get("data").runs.length) return;
    const { run, epoch } = shown(model);
    if (epoch === run.saved.at(-1)) change(model, { epoch: run.saved[0] });
    rest();
  };
  model.on("change:playing", update);
  update();
  return () => {
    clearTimeout(timer);
    model.off("change:playing", update);
  };
}

/**
 * Where the last epoch is shown and later ones come, show the last of those. The model is not asked to save it:
 * Python goes on by itself, and cannot listen while it trains.
 */
export function follow(model) {
  let before = model.get("data");
  const update = () => {
    const [data, index] = [model.get("data"), model.get("run")];
    const last = ({ runs }) => runs[index]?.saved.at(-1);
    if (!before.runs.length || last(before) === model.get("epoch")) model.set("epoch", last(data));
    before = data;
  };
  model.on("change:data", update);
  return () => model.off("change:data", update);
}
