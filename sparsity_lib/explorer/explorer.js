/**
 * The explorer's module: `initialize` gives a model its clock, `render` draws it and follows it.
 *
 * A model is anywidget's, or the small one of a page without a kernel: {get, set, on, off, save_changes} over
 * `data` (see payload.py) and run, compare, layer, image, measure, stretched, epoch and playing. `data` may
 * change: a training that is watched goes on.
 */

import { channelChart } from "./channels.js";
import { epochChoice, follow, imageChoice, layerChoice, measureChoice, play, runChoice } from "./choices.js";
import { curves } from "./curves.js";
import { decode, shown } from "./data.js";
import { followTheme, html } from "./dom.js";
import { colourTable } from "./paint.js";
import { pictures } from "./pictures.js";
import { STYLE } from "./style.js";

const STATE = ["run", "compare", "layer", "image", "measure", "stretched", "epoch", "playing"];
const PARTS = [runChoice, imageChoice, layerChoice, measureChoice, epochChoice, pictures, curves];

function initialize({ model }) {
  const leave = [play(model), follow(model)];
  return () => leave.forEach((one) => one());
}

/** The parts for the data as they are now; `draw` brings them up to date. */
async function assembled(model) {
  const data = model.get("data");
  if (!data.runs.length) {
    const element = html("div", { class: "waiting", role: "status" }, data.waiting);
    return { elements: [element], draw: () => {} };
  }
  const decoded = await decode(data);
  const tools = { model, data, decoded, colours: colourTable(data), channels: channelChart({ decoded }) };
  const parts = PARTS.map((part) => part(tools));
  const draw = () => {
    if (model.get("data") !== data) return; // newer data are being unpacked, for parts of their own
    const now = shown(model);
    parts.forEach(({ update }) => update(now));
  };
  return { elements: parts.map(({ element }) => element), draw };
}

async function render({ model, el }) {
  const host = html("div");
  const root = host.attachShadow({ mode: "open" });
  const frame = html("div", { class: "explorer", role: "group", "aria-label": "Explorer of entropy maps" });
  root.append(html("style", {}, STYLE), frame);
  let draw = () => {};
  let latest;
  const controls = () => [...frame.querySelectorAll("select, input, button, [tabindex]")];
  const named = (control) => control && control.tagName + (control.closest("label")?.title ?? control.ariaLabel);
  const assemble = async () => {
    const data = (latest = model.get("data"));
    const { elements, draw: drawn } = await assembled(model);
    if (data !== latest) return; // newer data came while these were unpacked
    draw = drawn;
    draw();
    const name = named(root.activeElement);
    frame.replaceChildren(...elements);
    if (name) controls().find((control) => named(control) === name)?.focus(); // where a keyboard's user was
  };
  let request;
  const drawSoon = () => {
    cancelAnimationFrame(request); // several values may change at once
    request = requestAnimationFrame(() => draw());
  };
  STATE.forEach((name) => model.on(`change:${name}`, drawSoon));
  model.on("change:data", assemble);
  const leaveTheme = followTheme(host);
  await assemble();
  el.append(host);
  return () => {
    cancelAnimationFrame(request);
    STATE.forEach((name) => model.off(`change:${name}`, drawSoon));
    model.off("change:data", assemble);
    leaveTheme();
    host.remove();
  };
}

export default { initialize, render };
