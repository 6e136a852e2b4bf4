/** Controls: the choice of networks, image, layer, measure and epoch. Each is a part, {element, update(now)}. */

import { change, mapOf, shown } from "./data.js";
import { epochName, html, svg } from "./dom.js";
import { paintImage, paintMap } from "./paint.js";

/** A labelled list to choose from; `options` are [value, text]. */
function selection(title, options, choose) {
  const select = html("select", {}, ...options.map(([value, text]) => html("option", { value }, text)));
  select.addEventListener("change", () => choose(select.value));
  const element = html("label", { class: "run" }, html("span", { class: "legend" }, title), select);
  return { element, select };
}

/** The network, and the one to show beside it. */
export function runChoice({ model, data }) {
  const options = data.runs.map(({ label }, index) => [index, label]);
  const network = selection("Network", options, (value) => {
    const [run, before, beside] = [Number(value), model.get("run"), model.get("beside")];
    change(model, { run, beside: beside === run ? before : beside }); // the two change places
  });
  const beside = selection("Beside", [["", "none"], ...options], (value) => {
    change(model, { beside: value === "" ? null : Number(value) });
  });
  beside.element.hidden = data.runs.length < 2;
  const setting = html("div", { class: "muted" }, data.setting);
  const element = html("div", { class: "runs" }, network.element, beside.element, setting);
  const update = ({ panes: [first, second] }) => {
    network.select.value = first.index;
    beside.select.value = second ? second.index : "";
    [...beside.select.options].slice(1).forEach((option, index) => {
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
      const scale = layer === now.layer ? now.scale : layer.scales[now.measure];
      paintMap(canvas, mapOf(decoded, now, now, layer), layer, scale, colours);
    },
  });
}

/** The measure: entropy as it is, or of the vectors at unit variance. */
export function measureChoice({ model, data }) {
  const radios = Object.entries(data.measures).map(([measure, title]) => {
    const radio = html("input", { type: "radio", name: "Measure" });
    radio.addEventListener("change", () => change(model, { measure }));
    return { measure, radio, label: html("label", {}, radio, html("span", {}, title)) };
  });
  const list = html("div", { class: "options" }, ...radios.map(({ label }) => label));
  const element = html("fieldset", { class: "measure" }, html("legend", { class: "legend" }, "Measure"), list);
  const update = (now) => radios.forEach(({ measure, radio }) => (radio.checked = measure === now.measure));
  return { element, update };
}

const PLAY = "M4 2.5v11l9-5.5z";
const PAUSE = "M4 2.5h3v11h-3zM9 2.5h3v11h-3z";

/** The epoch: a slider over those with maps, and a button that plays them; hidden where there is one alone. */
export function epochChoice({ model }) {
  const path = svg("path");
  const icon = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
  const word = html("span");
  const button = html("button", { type: "button" }, icon, word);
  const slider = html("input", { type: "range", min: 0, step: 1, "aria-label": "Epoch" });
  const label = html("span", { "aria-hidden": "true" });
  const element = html("div", { class: "epoch" }, button, slider, label);
  button.addEventListener("click", () => change(model, { playing: !model.get("playing") }));
  slider.addEventListener("input", () => {
    change(model, { epoch: shown(model).run.saved[slider.value], playing: false });
  });
  const update = ({ run, epoch, step, playing }) => {
    element.hidden = run.saved.length < 2;
    path.setAttribute("d", playing ? PAUSE : PLAY);
    word.textContent = playing ? "Pause" : "Play";
    slider.max = run.saved.length - 1;
    slider.value = step;
    const name = epochName(epoch, run.epochs.at(-1));
    slider.setAttribute("aria-valuetext", name);
    label.textContent = name;
  };
  return { element, update };
}

/** While `playing`, step through the epochs to the last one; slowly where little motion is preferred. */
export function play(model) {
  const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 250; // milliseconds
  let timer;
  const advance = () => {
    const { run, step } = shown(model);
    const last = run.saved.length - 1;
    const next = Math.min(step + 1, last);
    change(model, { epoch: run.saved[next], playing: next < last });
  };
  const update = () => {
    clearInterval(timer);
    if (!model.get("playing") || !model.get("data").runs.length) return;
    const { run, epoch } = shown(model);
    if (epoch === run.saved.at(-1)) change(model, { epoch: run.saved[0] });
    timer = setInterval(advance, pause);
  };
  model.on("change:playing", update);
  update();
  return () => {
    clearInterval(timer);
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
