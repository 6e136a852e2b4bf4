/** The input image beside the layer's entropy map, with the colour scale and a reading of one position. */

import { mapOf, nats } from "./data.js";
import { html } from "./dom.js";
import { paintImage, paintMap, paintScale } from "./paint.js";

/** A canvas with room for a mark on it. */
function framed(attributes) {
  const canvas = html("canvas", attributes);
  const mark = html("div", { class: "mark" });
  return { canvas, mark, element: html("div", { class: "frame" }, canvas, mark) };
}

/** A figure whose caption is a name and, smaller, a detail. */
function captioned(kind, content) {
  const name = html("strong");
  const detail = html("span", { class: "muted" });
  const element = html("figure", { class: kind }, html("figcaption", {}, name, detail), content);
  const say = (...texts) => [name, detail].forEach((part, i) => (part.textContent = texts[i]));
  return { element, say };
}

/** Put the mark around a position of the map, or the part of the image that lies there; null hides it. */
function outline(mark, spot, { height, width }) {
  mark.hidden = spot === null;
  if (spot === null) return;
  const share = { left: spot.x / width, top: spot.y / height, width: 1 / width, height: 1 / height };
  for (const [name, value] of Object.entries(share)) mark.style[name] = `${100 * value}%`;
}

const MEANING = "Low is sparse: 0 would be one channel alone, ln D all D channels alike.";

/** The layer's colour scale, labelled in nats, with a pointer to a byte on it. */
function scaleBar(colours) {
  const bar = html("canvas", { "aria-hidden": "true" });
  const pointer = html("div", { class: "pointer" });
  const labels = [html("span"), html("span"), html("span")];
  const element = html("div", { class: "scale" }, html("div", { class: "bar" }, bar, pointer));
  element.append(html("div", { class: "labels" }, ...labels), html("div", { class: "muted" }, MEANING));
  paintScale(bar, colours);
  const update = (layer, byte) => {
    const [low, high] = [nats(layer.low, layer), nats(255, layer)];
    labels[0].textContent = `≤ ${low.toFixed(2)}`;
    labels[1].textContent = ((low + high) / 2).toFixed(2);
    labels[2].textContent = `ln ${layer.channels} = ${high.toFixed(2)} nats`;
    pointer.style.left = `${(100 * Math.max(0, byte - layer.low)) / (255 - layer.low)}%`;
  };
  return { element, update };
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * Move a position over the map by pointer, touch and arrow keys: `spotNow()` is where it is, `layerNow()`
 * the map's size, `move({y, x})` or `move(null)` changes it. A click leaves it where it is.
 */
function followed(canvas, { spotNow, layerNow, move }) {
  const within = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));
  const go = (y, x) => move({ y: within(y, layerNow().height), x: within(x, layerNow().width) });
  const pointed = ({ clientX, clientY }) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    go(((clientY - top) / height) * layerNow().height, ((clientX - left) / width) * layerNow().width);
  };
  canvas.addEventListener("pointermove", pointed);
  canvas.addEventListener("pointerdown", pointed);
  canvas.addEventListener("pointerleave", () => canvas.matches(":focus") || move(null));
  canvas.addEventListener("blur", () => move(null));
  canvas.addEventListener("focus", () => spotNow() ?? go(0, 0));
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES) || !spotNow()) return;
    event.preventDefault();
    const [down, right] = MOVES[event.key];
    go(spotNow().y + down, spotNow().x + right);
  });
}

/** What is under the spot, or the map's mean, in nats and as perplexity. */
function readingPart() {
  const where = html("div", { class: "muted" });
  const entropy = html("div", { class: "value" });
  const perplexity = html("div");
  const element = html("output", {}, where, entropy, perplexity);
  const update = (spot, value, { height, width, channels }) => {
    where.textContent = spot
      ? `Row ${spot.y + 1} of ${height}, column ${spot.x + 1} of ${width}`
      : "Mean over the map";
    entropy.textContent = `${value.toFixed(2)} nats`;
    perplexity.textContent = `perplexity ${Math.exp(value).toFixed(1)} of ${channels} channels`;
  };
  return { element, update };
}

/** Image, map, scale and reading: a part, {element, update(now)}. */
export function pictures({ decoded, colours }) {
  const input = framed({ role: "img" });
  const map = framed({ role: "application", tabindex: 0, "aria-roledescription": "entropy map" });
  const [picture, heat] = [captioned("input", input.element), captioned("map", map.element)];
  const scale = scaleBar(colours);
  const reading = readingPart();
  let spot = null;
  let now;
  const read = () => {
    const { layer } = now;
    const bytes = mapOf(decoded, now, layer);
    if (spot && (spot.y >= layer.height || spot.x >= layer.width)) spot = null;
    const mean = bytes.reduce((sum, byte) => sum + byte, 0) / bytes.length;
    const byte = spot ? bytes[spot.y * layer.width + spot.x] : mean;
    outline(input.mark, spot, layer);
    outline(map.mark, spot, layer);
    scale.update(layer, byte);
    reading.update(spot, nats(byte, layer), layer);
  };
  const move = (to) => {
    spot = to;
    read();
  };
  followed(map.canvas, { spotNow: () => spot, layerNow: () => now.layer, move });
  const update = (next) => {
    now = next;
    const { layer, images, image, playing } = now;
    paintImage(input.canvas, decoded.get(images), image, images);
    paintMap(map.canvas, mapOf(decoded, now, layer), layer, colours);
    picture.say(`Class ${images.classes[image]}`, `image ${image + 1} of ${images.classes.length}`);
    heat.say(`Entropy of ${layer.name}`, `${layer.height} × ${layer.width} positions`);
    input.canvas.setAttribute("aria-label", `Image ${image + 1}, class ${images.classes[image]}`);
    map.canvas.setAttribute("aria-label", `Entropy of ${layer.name}; arrow keys move the position`);
    reading.element.setAttribute("aria-live", playing ? "off" : "polite");
    read();
  };
  const beside = html("div", { class: "beside" }, reading.element, scale.element);
  return { element: html("div", { class: "pictures" }, picture.element, heat.element, beside), update };
}
