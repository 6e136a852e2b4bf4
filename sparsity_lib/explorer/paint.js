/** Bytes on canvases, one canvas pixel per position; the style sheet enlarges them without smoothing. */

import { bytesOf } from "./data.js";

/** Resize the canvas and let `fill` write its pixels: red, green, blue, opacity. */
function put(canvas, width, height, fill) {
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(width, height);
  fill(picture.data);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** The data's colours, 256 times red, green and blue, as one word per pixel. */
export function colourTable(data) {
  const bytes = new Uint8Array(4 * 256).fill(255);
  const table = bytesOf(data.colours);
  for (let i = 0; i < 256; i++) bytes.set(table.subarray(3 * i, 3 * i + 3), 4 * i);
  return new Uint32Array(bytes.buffer);
}

/** How far up the colour scale a value lies, from 0 to 1. */
export function shareOf(value, [low, high]) {
  return Math.min(1, Math.max(0, (value - low) / (high - low)));
}

/** An entropy map, `{bytes, nats}`, of a layer's size, in colours between the scale's two ends. */
export function paintMap(canvas, { bytes, nats }, { width, height }, scale, colours) {
  const table = colours.map((_, byte) => colours[Math.floor(255 * shareOf(nats(byte), scale) + 0.5)]);
  put(canvas, width, height, (pixels) => {
    const words = new Uint32Array(pixels.buffer);
    words.forEach((_, i) => (words[i] = table[bytes[i]]));
  });
}

const BAR = 128; // pixels

/** The entropy of a layer's one position as a bar, as long as the value is far up the scale. */
export function paintBar(canvas, { bytes, nats }, _, scale, colours) {
  const share = shareOf(nats(bytes[0]), scale);
  const colour = colours[Math.floor(255 * share + 0.5)];
  put(canvas, BAR, 1, (pixels) => new Uint32Array(pixels.buffer).fill(colour, 0, Math.max(1, Math.round(BAR * share))));
}

/** An input image of one channel (grey) or three. */
export function paintImage(canvas, bytes, image, { height, width, channels }) {
  const start = image * height * width * channels;
  put(canvas, width, height, (pixels) => {
    for (let i = 0; i < height * width; i++) {
      for (let colour = 0; colour < 3; colour++) {
        pixels[4 * i + colour] = bytes[start + i * channels + (channels < 3 ? 0 : colour)];
      }
      pixels[4 * i + 3] = 255;
    }
  });
}

/** All colours, from left to right. */
export function paintScale(canvas, colours) {
  put(canvas, 256, 1, (pixels) => new Uint32Array(pixels.buffer).set(colours));
}
