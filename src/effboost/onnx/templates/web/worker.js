// Decodes images and runs the graph, apart from the page, which stays responsive.

import { findProblem } from "./headers.js";

const MAX_BYTES = 2 ** 28;
const THUMBNAIL = 144;
// As effboost reads images: upright, and the stored values without a conversion of colours.
const AS_STORED = {
  colorSpaceConversion: "none",
  imageOrientation: "from-image",
  premultiplyAlpha: "none",
};

/** The reason why one image has no result. */
class Refused extends Error {}

let ort = null;
let session = null;
let reasonNames = []; // of the output "reasons"

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(data.start ? await start(data.start) : await classify(data.file));
  } catch (error) {
    const reason = error instanceof Refused ? error.message : `cannot be classified (${error})`;
    self.postMessage({ reason });
  }
};

async function start(model) {
  const [graph, binary] = await Promise.all([fetchBytes(model.graph), fetchBytes(model.binary)]);
  ort = await load(model.script);
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; // more would need headers that plain servers do not send
  session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  await checkPixels();
  reasonNames = model.reasons;
  const names = session.outputNames.filter((name) => !["label", "probabilities"].includes(name));
  return { flags: names.flatMap((name) => (name === "reasons" ? ["familiar", name] : [name])) };
}

async function fetchBytes({ url, integrity }) {
  const response = await fetch(new URL(url, import.meta.url), { integrity });
  if (!response.ok) throw new Refused(`${url} cannot be loaded (status ${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load({ url, integrity, blob }) {
  if (!blob) return import(new URL(url, import.meta.url));
  // Of another origin: import() does not check the hash in a worker, but fetch() does.
  const content = await fetchBytes({ url, integrity });
  const copy = URL.createObjectURL(new Blob([content], { type: "text/javascript" }));
  try {
    return await import(copy);
  } finally {
    URL.revokeObjectURL(copy);
  }
}

/** Check that the browser returns the pixels of an image: some change them against tracking. */
async function checkPixels() {
  const side = 64;
  const header = new DataView(new ArrayBuffer(54));
  header.setUint16(0, 0x424d);
  header.setUint32(2, 54 + 3 * side * side, true);
  header.setUint32(10, 54, true);
  header.setUint32(14, 40, true);
  header.setInt32(18, side, true);
  header.setInt32(22, -side, true); // rows from top to bottom
  header.setUint16(26, 1, true);
  header.setUint16(28, 24, true);
  const expected = new Uint8Array(3 * side * side); // RGB
  for (let i = 0, value = 1; i < expected.length; i += 1) {
    value = (value * 48271) % 2147483647;
    expected[i] = value & 255;
  }
  const stored = expected.map((_, i) => expected[i - (i % 3) + 2 - (i % 3)]); // BGR
  const { pixels } = await decode(new Blob([header, stored]));
  if (pixels.some((value, i) => value !== expected[i])) {
    throw new Refused(
      "This browser changes the pixels that pages read, as a protection against tracking. Allow "
      + "this page to read canvas data, or use another browser.",
    );
  }
}

async function classify(file) {
  if (file.size > MAX_BYTES) {
    const limit = MAX_BYTES.toLocaleString("en");
    throw new Refused(`has ${file.size.toLocaleString("en")} bytes; ${limit} are the limit`);
  }
  const { pixels, width, height, thumbnail } = await decode(file);
  const image = new ort.Tensor("uint8", pixels, [height, width, 3]);
  const outputs = await session.run({ image });
  const probabilities = Array.from(outputs.probabilities.data);
  const sum = probabilities.reduce((a, b) => a + b, 0);
  if (!(Math.abs(sum - 1) <= 1e-3) || probabilities.some((p) => !(p >= -1e-3 && p <= 1.001))) {
    throw new Refused("the model cannot predict it: its outputs are not probabilities");
  }
  const flags = {};
  for (const [name, { data }] of Object.entries(outputs)) {
    if (name === "reasons") {
      const found = reasonNames.filter((_, i) => data[i]);
      Object.assign(flags, { familiar: found.length === 0, reasons: found.join(" ") });
    } else if (name !== "label" && name !== "probabilities") {
      flags[name] = outputs[name].type === "bool" ? Boolean(data[0]) : Number(data[0]);
    }
  }
  return { probabilities, flags, width, height, thumbnail };
}

async function decode(file) {
  const problem = findProblem(new Uint8Array(await file.arrayBuffer()));
  if (problem) throw new Refused(problem);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, AS_STORED);
  } catch {
    throw new Refused("is damaged or truncated (the browser cannot decode it)");
  }
  try {
    const { width, height } = bitmap;
    return { width, height, pixels: readPixels(bitmap), thumbnail: await shrink(bitmap) };
  } finally {
    bitmap.close();
  }
}

function readPixels(bitmap) {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  // Not on a graphics card, where colours may be rounded.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
    if (data[from + 3] !== 255) {
      throw new Refused(
        "has transparent pixels, whose colours browsers do not keep: save it without transparency",
      );
    }
  }
  return pixels;
}

function shrink(bitmap) {
  const scale = Math.min(1, THUMBNAIL / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(scale * bitmap.width));
  const height = Math.max(1, Math.round(scale * bitmap.height));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}
