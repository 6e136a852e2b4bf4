/** The input image beside the layer's entropy maps, with the colour scale and a reading of one position. */

import { mapOf, meanOf } from "./data.js";
import { epochName, html, KINDS, swatch } from "./dom.js";
import { paintImage, paintMap, paintScale, shareOf } from "./paint.js";

/** A canvas with room for marks on it. */
function framed(attributes, ...kinds) {
  const canvas = html("canvas", attributes);
  const marks = kinds.map((kind) => html("div", { class: `mark ${kind}` }));
  return { canvas, marks, element: html("div", { class: "frame" }, canvas, ...marks) };
}

/** A figure whose caption is a name and, smaller, a detail. */
function captioned(kind, content, ...before) {
  const name = html("strong");
  const detail = html("span", { class: "muted" });
  const caption = html("figcaption", {}, html("span", {}, ...before, name), detail);
  const element = html("figure", { class: kind }, caption, content);
  const say = (...texts) => [name, detail].forEach((part, i) => (part.textContent = texts[i]));
  return { element, say };
}

/** Put the mark around rows and columns, [first, last] in shares of what it lies on; null hides it. */
function outline(mark, spans) {
  mark.hidden = !spans;
  if (!spans) return;
  const [[top, bottom], [left, right]] = spans;
  for (const [name, value] of Object.entries({ left, top, width: right - left, height: bottom - top })) {
    mark.style[name] = `${100 * value}%`;
  }
}

/** The layer's position {y, x} at a spot, which is in shares of the map: maps of two networks may differ. */
function positionAt(spot, { height, width }) {
  return { y: Math.floor(spot.y * height), x: Math.floor(spot.x * width) };
}

/** The middle of the nearest position {y, x} that there is, as a spot. */
function spotOf({ y, x }, { height, width }) {
  const middle = (place, size) => (Math.min(size - 1, Math.max(0, Math.floor(place))) + 0.5) / size;
  return { y: middle(y, height), x: middle(x, width) };
}

/** The position itself, as `outline` takes it. */
function spansOf({ y, x }, { height, width }) {
  return [
    [y / height, (y + 1) / height],
    [x / width, (x + 1) / width],
  ];
}

/** What the position sees of the image and of its layer's input, as `outline` takes it. */
function seenAt({ y, x }, { image, input }) {
  return [image, input].map(([rows, columns]) => [rows[y], columns[x]]);
}

const MEANING = {
  entropy: "Low is sparse: 0 would be one channel alone, ln D all D channels alike.",
  scale_free_entropy: "Of the same vectors at unit variance: what is left when scale is taken away.",
};

/** The colour scale, labelled in nats, with a pointer to each pane's value on it. */
function scaleBar(colours) {
  const bar = html("canvas", { "aria-hidden": "true" });
  const pointers = KINDS.map((kind) => html("div", { class: `pointer ${kind}` }));
  const labels = [html("span"), html("span"), html("span")];
  const meaning = html("div", { class: "muted" });
  const element = html("div", { class: "scale" }, html("div", { class: "bar" }, bar, ...pointers));
  element.append(html("div", { class: "labels" }, ...labels), meaning);
  paintScale(bar, colours);
  const update = ({ scale: [low, high], measure, layer: { channels } }, values) => {
    const top = measure !== "entropy" ? "≥ " : high === Math.log(channels) ? `ln ${channels} = ` : "";
    const texts = [`≤ ${low.toFixed(2)}`, ((low + high) / 2).toFixed(2), `${top}${high.toFixed(2)} nats`];
    labels.forEach((label, i) => (label.textContent = texts[i]));
    meaning.textContent = MEANING[measure];
    pointers.forEach((pointer, i) => {
      pointer.hidden = values[i] === undefined;
      if (!pointer.hidden) pointer.style.left = `${100 * shareOf(values[i], [low, high])}%`;
    });
  };
  return { element, update };
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * Move the spot over a map by pointer, touch and arrow keys: `spotNow()` is where it is, `layerNow()` says the
 * map's size, `move(spot)` or `move(null)` changes it. A click leaves it where it is.
 */
function followed(canvas, { spotNow, layerNow, move }) {
  const go = (y, x) => move(spotOf({ y, x }, layerNow()));
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
    const { y, x } = positionAt(spotNow(), layerNow());
    const [down, right] = MOVES[event.key];
    go(y + down, x + right);
  });
}

/** What is under the spot, or the map's mean, in nats and as perplexity; a line per pane. */
function readingPart() {
  const where = html("div", { class: "muted" });
  const lines = KINDS.map((kind) => {
    const entropy = html("span", { class: "value" });
    const perplexity = html("span");
    const element = html("div", { class: `reading ${kind}` }, swatch(kind), entropy, perplexity);
    return { element, entropy, perplexity };
  });
  const element = html("output", {}, where, ...lines.map((line) => line.element));
  const update = (spot, { layer, panes, playing }, values) => {
    const { y, x } = spot ? positionAt(spot, layer) : {};
    const place = `Row ${y + 1} of ${layer.height}, column ${x + 1} of ${layer.width}`;
    where.textContent = spot ? place : "Mean over the map";
    element.setAttribute("aria-live", playing ? "off" : "polite");
    lines.forEach((line, i) => {
      line.element.hidden = values[i] === undefined;
      if (line.element.hidden) return;
      const perplexity = Math.exp(values[i]).toFixed(1);
      line.entropy.textContent = `${values[i].toFixed(2)} nats`;
      line.perplexity.textContent = `perplexity ${perplexity} of ${panes[i].layer.channels} channels`;
    });
  };
  return { element, update };
}

/** One network's map, or the word that it has none. */
function mapPane(kind, { data, decoded, colours }, spotNow, move) {
  const map = framed({ role: "application", tabindex: 0, "aria-roledescription": "entropy map" }, "spot");
  const lacking = html("div", { class: "lacking muted" });
  const figure = captioned(`map ${kind}`, html("div", {}, map.element, lacking), swatch(kind));
  let layer;
  let values;
  followed(map.canvas, { spotNow, layerNow: () => layer, move });
  const update = (pane, now) => {
    figure.element.hidden = !pane;
    layer = pane?.layer;
    if (!pane) return;
    const { run, epoch } = pane;
    figure.say(run.label, run.saved.length > 1 ? epochName(epoch, run.epochs.at(-1)) : "");
    map.element.hidden = !layer;
    lacking.textContent = layer ? "" : `This network has no layer ${now.layer.name}.`;
    if (!layer) return;
    values = mapOf(decoded, pane, now, layer);
    paintMap(map.canvas, values, layer, now.scale, colours);
    const name = `${data.measures[now.measure]} of ${layer.name}, ${run.label}; arrow keys move the position`;
    map.canvas.setAttribute("aria-label", name);
  };
  /** Mark the spot; the value there in nats, or the map's mean, or undefined without a map. */
  const read = (spot) => {
    if (!layer) return undefined;
    const position = spot && positionAt(spot, layer);
    outline(map.marks[0], position && spansOf(position, layer));
    const { bytes, nats } = values;
    return nats(position ? bytes[position.y * layer.width + position.x] : meanOf(bytes));
  };
  return { element: figure.element, update, read };
}

/** What the two outlines on the image are. */
function outlinesKey() {
  const key = (kind, text) => html("span", {}, html("span", { class: `key ${kind}` }), text);
  const texts = [key("proximate", "seen of the layer's input"), key("field", "seen of the image")];
  return html("div", { class: "keys muted" }, ...texts);
}

/** Image, maps, scale and reading: a part, {element, update(now)}. */
export function pictures(tools) {
  const { decoded, colours } = tools;
  const input = framed({ role: "img" }, "field", "proximate");
  const key = outlinesKey();
  const picture = captioned("input", html("div", {}, input.element, key));
  const scale = scaleBar(colours);
  const reading = readingPart();
  let spot = null;
  let now;
  let painted = {};
  const read = () => {
    const { layer } = now;
    const values = panes.map((pane) => pane.read(spot));
    const seen = spot && layer.seen ? seenAt(positionAt(spot, layer), layer.seen) : [null, null];
    input.marks.forEach((mark, i) => outline(mark, seen[i]));
    scale.update(now, values);
    reading.update(spot, now, values);
  };
  const move = (to) => {
    spot = to;
    read();
  };
  const panes = KINDS.map((kind) => mapPane(kind, tools, () => spot, move));
  const beside = html("div", { class: "beside" }, reading.element, scale.element);
  const maps = panes.map((pane) => pane.element);
  const element = html("div", { class: "pictures" }, picture.element, ...maps, beside);
  const update = (next) => {
    now = next;
    const { layer, images, image } = now;
    if (painted.images !== images || painted.image !== image) {
      paintImage(input.canvas, decoded.get(images), image, images);
      painted = { images, image };
    }
    const caption = images.captions[image];
    picture.say(caption[0].toUpperCase() + caption.slice(1), `image ${image + 1} of ${images.captions.length}`);
    input.canvas.setAttribute("aria-label", `Image ${image + 1}, ${caption}`);
    panes.forEach((pane, i) => pane.update(now.panes[i], now));
    element.classList.toggle("compared", now.panes.length > 1);
    key.hidden = !layer.seen;
    read();
  };
  return { element, update };
}
