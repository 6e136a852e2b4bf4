/** The input image beside the layer's entropy map, with the colour scale and a reading of one position. */

import { mapOf, nats } from "./data.js";
import { html } from "./dom.js";
import { paintImage, paintMap, paintScale } from "./paint.js";

function fixed(number) {
  return number.toFixed(2);
}

/** "2.91 nats, perplexity 18.4 of 32 channels" */
function measure(entropy, layer) {
  return `${fixed(entropy)} nats, perplexity ${Math.exp(entropy).toFixed(1)} of ${layer.channels} channels`;
}

/** A canvas with room for a mark on it. */
function framed(attributes) {
  const canvas = html("canvas", attributes);
  const mark = html("div", { class: "mark" });
  return { canvas, mark, element: html("div", { class: "frame" }, canvas, mark) };
}

function place(mark, spot, layer) {
  mark.hidden = !spot;
  if (!spot) return;
  mark.style.left = `${(100 * spot.x) / layer.width}%`;
  mark.style.top = `${(100 * spot.y) / layer.height}%`;
  mark.style.width = `${100 / layer.width}%`;
  mark.style.height = `${100 / layer.height}%`;
}

/** The colour scale of a layer, with its ends and middle in nats. */
function scalePart(colours) {
  const bar = html("canvas", { "aria-hidden": "true" });
  const pointer = html("div", { class: "pointer" });
  const ends = [html("span"), html("span"), html("span")];
  paintScale(bar, colours);
  const update = (layer, byte) => {
    const low = nats(layer.low, layer);
    const high = nats(255, layer);
    ends[0].textContent = `≤ ${fixed(low)}`;
    ends[1].textContent = fixed((low + high) / 2);
    ends[2].textContent = `ln ${layer.channels} = ${fixed(high)}`;
    pointer.hidden = byte === undefined;
    pointer.style.left = `${(100 * Math.max(0, byte - layer.low)) / (255 - layer.low)}%`;
  };
  const title = html("div", { class: "muted" }, "Entropy in nats: low is sparse, ln D is dense");
  return { element: html("div", { class: "scale" }, title, html("div", { class: "bar" }, bar, pointer), html("div", { class: "ends" }, ...ends)), update };
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Follow pointer and arrow keys over the map: `move({y, x} or null)`; `spotNow()` and `layerNow()` say where it is. */
function followed(canvas, { spotNow, layerNow, move }) {
  const pointed = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const layer = layerNow();
    const within = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
    move({
      y: within((event.clientY - top) / height, layer.height),
      x: within((event.clientX - left) / width, layer.width),
    });
  };
  canvas.addEventListener("pointermove", pointed);
  canvas.addEventListener("pointerdown", pointed);
  canvas.addEventListener("pointerleave", () => canvas.matches(":focus") || move(null));
  canvas.addEventListener("blur", () => move(null));
  canvas.addEventListener("focus", () => spotNow() || move({ y: 0, x: 0 }));
  canvas.addEventListener("keydown", (event) => {
    const step = MOVES[event.key];
    if (!step) return;
    event.preventDefault();
    const { y, x } = spotNow() ?? { y: 0, x: 0 };
    const { height, width } = layerNow();
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    move({ y: within(y + step[0], height), x: within(x + step[1], width) });
  });
}

/** Image, map, scale and reading. */
export function pictures({ decoded, colours }) {
  const input = framed({ role: "img" });
  const map = framed({ role: "application", tabindex: 0, "aria-roledescription": "entropy map", "aria-describedby": "reading" });
  const captions = [html("figcaption"), html("figcaption")];
  const scale = scalePart(colours);
  const reading = html("output", { id: "reading", class: "reading" });
  let spot = null;
  let now;
  const read = () => {
    const { layer } = now;
    const bytes = mapOf(decoded, now, layer);
    if (spot && (spot.y >= layer.height || spot.x >= layer.width)) spot = null;
    const byte = spot ? bytes[spot.y * layer.width + spot.x] : undefined;
    place(input.mark, spot, layer);
    place(map.mark, spot, layer);
    scale.update(layer, byte);
    const where = spot
      ? `Row ${spot.y + 1} of ${layer.height}, column ${spot.x + 1} of ${layer.width}`
      : "Mean of this map";
    const mean = bytes.reduce((sum, value) => sum + value, 0) / bytes.length;
    reading.textContent = `${where}: ${measure(nats(byte ?? mean, layer), layer)}`;
    reading.setAttribute("aria-live", now.playing ? "off" : "polite");
  };
  followed(map.canvas, { spotNow: () => spot, layerNow: () => now.layer, move: (to) => ((spot = to), read()) });
  const update = (next) => {
    now = next;
    const { layer, images, image } = now;
    const size = `${layer.height} × ${layer.width}`;
    paintImage(input.canvas, decoded, images, image);
    paintMap(map.canvas, mapOf(decoded, now, layer), layer, colours);
    captions[0].textContent = images.names[image];
    captions[1].textContent = `Entropy of ${layer.name}, ${size}`;
    input.canvas.setAttribute("aria-label", images.names[image]);
    map.canvas.setAttribute("aria-label", `Entropy map of ${layer.name}, ${size}; arrow keys read it`);
    read();
  };
  const image = html("figure", { class: "input" }, captions[0], input.element);
  const heat = html("figure", { class: "map" }, captions[1], map.element, scale.element);
  return { element: html("div", { class: "pictures" }, image, heat, reading), update };
}
