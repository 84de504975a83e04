// The page: reads the table, has the module compute, and shows what it says.
import { load, Refused } from "./rwwce.mjs";

const at = (id) => document.getElementById(id);

/** What is wrong with what was typed: in which field, and on which line of it, counted from 0, where that is known. */
class Mistake extends Error {
  constructor(field, message, line) {
    super(message);
    Object.assign(this, { field, line });
  }
}

// What is typed.

/** The number that a text stands for, rounded to 32 bits; undefined if it is none. */
function parseNumber(text) {
  const plain = text.toLowerCase().replace("\u2212", "-");
  const infinite = /^([+-]?)(?:inf|infinity|\u221e)$/.exec(plain);
  if (infinite) return infinite[1] === "-" ? -Infinity : Infinity;
  if (plain === "nan") return NaN;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(plain) ? Math.fround(Number(plain)) : undefined;
}

/** What is wrong with a field that should be a number, in words; nothing if it is one. */
function fault(field) {
  const value = parseNumber(field);
  if (value === undefined) return `is ${quoted(field)}, expected a number such as -1.5`;
  return Math.abs(value) === Infinity && /\d/.test(field) ? `is ${quoted(field)}, too large for 32 bits` : undefined;
}

const quoted = (field) => field === "" ? "empty" : `"${field.length > 24 ? `${field.slice(0, 23)}\u2026` : field}"`;

/** The lines that hold something, split, each with its number among all lines. */
function splitLines(text) {
  const lines = text.split(/\r\n|\r|\n/).map((content, line) => ({ line, content: content.trim() }));
  const filled = lines.filter(({ content }) => content !== "");
  // The same between all fields, so that a decimal comma is not taken for it.
  const separator = ["\t", ";", ","].find((candidate) => filled.some(({ content }) => content.includes(candidate)));
  const split = (content) => content.split(separator ?? /\s+/).map((field) => field.trim());
  return filled.map(({ line, content }) => ({ line, fields: split(content) }));
}

/** Whether these are names and not a row: no numbers at all, or behind the first name the numbers of the classes. */
function areNames([first, ...others]) {
  const isName = (field) => parseNumber(field) === undefined;
  return isName(first) && (others.every(isName) || others.every((field, index) => field === String(index)));
}

/** The table as the module takes it, with the names of its classes and the line of each row. */
function parseTable(text) {
  const lines = splitLines(text);
  if (lines.length === 0) throw new Mistake("table", "The table is empty.");
  const first = lines[0], width = first.fields.length, classes = width - 1;
  if (classes === 0) throw new Mistake("table", "one field, expected a label and at least one logit.", first.line);
  const ragged = lines.find(({ fields }) => fields.length !== width);
  if (ragged) {
    const message = `${ragged.fields.length} fields, expected ${width} as on line ${first.line + 1}.`;
    throw new Mistake("table", message, ragged.line);
  }
  const names = areNames(first.fields) ? lines.shift().fields.slice(1) : [];
  if (lines.length === 0) throw new Mistake("table", "The table has names and no rows.");

  const labels = new BigInt64Array(lines.length), logits = new Float32Array(lines.length * classes);
  lines.forEach(({ line, fields: [label, ...others] }, row) => {
    if (!/^[+-]?\d{1,18}(\.0*)?$/.test(label)) {
      throw new Mistake("table", `field 1 is ${quoted(label)}, expected the number of a class.`, line);
    }
    labels[row] = BigInt(label.split(".")[0]);
    others.forEach((field, index) => {
      if (fault(field)) throw new Mistake("table", `field ${index + 2} ${fault(field)}.`, line);
      logits[row * classes + index] = parseNumber(field);
    });
  });
  return { classes, labels, logits, names, lines: lines.map(({ line }) => line) };
}

/** The class weights, none for an empty text. The library counts them. */
function parseWeights(text) {
  return Float32Array.from(splitLines(text).flatMap(({ fields }) => fields), (field, index) => {
    if (fault(field)) throw new Mistake("weights", `class weights: field ${index + 1} ${fault(field)}.`);
    return parseNumber(field);
  });
}

// What is shown.

/** The shortest decimals that stand for a number of 32 bits. */
function decimals(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "\u221e");
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const row = (attributes, ...cells) => element("tr", attributes, ...cells);
const cell = (text, kind = "") => element("td", { class: kind }, text);
const heading = (text, kind = "") => element("th", { scope: "col", class: kind }, text);

/** Puts a table into a place that can be scrolled, by keyboard as well. */
function showTable(place, head, body) {
  place.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  place.removeAttribute("tabindex");
  if (place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight) place.tabIndex = 0;
}

/** The bits of every number of a result; NaN as one number. */
function bitsOf({ loss, rowLosses, gradient }) {
  const all = new Float32Array(1 + rowLosses.length + gradient.length);
  all[0] = loss;
  all.set(rowLosses, 1);
  all.set(gradient, 1 + rowLosses.length);
  return new Int32Array(all.map((value) => Number.isNaN(value) ? NaN : value).buffer);
}

/** How far apart two results are, in words. */
function comparison(bits, others) {
  // Neighbouring numbers become neighbouring integers, across zero as well.
  const ordered = (number) => number < 0 ? -2147483648 - number : number;
  let differing = 0, farthest = 0;
  bits.forEach((number, index) => {
    if (number === others[index]) return;
    differing += 1;
    farthest = Math.max(farthest, Math.abs(ordered(number) - ordered(others[index])));
  });
  return differing === 0 ? "same bits" : `${differing} of ${bits.length} differ, by at most ${farthest} ulp`;
}

/** Every backend beside the chosen one. */
function showBackends(backends, results, chosen) {
  const bits = results.map(bitsOf);
  const body = backends.map(({ name, fused }, index) => row(
    index === chosen ? { "aria-current": "true" } : {},
    element("th", { scope: "row" }, name),
    cell(fused ? "once" : "twice"),
    cell(decimals(results[index].loss), "number"),
    cell((bits[index][0] >>> 0).toString(16).padStart(8, "0"), "number bits"),
    cell(index === chosen ? "chosen" : comparison(bits[index], bits[chosen]), "words"),
  ));
  const head = row({}, heading("backend"), heading("rounds"), heading("mean loss", "number"), heading("its bits", "number"),
    heading(`beside ${backends[chosen].name}`));
  showTable(at("backends-table"), head, body);
}

/** The rows, as many as can be read. */
function showRows({ classes, labels, lines, names }, { rowLosses, gradient }) {
  const shownRows = Math.min(labels.length, 200), shownClasses = Math.min(classes, 50);
  const upTo = (number, all, what) => number < all ? `the first ${number} of ${all} ${what}` : `${all} ${what}`;
  const body = Array.from({ length: shownRows }, (_, index) => row(
    Number.isFinite(rowLosses[index]) ? {} : { class: "not-finite" },
    element("th", { scope: "row", class: "number" }, String(index)),
    cell(String(lines[index] + 1), "number"),
    cell([labels[index], names[labels[index]]].join(" ").trim()),
    cell(decimals(rowLosses[index]), "number"),
    ...Array.from(gradient.subarray(index * classes, index * classes + shownClasses), (g) => cell(decimals(g), "number")),
  ));
  const head = row({}, heading("row", "number"), heading("line", "number"), heading("label"), heading("loss", "number"),
    ...Array.from({ length: shownClasses }, (_, index) => heading(`gradient, ${names[index] || index}`, "number")));
  at("extent").textContent = `${upTo(shownRows, labels.length, "rows")}, ${upTo(shownClasses, classes, "classes")}`;
  showTable(at("rows-table"), head, body);
}

function showMistake({ field, message, line }) {
  const plain = `${message[0].toUpperCase()}${message.slice(1)}`;
  at("fault").textContent = line === undefined ? plain : `Line ${line + 1}: ${message}`;
  at("fault").className = "fault";
  at("fault").hidden = false;
  for (const hidden of ["answer", "backends", "by-row"]) at(hidden).hidden = true;
  for (const input of ["table", "weights"]) at(input).setAttribute("aria-invalid", String(input === field));
  at("show").hidden = line === undefined;
  at("show").textContent = `Go to line ${line + 1}`;
  at("show").onclick = () => {
    const before = at("table").value.split("\n").slice(0, line).join("\n").length + (line > 0 ? 1 : 0);
    const end = at("table").value.indexOf("\n", before);
    at("table").focus();
    at("table").setSelectionRange(before, end < 0 ? at("table").value.length : end);
  };
}

function showResult(backends, table, results, chosen) {
  const result = results[chosen];
  at("loss").textContent = decimals(result.loss);
  at("rows").textContent = String(result.rows);
  at("weight-sum").textContent = String(Number(result.denominator.toPrecision(12)));
  at("non-finite").textContent = String(result.nonFinite);
  at("computed-by").textContent = backends[chosen].name;
  for (const hidden of ["fault", "show"]) at(hidden).hidden = true;
  for (const input of ["table", "weights"]) at(input).removeAttribute("aria-invalid");
  for (const shown of ["answer", "backends", "by-row"]) at(shown).hidden = false;
  showBackends(backends, results, chosen);
  showRows(table, result);
}

// From the one to the other.

function update(module) {
  let table;
  try {
    table = parseTable(at("table").value);
    const batch = { ...table, classWeights: parseWeights(at("weights").value) };
    const results = module.backends.map((_, backend) => module.lossGradient(batch, backend));
    showResult(module.backends, table, results, at("backend").selectedIndex);
  } catch (error) {
    if (error instanceof Refused) {
      const about = error.row === undefined ? ["weights"] : ["table", table.lines[error.row]];
      showMistake(new Mistake(about[0], `${error.message}.`, about[1]));
    } else {
      showMistake(error);
      if (!(error instanceof Mistake)) throw error;
    }
  }
  at("result").setAttribute("aria-busy", "false");
}

async function loadModule() {
  const response = await fetch(at("module").href);
  if (!response.ok) throw new Error(`The module is not at ${response.url}: ${response.status} ${response.statusText}.`);
  return load(await response.arrayBuffer());
}

try {
  const module = await loadModule();
  at("backend").append(...module.backends.map(({ name }) => element("option", {}, name)));
  let pause;
  at("form").addEventListener("input", () => {
    at("result").setAttribute("aria-busy", "true");
    clearTimeout(pause);
    pause = setTimeout(update, 100, module);
  });
  at("form").addEventListener("submit", (event) => event.preventDefault());
  update(module);
} catch (error) {
  showMistake(error);
  throw error;
}
