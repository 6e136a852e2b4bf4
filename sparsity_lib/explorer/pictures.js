/** The input image and the layer's entropy maps, with the colour scale and a reading of one position. */

import { mapOf, meanOf } from "./data.js";
import { html, KINDS, signed, swatch } from "./dom.js";
import { paintBar, paintImage, paintMap, paintScale, shareOf } from "./paint.js";

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

/** Whether the layer has one position, which is drawn as a bar. */
function isSingle({ height, width }) {
  return height * width === 1;
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

/** A number of channels, in words. */
function channelsOf(nats) {
  return Math.exp(nats).toFixed(nats < 2 ? 1 : 0);
}

/** What the two ends of the colours mean; `error` is how far off a value may be, in nats. */
function meaningOf({ scale: [low, high], measure, stretched }, error) {
  const of = measure === "entropy" ? "" : "Vectors at unit variance, where scale is taken away. ";
  const dark = stretched ? `at most ${low.toFixed(2)} nats, ${channelsOf(low)} channels` : "0 nats, one channel alone";
  const bright = stretched ? `at least ${high.toFixed(2)} nats, ${channelsOf(high)} channels` : "ln D, all D channels alike";
  return `${of}Dark is ${dark}; bright is ${bright}.${error < 0.005 ? "" : ` Values are to ±${error.toFixed(2)} nats.`}`;
}

/** The colour scale, labelled in nats, with a pointer to each pane's value on it. */
function scaleBar(colours) {
  const bar = html("canvas", { "aria-hidden": "true" });
  const pointers = KINDS.map((kind) => html("div", { class: `pointer ${kind}` }));
  const labels = [html("span"), html("span"), html("span")];
  const meaning = html("div", { class: "muted" });
  const element = html("div", { class: "scale" }, html("div", { class: "bar" }, bar, ...pointers));
  element.append(html("div", { class: "labels" }, ...labels), meaning);
  paintScale(bar, colours);
  const update = (now, values) => {
    const { scale: [low, high], measure, layer, panes, stretched } = now;
    const most = Math.max(...panes.map((pane) => (pane.layer ?? layer).channels));
    const top = stretched && measure !== "entropy" ? "≥ " : `ln ${most} = `;
    const [left, middle] = [stretched ? `≤ ${low.toFixed(2)}` : "0", ((low + high) / 2).toFixed(2)];
    labels.forEach((label, i) => say(label, [left, middle, `${top}${high.toFixed(2)} nats`][i]));
    say(meaning, meaningOf(now, measure === "entropy" ? 0 : layer.maps[measure].step / 2));
    pointers.forEach((pointer, i) => {
      pointer.hidden = values[i] === undefined;
      if (!pointer.hidden) pointer.style.left = `${100 * shareOf(values[i], [low, high])}%`;
    });
  };
  return { element, update };
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * Point at positions of a map. The pointer points as long as it is over the map; a click keeps the position, or
 * lets go of the one kept. Arrow keys move the one kept, Escape lets go.
 */
function followed(canvas, layerNow, { spotNow, point, keep }) {
  const at = ({ clientX, clientY }) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const { height: rows, width: columns } = layerNow();
    return spotOf({ y: ((clientY - top) / height) * rows, x: ((clientX - left) / width) * columns }, layerNow());
  };
  canvas.addEventListener("pointermove", (event) => point(at(event)));
  canvas.addEventListener("pointerdown", (event) => keep(at(event)));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own
    if (event.key === "Escape") keep(null);
    if (!(event.key in MOVES)) return;
    event.preventDefault();
    const [down, right] = MOVES[event.key];
    const from = spotNow() && positionAt(spotNow(), layerNow());
    keep(spotOf(from ? { y: from.y + down, x: from.x + right } : { y: 0, x: 0 }, layerNow()), true);
  });
}

/** Give an element a text, if it has another: a text that is set again is read aloud again. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
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
  const update = (spot, kept, layer, { panes, playing }, values) => {
    const { y, x } = spot ? positionAt(spot, layer) : {};
    const place = `Row ${y + 1} of ${layer.height}, column ${x + 1} of ${layer.width}`;
    element.setAttribute("aria-live", playing || (spot && !kept) ? "off" : "polite");
    say(where, spot ? `${place}${kept ? ", kept" : ""}` : isSingle(layer) ? "The one position" : "Mean over the map");
    lines.forEach((line, i) => {
      line.element.hidden = values[i] === undefined;
      if (line.element.hidden) return;
      say(line.entropy, `${values[i].toFixed(2)} nats`);
      say(line.perplexity, `perplexity ${Math.exp(values[i]).toFixed(1)} of ${panes[i].layer.channels} channels`);
    });
  };
  return { element, update };
}

/** One network's map, or the word that it has none. */
function mapPane(kind, { data, decoded, colours }, pointing) {
  const map = framed({ role: "application", tabindex: 0, "aria-roledescription": "entropy map" }, "spot");
  const lacking = html("div", { class: "lacking muted" });
  const figure = captioned(`map ${kind}`, html("div", {}, map.element, lacking), swatch(kind));
  let layer;
  let values;
  followed(map.canvas, () => layer, pointing);
  const update = (pane, now) => {
    figure.element.hidden = !pane;
    layer = pane?.layer;
    if (!pane) return;
    const { run, epoch } = pane;
    figure.say(run.label, run.saved.length > 1 ? `Epoch ${signed(epoch)}` : "");
    map.element.hidden = !layer;
    lacking.textContent = layer ? "" : `This network has no layer ${now.layer.name}.`;
    if (!layer) return;
    values = mapOf(decoded, pane, now, layer);
    map.element.classList.toggle("single", isSingle(layer));
    (isSingle(layer) ? paintBar : paintMap)(map.canvas, values, layer, now.scale, colours);
    const keys = "arrow keys choose a position, Escape lets go";
    map.canvas.setAttribute("aria-label", `${data.measures[now.measure]} of ${layer.name}, ${run.label}; ${keys}`);
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
  const texts = [key("proximate", "receptive field in the layer's input"), key("field", "receptive field in the image")];
  return html("div", { class: "keys muted" }, ...texts);
}

/** Image, maps, scale and reading: a part, {element, update(now)}. */
export function pictures(tools) {
  const { decoded, colours, channels } = tools;
  const input = framed({ role: "img" }, "field", "proximate");
  const key = outlinesKey();
  const picture = captioned("input", html("div", {}, input.element, key));
  const scale = scaleBar(colours);
  const reading = readingPart();
  let pointed = null; // {spot, pane}, the map that a position was chosen on
  let kept = null;
  let now;
  let painted = {};
  const read = () => {
    const { spot, pane } = pointed ?? kept ?? { spot: null, pane: 0 };
    const layer = now.panes[pane]?.layer ?? now.layer;
    const values = panes.map((one) => one.read(spot));
    const seen = spot && layer.seen ? seenAt(positionAt(spot, layer), layer.seen) : [null, null];
    input.marks.forEach((mark, i) => outline(mark, seen[i]));
    scale.update(now, values);
    reading.update(spot, spot !== null && !pointed, layer, now, values);
    channels.update(now, (of) => positionAt(spot ?? { y: 0.5, x: 0.5 }, of));
  };
  const pointing = (pane) => ({
    spotNow: () => (pointed ?? kept)?.spot ?? null,
    point(spot) {
      pointed = spot && { spot, pane };
      read();
    },
    keep(spot, byKey = false) {
      const again = kept && spot && kept.spot.y === spot.y && kept.spot.x === spot.x;
      kept = spot && (byKey || !again) ? { spot, pane } : null;
      pointed = null;
      read();
    },
  });
  const panes = KINDS.map((kind, i) => mapPane(kind, tools, pointing(i)));
  const numbers = html("div", { class: "numbers" }, reading.element, scale.element);
  const maps = panes.map((pane) => pane.element);
  const element = html("div", { class: "pictures" }, picture.element, ...maps, numbers);
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
