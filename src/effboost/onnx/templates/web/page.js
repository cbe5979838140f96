// The page: files in, a table of results out. The worker decodes and classifies.

import { writeCsv } from "./csv.js";
import { aggregate, baseName, byPattern, byTable } from "./subjects.js";

const PAGE_SIZE = 200;
const $ = (id) => document.getElementById(id);
const collator = new Intl.Collator(undefined, { numeric: true });

let model = null;
let flags = []; // names of the outputs of the graph besides label and probabilities
let worker = null;
let rows = []; // one of each file, in the order of arrival
let sorting = { key: null, descending: false };
let nShown = PAGE_SIZE;
let findSubject = () => null;
let generation = 0; // changes when the table is cleared
let isRunning = false;
let isDrawn = true;
let drawnHeader = null; // what the header of the table shows

main();

async function main() {
  try {
    const response = await fetch("model.json", { cache: "no-cache" });
    if (!response.ok) throw new Error(`model.json cannot be loaded (status ${response.status})`);
    model = await response.json();
    describeModel();
    worker = startWorker();
    const answer = await ask({ start: model });
    if (answer.reason) throw new Error(answer.reason);
    flags = answer.flags;
  } catch (error) {
    rows = [];
    $("drop").hidden = true;
    say(`The model cannot be started: ${error.message}`, true);
    return;
  }
  fillChoices();
  document.body.dataset.ready = "true";
  say("Ready. The page now also works without a network, until it is closed.");
  run();
}

// --- the worker ------------------------------------------------------------------------------

function startWorker() {
  // A worker from a blob obeys the Content-Security-Policy of this page; one from a file does not.
  const address = new URL("worker.js", import.meta.url).href;
  const code = new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(code), { type: "module" });
}

function ask(question) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message || "the worker cannot be loaded"));
    worker.postMessage(question);
  });
}

async function run() {
  if (isRunning || !document.body.dataset.ready) return;
  isRunning = true;
  let start = performance.now();
  let nDone = 0;
  for (;;) {
    const row = rows.find(({ state }) => state === "waiting");
    if (!row) break;
    const own = generation;
    let answer;
    try {
      answer = await ask({ file: row.file });
    } catch (error) {
      answer = { reason: `cannot be classified (${error.message})` };
    }
    if (own !== generation) {
      start = performance.now();
      nDone = 0;
      continue;
    }
    finish(row, answer);
    nDone += 1;
    showProgress(nDone / (performance.now() - start) * 1000);
  }
  isRunning = false;
}

function finish(row, { reason, probabilities, flags: found, width, height, thumbnail }) {
  if (reason) {
    Object.assign(row, { state: "failed", reason });
  } else {
    const label = probabilities.indexOf(Math.max(...probabilities));
    Object.assign(row, { state: "done", probabilities, label, flags: found, width, height });
    row.thumbnail = URL.createObjectURL(thumbnail);
  }
  drawSoon();
}

/** Show how many images are done; the speed is in images per second, null if unknown. */
function showProgress(speed) {
  const nDone = rows.filter(({ state }) => state !== "waiting").length;
  const nFailed = rows.filter(({ state }) => state === "failed").length;
  const failed = nFailed ? `, ${nFailed} of them could not be read` : "";
  $("progress").max = Math.max(1, rows.length);
  $("progress").value = nDone;
  $("progress").hidden = nDone === rows.length;
  if (nDone === rows.length) {
    draw();
    say(`${count(nDone, "image")}${failed}.`);
  } else {
    const seconds = Math.ceil((rows.length - nDone) / speed);
    const left = speed === null ? "" : `, about ${seconds} s left`;
    say(`${nDone} of ${count(rows.length, "image")}${failed}${left} ...`);
  }
}

// --- files in --------------------------------------------------------------------------------

function add(files) {
  if (!files.length) return;
  const known = new Set(rows.map(({ key }) => key));
  let nKnown = 0;
  for (const { file, path } of files) {
    const key = `${path}\n${file.size}\n${file.lastModified}`;
    nKnown += known.has(key);
    if (known.has(key)) continue;
    known.add(key);
    rows.push({ file, path, key, state: "waiting", order: rows.length, subject: findSubject(path) });
  }
  for (const id of ["results", "by-subject", "clear"]) $(id).hidden = rows.length === 0;
  showProgress(null);
  if (nKnown) say(`${count(nKnown, "file")} left out: in the table already.`);
  run();
}

function addList(list) {
  add([...list].map((file) => ({ file, path: file.webkitRelativePath || file.name }))
    .filter(({ path }) => !path.includes("/") || !isHidden(path)));
}

/** Whether a file in a folder is hidden, or metadata that systems add. */
function isHidden(path) {
  return path.split("/").some((name) => name.startsWith(".") || name === "__MACOSX")
    || ["Thumbs.db", "desktop.ini"].includes(baseName(path));
}

async function listEntry(entry, isInFolder = false) {
  const path = entry.fullPath.replace(/^\//, "");
  if (isInFolder && isHidden(path)) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    return [{ file, path }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // Browsers list a hundred at a time.
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) break;
    for (const inside of some) found.push(...await listEntry(inside, true));
  }
  return found.sort((a, b) => collator.compare(a.path, b.path));
}

async function drop(event) {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const { items, files } = event.dataTransfer;
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) {
    addList(files);
    return;
  }
  try {
    for (const entry of entries) add(await listEntry(entry));
  } catch (error) {
    say(`A folder cannot be read: ${error.message}`, true);
  }
}

// --- the table of images ---------------------------------------------------------------------

function columns() {
  const probability = model.classes.map((name, i) => ({
    title: name,
    kind: "probability",
    number: true,
    value: (row) => row.probabilities?.[i],
  }));
  const others = flags.map((name) => ({
    title: name,
    kind: "flag",
    number: name !== "reasons",
    value: (row) => (name === "reasons" ? row.flags?.[name] : toNumber(row.flags?.[name])),
    text: (row) => showFlag(row.flags?.[name]),
  }));
  const hasSubjects = rows.some(({ subject }) => subject !== null);
  return [
    { title: "Image", kind: "picture" },
    { title: "File", kind: "file", value: (row) => row.path },
    ...(hasSubjects ? [{ title: "Subject", kind: "subject", value: (row) => row.subject }] : []),
    { title: "Class", kind: "class", value: (row) => model.classes[row.label] },
    ...probability,
    ...others,
  ];
}

function toNumber(value) {
  return value === undefined ? undefined : Number(value);
}

function showFlag(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? value.toPrecision(3) : value ?? "";
}

function fillChoices() {
  const options = [["all", "all"], ...model.classes.map((name, i) => [`class ${i}`, name]),
    ...(flags.includes("familiar") ? [["unfamiliar", "not familiar"]] : []),
    ["failed", "not read"]];
  $("show").replaceChildren(...options.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
}

function drawSoon() {
  if (!isDrawn) return;
  isDrawn = false;
  setTimeout(() => { isDrawn = true; draw(); }, 150);
}

function draw() {
  const shown = columns();
  const key = JSON.stringify([shown.map(({ title, kind }) => [title, kind]), sorting]);
  if (drawnHeader !== key) {
    $("images").tHead.rows[0].replaceChildren(...shown.map(headerCell));
    drawnHeader = key;
  }
  const found = select(shown);
  const part = found.slice(0, nShown);
  place($("images").tBodies[0], part.map((row) => imageLine(row, shown)));
  $("more").hidden = part.length === found.length;
  $("more").textContent = `Show more (${found.length - part.length} left)`;
  drawSubjects();
}

/** Change the lines of a table, but not those that stay: one of them may have the focus. */
function place(body, lines) {
  lines.forEach((line, i) => {
    if (body.rows[i] !== line) body.insertBefore(line, body.rows[i] ?? null);
  });
  while (body.rows.length > lines.length) body.lastElementChild.remove();
}

function select(shown) {
  const text = $("find").value.toLowerCase();
  const kind = $("show").value;
  const found = rows.filter((row) => row.state !== "waiting"
    && `${row.path}\n${row.subject ?? ""}`.toLowerCase().includes(text)
    && (kind === "all" || kind === row.state || kind === `class ${row.label}`
      || (kind === "unfamiliar" && row.flags?.familiar === false)));
  const column = shown.find(({ title, kind: k }) => sorting.key === `${k} ${title}`);
  if (!column) return found;
  const sign = sorting.descending ? -1 : 1;
  return found.sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (x === undefined || x === null || y === undefined || y === null) {
      // Without a value at the end, in both directions.
      return (x === undefined || x === null) - (y === undefined || y === null) || a.order - b.order;
    }
    return sign * (column.number ? x - y : collator.compare(x, y)) || a.order - b.order;
  });
}

function headerCell({ title, kind, value }) {
  const cell = element("th", value ? null : title);
  cell.scope = "col";
  cell.className = kind;
  if (!value) return cell;
  const key = `${kind} ${title}`;
  const isSorted = sorting.key === key;
  const order = sorting.descending ? "descending" : "ascending";
  cell.setAttribute("aria-sort", isSorted ? order : "none");
  const button = element("button", visible(title));
  button.type = "button";
  button.addEventListener("click", () => {
    sorting = { key, descending: isSorted ? !sorting.descending : kind === "probability" };
    draw();
    [...document.querySelectorAll("#images th button")]
      .find(({ parentElement: { className }, textContent }) => (
        className === kind && textContent === visible(title)))?.focus();
  });
  cell.append(button);
  return cell;
}

/** Return the line of a row, which is made again only if its columns change. */
function imageLine(row, shown) {
  const key = `${shown.length} ${row.subject}`;
  if (row.lineKey !== key) Object.assign(row, { lineKey: key, line: makeLine(row, shown) });
  return row.line;
}

function makeLine(row, shown) {
  const line = element("tr");
  line.className = row.state;
  for (const column of shown) {
    if (row.state === "failed" && column.kind === "class") {
      const cell = element("td");
      cell.append(element("bdi", visible(row.reason)));
      cell.className = "reason";
      cell.colSpan = shown.length - shown.indexOf(column);
      line.append(cell);
      break;
    }
    line.append(imageCell(row, column));
  }
  return line;
}

function imageCell(row, { title, kind, value, text }) {
  const cell = element("td");
  cell.className = kind;
  if (kind === "picture") {
    if (row.thumbnail) cell.append(pictureButton(row));
  } else if (kind === "probability") {
    cell.dataset.title = visible(title);
    cell.classList.toggle("largest", title === model.classes[row.label]);
    const share = value(row);
    cell.style.setProperty("--share", share);
    cell.append(element("span", share.toFixed(3)));
  } else {
    if (kind === "flag") {
      cell.dataset.title = visible(title);
      cell.classList.toggle("unusual", row.flags?.familiar === false);
    }
    cell.append(element("bdi", visible(text ? text(row) : value(row) ?? "")));
  }
  return cell;
}

function pictureButton(row) {
  const button = element("button");
  button.type = "button";
  button.setAttribute("aria-label", `Enlarge ${visible(row.path)}`);
  const image = element("img");
  image.src = row.thumbnail;
  image.alt = "";
  image.loading = "lazy";
  button.append(image);
  button.addEventListener("click", () => enlarge(row));
  return button;
}

function enlarge(row) {
  const address = URL.createObjectURL(row.file);
  const results = model.classes.map((name, i) => `${name} ${row.probabilities[i].toFixed(3)}`);
  $("viewer-title").textContent = visible(row.path);
  $("viewer-image").src = address;
  $("viewer-text").textContent = visible(
    `${results.join(", ")}. ${row.width} x ${row.height} pixels`,
  );
  $("viewer").addEventListener("close", () => URL.revokeObjectURL(address), { once: true });
  $("viewer").showModal();
}

// --- subjects --------------------------------------------------------------------------------

function assign(find) {
  findSubject = find;
  for (const row of rows) row.subject = find(row.path);
  draw();
}

function usePattern() {
  const text = $("pattern").value;
  try {
    assign(text ? byPattern(text) : () => null);
    if (!text) tellSubjects("No pattern and no CSV: the images have no subjects.");
  } catch (error) {
    tellSubjects(`The pattern cannot be used: ${error.message}`, true);
  }
}

async function useTable() {
  const [file] = $("table").files;
  $("table").value = "";
  if (!file) return;
  try {
    const find = byTable(await file.text());
    $("pattern").value = "";
    assign(find);
  } catch (error) {
    tellSubjects(`${visible(file.name)} cannot be used: ${error.message}`, true);
  }
}

function drawSubjects() {
  const found = aggregate(rows).sort((a, b) => collator.compare(a.subject, b.subject));
  $("subjects").hidden = $("save-subjects").hidden = found.length === 0;
  const nWithout = rows.filter(({ subject }) => subject === null).length;
  if (rows.some(({ subject }) => subject !== null)) {
    const without = nWithout ? `; ${count(nWithout, "image")} without a subject` : "";
    tellSubjects(`${count(found.length, "subject")}${without}.`);
  } else if ($("pattern").value) {
    tellSubjects("No file name matches the pattern.");
  }
  const titles = [["Subject", "subject"], ["Images", "count"], ["Class", "class"],
    ...model.classes.map((name) => [name, "probability"])];
  $("subjects").tHead.rows[0].replaceChildren(...titles.map(([title, kind]) => {
    const cell = element("th", visible(title));
    cell.scope = "col";
    cell.className = kind;
    return cell;
  }));
  $("subjects").tBodies[0].replaceChildren(...found.map(subjectRow));
}

function subjectRow({ subject, count: n, probabilities }) {
  const label = probabilities.indexOf(Math.max(...probabilities));
  const line = element("tr");
  for (const [kind, text] of [["subject", subject], ["count", n], ["class", model.classes[label]]]) {
    const cell = element("td");
    cell.className = kind;
    if (kind === "count") cell.dataset.title = "Images";
    cell.append(element("bdi", visible(text)));
    line.append(cell);
  }
  probabilities.forEach((p, i) => {
    const cell = element("td");
    cell.className = i === label ? "probability largest" : "probability";
    cell.dataset.title = visible(model.classes[i]);
    cell.style.setProperty("--share", p);
    cell.append(element("span", p.toFixed(3)));
    line.append(cell);
  });
  return line;
}

// --- CSV -------------------------------------------------------------------------------------

function saveImages() {
  const hasSubjects = rows.some(({ subject }) => subject !== null);
  const header = ["image", "class", ...model.classes.map((name) => `p_${name}`), ...flags,
    ...(hasSubjects ? ["subject"] : []), "error"];
  const lines = rows.filter(({ state }) => state !== "waiting").map((row) => [
    row.path,
    row.probabilities ? model.classes[row.label] : "",
    ...model.classes.map((_, i) => row.probabilities?.[i].toFixed(6) ?? ""),
    ...flags.map((name) => row.flags?.[name] ?? ""),
    ...(hasSubjects ? [row.subject ?? ""] : []),
    row.reason ?? "",
  ]);
  save("predictions.csv", [header, ...lines]);
}

function saveSubjects() {
  const header = ["subject", "n_images", "class", ...model.classes.map((name) => `p_${name}`)];
  const found = aggregate(rows).sort((a, b) => collator.compare(a.subject, b.subject));
  save("subjects.csv", [header, ...found.map(({ subject, count: n, probabilities }) => [
    subject,
    n,
    model.classes[probabilities.indexOf(Math.max(...probabilities))],
    ...probabilities.map((p) => p.toFixed(6)),
  ])]);
}

function save(name, table) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([writeCsv(table)], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// --- the rest --------------------------------------------------------------------------------

function clearAll() {
  generation += 1;
  for (const { thumbnail } of rows) if (thumbnail) URL.revokeObjectURL(thumbnail);
  rows = [];
  nShown = PAGE_SIZE;
  sorting = { key: null, descending: false };
  $("find").value = "";
  $("show").value = "all";
  for (const id of ["results", "by-subject", "clear", "progress"]) $(id).hidden = true;
  draw();
  say("Ready.");
}

function describeModel() {
  const names = model.classes.map(visible).join(", ");
  $("about").textContent = `Classes: ${names}. Network: ${model.backbone}.`;
  $("version").textContent = `effboost ${model.version}, ONNX Runtime Web ${model.runtime}.`;
  const megabytes = Math.round(model.megabytes);
  say(`Loading the model (${megabytes} MB) ...`);
}

function say(text, isProblem = false) {
  $("status").textContent = visible(text);
  $("status").classList.toggle("problem", isProblem);
}

function tellSubjects(text, isProblem = false) {
  $("subjects-status").textContent = visible(text);
  $("subjects-status").classList.toggle("problem", isProblem);
}

function element(name, text = null) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  return made;
}

/** Show control characters and marks of text direction, which could disguise a name. */
function visible(text) {
  return String(text).replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u${char.codePointAt(0).toString(16).padStart(4, "0")}`,
  );
}

function count(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"],
  ["take-photo", "photo"], ["choose-table", "table"]]) {
  $(button).addEventListener("click", () => $(input).click());
}
for (const id of ["files", "folder", "photo"]) {
  $(id).addEventListener("change", () => { addList($(id).files); $(id).value = ""; });
}
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", drop);
$("table").addEventListener("change", useTable);
$("pattern").addEventListener("input", usePattern);
for (const id of ["find", "show"]) {
  $(id).addEventListener("input", () => { nShown = PAGE_SIZE; draw(); });
}
$("more").addEventListener("click", () => { nShown += PAGE_SIZE; draw(); });
$("clear").addEventListener("click", clearAll);
$("save").addEventListener("click", saveImages);
$("save-subjects").addEventListener("click", saveSubjects);
