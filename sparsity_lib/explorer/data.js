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

/** All bytes of the data: a Map from each layer and each set of images (objects of `data`) to Uint8Array. */
export async function decode(data) {
  const layers = data.runs.flatMap((run) =>
    run.layers.map(async (layer) => {
      const perEpoch = data.images[run.images].classes.length * layer.height * layer.width;
      return [layer, summed(await unpacked(layer.maps), perEpoch)];
    }),
  );
  const images = data.images.map(async (set) => [set, await unpacked(set.pixels)]);
  return new Map(await Promise.all([...layers, ...images]));
}

/**
 * What the model asks for, as far as it exists: another run may lack the layer or the epoch, and a model's
 * values arrive one by one. `step` is the epoch's place among those with maps, `at` among all.
 */
export function shown(model) {
  const data = model.get("data");
  const run = data.runs[model.get("run")];
  const layer = run.layers.find(({ name }) => name === model.get("layer")) ?? run.layers[0];
  const images = data.images[run.images];
  const image = Math.min(model.get("image"), images.classes.length - 1);
  const distance = (epoch) => Math.abs(epoch - model.get("epoch"));
  const epoch = run.saved.reduce((best, other) => (distance(other) < distance(best) ? other : best));
  const [step, at] = [run.saved.indexOf(epoch), run.epochs.indexOf(epoch)];
  return { run, layer, images, image, epoch, step, at, playing: model.get("playing") };
}

/** Ask the model for something, and leave nothing in it that does not exist. */
export function change(model, wish) {
  const set = (values) => Object.entries(values).forEach(([name, value]) => model.set(name, value));
  set(wish);
  const { layer, image, epoch } = shown(model);
  set({ layer: layer.name, image, epoch });
  model.save_changes();
}

/** The map of a layer for the image and epoch shown, bytes (y, x): a view, not a copy. */
export function mapOf(decoded, { images, image, step }, layer) {
  const size = layer.height * layer.width;
  const start = (step * images.classes.length + image) * size;
  return decoded.get(layer).subarray(start, start + size);
}

/** Byte -> nats: 0 to 255 stand for 0 to ln D. */
export function nats(byte, layer) {
  return (byte / 255) * Math.log(layer.channels);
}
