/** From the page's data to bytes, and from the model's wishes to what can be shown. */

/** Base64 -> Uint8Array; a plain loop, for megabytes come through it. */
export function bytesOf(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** Base64 of gzipped bytes -> Uint8Array. */
export async function unpacked(text) {
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
 * images to Uint8Array, each of a layer's `activations` to {levels: Int8Array (epoch, image, y, x, channel),
 * largest: Uint16Array (epoch, image, y, x)}.
 */
export async function decode(data) {
  const found = data.images.map(async (set) => [set, await unpacked(set.pixels)]);
  for (const run of data.runs) {
    for (const { height, width, maps, activations } of run.layers) {
      const perEpoch = data.images[run.images].captions.length * height * width;
      for (const map of Object.values(maps)) {
        found.push(unpacked(map.bytes).then((bytes) => [map, summed(bytes, perEpoch)]));
      }
      if (activations) {
        const parts = Promise.all([activations.levels, activations.largest].map(unpacked));
        found.push(
          parts.then(([levels, largest]) => [
            activations,
            { levels: new Int8Array(levels.buffer), largest: new Uint16Array(largest.buffer) },
          ]),
        );
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
 * values arrive one by one. `panes` are the network, and the one compared with it, whose `layer` may be undefined;
 * `scale` is the two ends of their maps' colours, in nats: 0 and ln D, or the layer's own if they are stretched.
 */
export function shown(model) {
  const data = model.get("data");
  const [index, compare, stretched] = ["run", "compare", "stretched"].map((name) => model.get(name));
  const { layers } = data.runs[index];
  const layer = layers.find(({ name }) => name === model.get("layer")) ?? layers[0];
  const first = pane(data, index, model.get("epoch"), layer.name);
  const panes = [first];
  // Maps of different images cannot be compared.
  if (compare !== null && data.runs[compare].images === data.runs[index].images) {
    panes.push(pane(data, compare, first.epoch, layer.name));
  }
  const image = Math.min(model.get("image"), first.images.captions.length - 1);
  const measure = data.measures[model.get("measure")] ? model.get("measure") : Object.keys(data.measures)[0];
  const scale = together(panes.map((one) => scaleOf(one.layer ?? layer, measure, stretched)));
  return { ...first, layer, panes, image, measure, stretched, scale, playing: model.get("playing") };
}

/** The ends of a layer's colours in nats: 0 and ln D, or closer to its values. */
export function scaleOf(layer, measure, stretched) {
  return stretched ? layer.scales[measure] : [0, Math.log(layer.channels) || 0.01];
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
  set({ compare: panes[1]?.index ?? null, layer: layer.name, image, epoch, measure });
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

/**
 * A pane's activations at a position {y, x} of a layer's map: {vectors, at, epoch}, one vector for each epoch of
 * which they are kept, and the place of the one nearest to the epoch shown; null where there are none.
 */
export function vectorsOf(decoded, { run, layer, epoch }, { image }, { y, x }) {
  if (!layer.activations || image >= layer.activations.images) return null;
  const { activations, channels, height, width } = layer;
  const { levels, largest } = decoded.get(activations);
  const vectors = run.detailed.map((_, step) => {
    const place = ((step * activations.images + image) * height + y) * width + x;
    const unit = ((largest[place] / 65535) * activations.top) / activations.steps;
    return Array.from(levels.subarray(place * channels, (place + 1) * channels), (level) => level * unit);
  });
  const distances = run.detailed.map((one) => Math.abs(one - epoch));
  const at = distances.indexOf(Math.min(...distances));
  return { vectors, at, epoch: run.detailed[at] };
}

/** Mean and SD over the channels. */
export function moments(vector) {
  const mean = vector.reduce((sum, value) => sum + value, 0) / vector.length;
  const variance = vector.reduce((sum, value) => sum + (value - mean) ** 2, 0) / vector.length;
  return { mean, sd: Math.sqrt(variance) };
}

/** The vector at mean 0 and variance 1; 0 where it is constant. */
export function standardised(vector) {
  const { mean, sd } = moments(vector);
  return vector.map((value) => (sd ? (value - mean) / sd : 0));
}
