/** Bytes on canvases, one canvas pixel per position; the style sheet enlarges them without smoothing. */

function put(canvas, width, height, colourOf) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const picture = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = colourOf(i);
    picture.data.set([red, green, blue, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** An entropy map; colours begin at the layer's `low` byte and end at 255, which is ln D. */
export function paintMap(canvas, bytes, layer, colours) {
  const scale = 255 / (255 - layer.low);
  put(canvas, layer.width, layer.height, (i) => {
    const index = 3 * Math.floor(Math.max(0, bytes[i] - layer.low) * scale + 0.5);
    return colours.subarray(index, index + 3);
  });
}

/** An input image, grey or coloured. */
export function paintImage(canvas, decoded, images, image) {
  const { height, width, channels } = images;
  const start = image * height * width * channels;
  const pixels = decoded.get(images);
  put(canvas, width, height, (i) => {
    const pixel = start + i * channels;
    return channels < 3 ? [pixels[pixel], pixels[pixel], pixels[pixel]] : pixels.subarray(pixel, pixel + 3);
  });
}

/** The colour table from left to right. */
export function paintScale(canvas, colours) {
  put(canvas, 256, 1, (i) => colours.subarray(3 * i, 3 * i + 3));
}
