/** From the page's data to bytes, and from the model's wishes to what can be shown. */

/** Base64 -> Uint8Array; a plain loop, for megabytes come through it. */
export function bytesOf(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** Base64 of gzipped bytes -> Uint8Array. */
async function unpacked(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Differences from epoch to epoch -> bytes (epoch, image, y, x); sums wrap around as the differences did. */
function summed(bytes, perEpoch) {
  for (let i = perEpoch; i < bytes.length; i++) bytes[i] += bytes[i - perEpoch];
  return bytes;
}

/**
 * All bytes of the data, in a Map whose keys are objects of `data`: each of a layer's `maps` and each set of
 * images to Uint8Array, each of a layer's `correlation` to Uint16Array (epoch, bin).
 */
export async function decode(data) {
  const found = data.images.map(async (set) => [set, await unpacked(set.pixels)]);
  for (const run of data.runs) {
    for (const { height, width, maps, correlation } of run.layers) {
      const perEpoch = data.images[run.images].captions.length * height * width;
      for (const map of Object.values(maps)) {
        found.push(unpacked(map.bytes).then((bytes) => [map, summed(bytes, perEpoch)]));
      }
      if (correlation) {
        found.push(unpacked(correlation.shares).then(({ buffer }) => [correlation, new Uint16Array(buffer)]));
      }
    }
  }
  return new Map(await Promise.all(found));
}

/** One network's part of what is shown; `step` is the epoch's place among those with maps, `at` among all. */
function pane(data, index, wished, name) {
  const run = data.runs[index];
  const distance = (epoch) => Math.abs(epoch - wished);
  const epoch = run.saved.reduce((best, other) => (distance(other) < distance(best) ? other : best));
  const layer = run.layers.find((one) => one.name === name);
  const [step, at] = [run.saved.indexOf(epoch), run.epochs.indexOf(epoch)];
  return { index, run, layer, images: data.images[run.images], epoch, step, at };
}

/**
 * What the model asks for, as far as it exists: another run may lack the layer or the epoch, and a model's
 * values arrive one by one. `panes` are the network, and the one beside it, whose `layer` may be undefined;
 * `scale` is the two ends of their maps' colours, in nats.
 */
export function shown(model) {
  const data = model.get("data");
  const [index, beside] = [model.get("run"), model.get("beside")];
  const { layers } = data.runs[index];
  const layer = layers.find(({ name }) => name === model.get("layer")) ?? layers[0];
  const first = pane(data, index, model.get("epoch"), layer.name);
  const panes = [first];
  // Maps of different images say nothing side by side.
  if (beside !== null && data.runs[beside].images === data.runs[index].images) {
    panes.push(pane(data, beside, first.epoch, layer.name));
  }
  const image = Math.min(model.get("image"), first.images.captions.length - 1);
  const measure = data.measures[model.get("measure")] ? model.get("measure") : Object.keys(data.measures)[0];
  const scale = together(panes.map((one) => one.layer?.scales[measure] ?? layer.scales[measure]));
  return { ...first, layer, panes, image, measure, scale, playing: model.get("playing") };
}

/** One scale for several: layers of the same name may have other numbers of channels. */
function together(scales) {
  return [Math.min(...scales.map(([low]) => low)), Math.max(...scales.map(([, high]) => high))];
}

/** Ask the model for something, and leave nothing in it that does not exist. */
export function change(model, wish) {
  const set = (values) => Object.entries(values).forEach(([name, value]) => model.set(name, value));
  set(wish);
  const { panes, layer, image, epoch, measure } = shown(model);
  set({ beside: panes[1]?.index ?? null, layer: layer.name, image, epoch, measure });
  model.save_changes();
}

/** A pane's map of its layer, or of another: bytes (y, x), a view, and `nats(byte)`. */
export function mapOf(decoded, { images, step }, { image, measure }, layer) {
  const size = layer.height * layer.width;
  const start = (step * images.captions.length + image) * size;
  const map = layer.maps[measure];
  const nats = (byte) => map.low + map.step * byte;
  return { bytes: decoded.get(map).subarray(start, start + size), nats };
}

/** The mean of some bytes, in their unit. */
export function meanOf(bytes) {
  return bytes.reduce((sum, byte) => sum + byte, 0) / bytes.length;
}
