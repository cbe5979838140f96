// Which image belongs to which subject, and the results of subjects.

import { readCsv } from "./csv.js";

/** Return a function from a path to the subject, or null, by a pattern of file names. */
export function byPattern(text) {
  const pattern = new RegExp(text);
  if (new RegExp(`${text}|`).exec("").length < 2) {
    throw new Error("the pattern has no group in parentheses, such as ^(.+)_");
  }
  return (path) => {
    const found = pattern.exec(baseName(path));
    return found?.groups?.subject ?? found?.[1] ?? null;
  };
}

/** Return a function from a path to the subject, or null, by a CSV of files and subjects. */
export function byTable(text) {
  const [header = [], ...rows] = readCsv(text);
  const names = header.map((name) => name.trim().toLowerCase());
  const file = names.findIndex((name) => ["file", "image", "path"].includes(name));
  const subject = names.findIndex((name) => ["subject", "group", "patient"].includes(name));
  if (file < 0 || subject < 0) {
    throw new Error(`its columns are ${names.join(", ")}; file and subject are needed`);
  }
  // A page does not see where a folder lies: the whole name in the table is an end of the image's
  // path, or the image's whole path is an end of the name. What two subjects have names neither.
  const whole = new Map();
  const ends = new Map();
  const add = (map, key, value) => map.set(key, map.has(key) && map.get(key) !== value ? null : value);
  for (const row of rows) {
    const value = (row[subject] ?? "").trim();
    const parts = (row[file] ?? "").trim().replaceAll("\\", "/").replace(/^(\.\/)+/, "").split("/");
    if (!value) continue;
    add(whole, parts.join("/"), value);
    parts.forEach((_, i) => add(ends, parts.slice(i).join("/"), value));
  }
  return (path) => {
    if (ends.has(path)) return ends.get(path);
    const parts = path.split("/");
    const end = parts.map((_, i) => parts.slice(i).join("/")).find((name) => whole.has(name));
    return end === undefined ? null : whole.get(end);
  };
}

/** Return the mean probabilities of each subject. */
export function aggregate(rows) {
  const subjects = new Map();
  for (const { subject, probabilities } of rows) {
    if (subject === null || !probabilities) continue;
    const found = subjects.get(subject) ?? { subject, count: 0, sums: probabilities.map(() => 0) };
    found.count += 1;
    probabilities.forEach((p, i) => { found.sums[i] += p; });
    subjects.set(subject, found);
  }
  return [...subjects.values()].map(({ subject, count, sums }) => (
    { subject, count, probabilities: sums.map((sum) => sum / count) }
  ));
}

export function baseName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}
