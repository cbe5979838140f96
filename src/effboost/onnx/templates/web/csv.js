// Reading and writing of CSV.

/** Return the text of a CSV that spreadsheets open as text: they calculate no cell of it. */
export function writeCsv(rows) {
  const lines = rows.map((row) => row.map((cell) => quote(escapeFormula(String(cell)))).join(","));
  return `\ufeff${lines.join("\n")}\n`; // the mark tells spreadsheets that it is UTF-8
}

function escapeFormula(cell) {
  const isNumber = cell.trim() !== "" && Number.isFinite(Number(cell));
  return /^[=+\-@\t\r']/.test(cell) && !isNumber ? `'${cell}` : cell;
}

function quote(cell) {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** Read a CSV with commas, semicolons or tabs, quotes as in RFC 4180. */
export function readCsv(text) {
  const content = text.replace(/^\ufeff/, "");
  const [first] = content.split(/[\r\n]/, 1);
  const count = (separator) => first.split(separator).length;
  const [separator] = [",", ";", "\t"].sort((a, b) => count(b) - count(a));
  const rows = [];
  let row = [];
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\\r\\n]*))(${separator}|\\r?\\n|\\r|$)`, "y");
  while (cell.lastIndex < content.length) {
    const found = cell.exec(content);
    if (!found) throw new Error(`row ${rows.length + 1} has a quote that does not end`);
    row.push(found[1] === undefined ? found[2] : found[1].replaceAll('""', '"'));
    if (found[3] !== separator) {
      rows.push(row);
      row = [];
    }
  }
  if (row.length) rows.push([...row, ""]); // the text ended with a separator
  return rows.filter((cells) => cells.some((value) => value.trim() !== ""));
}
