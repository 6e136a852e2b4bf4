/**
 * The explorer's module: `initialize` gives a model its clock, `render` draws it and follows it.
 *
 * A model is anywidget's, or the small one of a page without a kernel: {get, set, on, off, save_changes} over
 * `data` (see payload.py) and run, layer, image, epoch and playing.
 */

import { epochChoice, imageChoice, layerChoice, play, runChoice } from "./choices.js";
import { curves } from "./curves.js";
import { decode, shown } from "./data.js";
import { followTheme, html } from "./dom.js";
import { colourTable } from "./paint.js";
import { pictures } from "./pictures.js";
import { STYLE } from "./style.js";

const STATE = ["run", "layer", "image", "epoch", "playing"];
const PARTS = [runChoice, imageChoice, layerChoice, pictures, epochChoice, curves];

export function initialize({ model }) {
  return play(model);
}

export async function render({ model, el }) {
  const data = model.get("data");
  const decoded = await decode(data);
  const parts = PARTS.map((part) => part({ model, data, decoded, colours: colourTable(data) }));
  const elements = parts.map(({ element }) => element);
  const host = html("div");
  const root = host.attachShadow({ mode: "open" });
  const group = { class: "explorer", role: "group", "aria-label": "Explorer of entropy maps" };
  root.append(html("style", {}, STYLE), html("div", group, ...elements));

  const draw = () => {
    const now = shown(model);
    parts.forEach(({ update }) => update(now));
  };
  let frame;
  const drawSoon = () => {
    cancelAnimationFrame(frame); // several values may change at once
    frame = requestAnimationFrame(draw);
  };
  STATE.forEach((name) => model.on(`change:${name}`, drawSoon));
  const leaveTheme = followTheme(host);
  draw();
  el.append(host);
  return () => {
    cancelAnimationFrame(frame);
    STATE.forEach((name) => model.off(`change:${name}`, drawSoon));
    leaveTheme();
    host.remove();
  };
}

export default { initialize, render };
