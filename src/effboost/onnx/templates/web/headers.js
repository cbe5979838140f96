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

const TURNED = "may have an orientation that browsers do not apply: classify it with effboost "
  + "predict, or save it upright";
const TRUNCATED = "is damaged or truncated (its end is missing)";
const NO_IMAGE = "is damaged or truncated (it has no image)";

/** Return type and value of the EXIF orientation in a TIFF header at a position, or null. */
function readOrientation(view, at) {
  try {
    const little = view.getUint16(at) === 0x4949;
    const entries = at + view.getUint32(at + 4, little);
    for (let i = 0; i < view.getUint16(entries, little); i += 1) {
      const entry = entries + 2 + 12 * i;
      if (view.getUint16(entry, little) === 0x0112) {
        const type = view.getUint16(entry + 2, little);
        const wide = type === 4 || type === 9; // LONG
        return { type, value: wide ? view.getUint32(entry + 8, little) : view.getUint16(entry + 8, little) };
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // damaged EXIF data say nothing
  }
  return null;
}

function turns(value) {
  return value >= 2 && value <= 8;
}

/** Whether an image is turned by its EXIF data or else by its XMP text, but not by browsers. */
function isTurned(orientation, xmp) {
  if (orientation !== null) return orientation.type !== 3 && turns(orientation.value);
  return turns(/tiff:Orientation(?:="|>)([0-9])/.exec(xmp)?.[1]);
}

function readText(view, from, to) {
  return new TextDecoder("latin1").decode(new Uint8Array(view.buffer, view.byteOffset + from, to - from));
}

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
  const chunks = [];
  for (let at = 8; at + 12 <= view.byteLength; at += 12 + view.getUint32(at)) {
    const name = readText(view, at + 4, at + 8);
    if (name === "IEND") return { width, height, problem: findPngProblem(view, chunks) };
    chunks.push({ name, from: at + 8, to: at + 8 + view.getUint32(at) });
  }
  return { width, height, problem: TRUNCATED };
}

/** Return why browsers would show another picture than the one that effboost reads, or null. */
function findPngProblem(view, chunks) {
  const first = (wanted) => chunks.findIndex(({ name }) => name === wanted);
  const exif = first("eXIf");
  const pixels = first("IDAT");
  if (first("acTL") >= 0 && !(first("fcTL") >= 0 && first("fcTL") < pixels)) {
    return "is an animation without its first picture: save the picture as a plain PNG";
  }
  let xmp = "";
  for (const { name, from, to } of chunks.filter((chunk) => /^[tzi].Xt$/.test(chunk.name))) {
    const text = readText(view, from, Math.min(to, view.byteLength));
    const [keyword] = text.split("\0", 1);
    if (keyword === "Raw profile type exif" && exif < 0) return TURNED; // compressed, or hexadecimal
    if (keyword === "XML:com.adobe.xmp") {
      if (text[keyword.length + 1] === "\x01" && exif < 0) return TURNED; // compressed
      xmp = text;
    }
  }
  const orientation = exif < 0 ? null : readOrientation(view, chunks[exif].from);
  if (exif > pixels && turns(orientation?.value)) return TURNED;
  return isTurned(orientation, xmp) ? TURNED : null;
}

function readJpeg(view) {
  let at = 2;
  let size = null;
  let orientation = null;
  let xmp = "";
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
    const end = at + view.getUint16(at);
    if (marker === 0xe1 && end <= view.byteLength) {
      const text = readText(view, at + 2, end);
      if (text.startsWith("Exif\0\0")) orientation ??= readOrientation(view, at + 8);
      if (text.slice(7).startsWith("ns.adobe.com/xap/1.0/\0")) xmp = text;
    }
    at = end;
  }
  if (size === null) return { width: 0, height: 0, problem: NO_IMAGE };
  if (size.channels === 4) {
    return { ...size, problem: "has CMYK colours, which browsers convert differently: save it as RGB" };
  }
  for (let i = view.byteLength - 2; i >= at; i -= 1) {
    if (view.getUint8(i) === 0xff && view.getUint8(i + 1) === 0xd9) {
      return { ...size, problem: isTurned(orientation, xmp) ? TURNED : null };
    }
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
  const compression = view.getUint32(30, true);
  if (compression === 1 || compression === 2) {
    return { width, height, problem: "is run-length encoded, which browsers decode differently: save it as PNG" };
  }
  const isPlain = [0, 3].includes(compression);
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
      if (view.getUint8(20) & 4 && isTurned(null, findWebpText(view))) problem ??= TURNED;
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

/** Return the XMP text of a WebP file. */
function findWebpText(view) {
  for (let at = 12; at + 8 <= view.byteLength;) {
    const size = view.getUint32(at + 4, true);
    const end = at + 8 + size;
    if (readText(view, at, at + 4) === "XMP ") return readText(view, at + 8, Math.min(end, view.byteLength));
    at = end + (size % 2);
  }
  return "";
}
