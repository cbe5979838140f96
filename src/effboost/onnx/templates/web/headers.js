// What the first bytes of a file say about its image. A file is refused here if browsers would
// decode other pixels than effboost does, or would show a part of a truncated file.

const MAX_PIXELS = 2 ** 25;
const MIN_SIDE = 8;

/** Return the reason why an image is not decoded, or null. */
export function findProblem(bytes) {
  if (bytes.length === 0) return "the file is empty (0 bytes)";
  const read = READERS.find(({ matches }) => matches(bytes))?.read;
  if (!read) return describeOther(bytes);
  let found;
  try {
    found = read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return "is damaged or truncated (it ends within its header)";
  }
  const { width, height, problem } = found;
  const size = `${width} x ${height} pixels`;
  if (width * height > MAX_PIXELS) {
    const limit = MAX_PIXELS.toLocaleString("en");
    return `is ${size}, more than the ${limit} that this page decodes: cut it into cells first`;
  }
  if (problem) return problem;
  if (Math.min(width, height) < MIN_SIDE) {
    return `is ${size}; at least ${MIN_SIDE} x ${MIN_SIDE} are needed`;
  }
  return null;
}

const TRUNCATED = "is damaged or truncated (its end is missing)";
const NO_IMAGE = "is damaged or truncated (it has no image)";

function begins(bytes, text, at = 0) {
  return [...text].every((char, i) => bytes[at + i] === char.charCodeAt(0));
}

const READERS = [
  { matches: (bytes) => begins(bytes, "\x89PNG\r\n\x1a\n"), read: readPng },
  { matches: (bytes) => begins(bytes, "\xff\xd8"), read: readJpeg },
  { matches: (bytes) => begins(bytes, "BM"), read: readBmp },
  { matches: (bytes) => begins(bytes, "GIF8"), read: readGif },
  { matches: (bytes) => begins(bytes, "RIFF") && begins(bytes, "WEBP", 8), read: readWebp },
];

function describeOther(bytes) {
  if (begins(bytes, "II*\0") || begins(bytes, "MM\0*")) {
    return "is a TIFF file, which browsers do not decode: save it as PNG";
  }
  return "is not an image that this page reads (PNG, BMP, JPEG, GIF, WebP), or its header is damaged";
}

function readPng(view) {
  const width = view.getUint32(16);
  const height = view.getUint32(20);
  const depth = view.getUint8(24);
  if (depth === 16) {
    return {
      width,
      height,
      problem: "has 16 bits per channel, of which browsers keep 8: classify it with effboost "
        + "predict, or save it with 8 bits",
    };
  }
  let at = 8;
  while (at + 12 <= view.byteLength) {
    if (view.getUint32(at + 4) === 0x49454e44) return { width, height }; // IEND
    at += 12 + view.getUint32(at);
  }
  return { width, height, problem: TRUNCATED };
}

function readJpeg(view) {
  let at = 2;
  let size = null;
  for (;;) {
    while (view.getUint8(at) !== 0xff || [0, 0xff].includes(view.getUint8(at + 1))) at += 1;
    const marker = view.getUint8(at + 1);
    at += 2;
    if (marker === 0xda) break; // the pixels begin
    if (marker === 0xd9) return { width: 0, height: 0, problem: NO_IMAGE };
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue; // without a length
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      size = {
        height: view.getUint16(at + 3),
        width: view.getUint16(at + 5),
        channels: view.getUint8(at + 7),
      };
    }
    at += view.getUint16(at);
  }
  if (size === null) return { width: 0, height: 0, problem: NO_IMAGE };
  if (size.channels === 4) {
    return { ...size, problem: "has CMYK colours, which browsers convert differently: save it as RGB" };
  }
  for (let i = view.byteLength - 2; i >= at; i -= 1) {
    if (view.getUint8(i) === 0xff && view.getUint8(i + 1) === 0xd9) return size;
  }
  return { ...size, problem: TRUNCATED };
}

function readBmp(view) {
  const pixels = view.getUint32(10, true);
  if (view.getUint32(14, true) === 12) {
    return { width: view.getUint16(18, true), height: view.getUint16(20, true) };
  }
  const width = view.getInt32(18, true);
  const height = Math.abs(view.getInt32(22, true));
  const bits = view.getUint16(28, true);
  const isPlain = [0, 3].includes(view.getUint32(30, true)); // not run-length encoded
  const end = pixels + Math.ceil((bits * width) / 32) * 4 * height;
  return { width, height, problem: isPlain && end > view.byteLength ? TRUNCATED : null };
}

function readGif(view) {
  const size = { width: view.getUint16(6, true), height: view.getUint16(8, true) };
  let end = view.byteLength - 1;
  while (view.getUint8(end) === 0) end -= 1;
  return { ...size, problem: view.getUint8(end) === 0x3b ? null : TRUNCATED };
}

function readWebp(view) {
  let problem = view.getUint32(4, true) + 8 > view.byteLength ? TRUNCATED : null;
  const uint24 = (at) => view.getUint16(at, true) + 2 ** 16 * view.getUint8(at + 2);
  switch (view.getUint32(12)) {
    case 0x56503858: // VP8X
      if (view.getUint8(20) & 8) {
        problem ??= "is a WebP file with EXIF data, whose orientation browsers ignore: save it as PNG";
      }
      return { width: 1 + uint24(24), height: 1 + uint24(27), problem };
    case 0x5650384c: { // VP8L
      const bits = view.getUint32(21, true);
      return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >> 14) & 0x3fff), problem };
    }
    default:
      return {
        width: view.getUint16(26, true) & 0x3fff,
        height: view.getUint16(28, true) & 0x3fff,
        problem,
      };
  }
}
