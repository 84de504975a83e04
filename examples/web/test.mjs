// The page in a browser, as its user sees it, beside the textbook in f64: node test.mjs MODULE
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { Browser } from "./browser.mjs";
import { serve } from "./serve.mjs";

const server = await serve(process.argv[2]);
const browser = await Browser.open(`http://127.0.0.1:${server.address().port}/`);
let compared = 0;

/** What the page shows once it has computed. */
async function shown() {
  await browser.until('document.getElementById("result")?.getAttribute("aria-busy") === "false"');
  return browser.value(`(() => {
    const visible = (id) => document.getElementById(id).checkVisibility();
    const seen = (id) => visible(id) ? document.getElementById(id).innerText : null;
    const cells = (id) => [...document.querySelectorAll("#" + id + " tbody tr")].filter(() => visible(id)).map(
      (row) => [...row.cells].map((cell) => cell.innerText));
    return {
      fault: seen("fault"), show: seen("show"), loss: seen("loss"), rows: seen("rows"), weightSum: seen("weight-sum"),
      nonFinite: seen("non-finite"), backend: seen("computed-by"),
      backends: cells("backends-table"), byRow: cells("rows-table"),
      invalid: [...document.querySelectorAll("[aria-invalid=true]")].map(({ id }) => id),
    };
  })()`);
}

/** Types into a field over what is there. */
async function type(id, text) {
  await browser.value(`document.getElementById("${id}").focus()`);
  await browser.press("a", 65, 2, ["selectAll"]);
  if (text === "") await browser.press("Delete", 46);
  else await browser.send("Input.insertText", { text });
  assert.equal(await browser.value(`document.getElementById("${id}").value`), text);
}

async function enter(table, weights = "") {
  await type("weights", weights);
  await type("table", table);
  return shown();
}

const parsed = (text) => Number(text.replace(/inf|\u221e/, "Infinity"));

function close(found, expected, what) {
  const number = parsed(found);
  // 6 ulp are 7e-7.
  const near = number === expected || Math.abs(number - expected) <= 7e-7 * Math.abs(expected);
  assert.ok(near, `${what}: ${found}, expected ${expected}`);
  compared += 1;
}

/** Compares what is shown with the textbook in f64: log Σ exp(x − x_y), p − [i = y], weighted. */
function compare(found, rows, weights) {
  assert.equal(found.fault, null);
  const weightOf = (label) => weights === undefined ? 1 : Math.fround(weights[label]);
  const weightSum = rows.reduce((sum, [label]) => sum + weightOf(label), 0);
  let sum = 0;
  assert.equal(found.byRow.length, rows.length);
  rows.forEach(([label, ...decimal], row) => {
    const logits = decimal.map(Math.fround);
    const total = logits.reduce((t, x) => t + Math.exp(x), 0);
    // The others alone, so that nothing cancels in a confident row.
    const others = logits.reduce((t, x, j) => j === label ? t : t + Math.exp(x - logits[label]), 0);
    const loss = weightOf(label) * Math.log1p(others);
    sum += loss;
    const [number, , shownLabel, shownLoss, ...gradient] = found.byRow[row];
    assert.equal(number, String(row));
    assert.equal(parseInt(shownLabel, 10), label);
    close(shownLoss, loss, `the loss of row ${row}`);
    assert.equal(gradient.length, logits.length);
    gradient.forEach((g, k) => {
      const derivative = k === label ? -others / (1 + others) : Math.exp(logits[k]) / total;
      close(g, weightOf(label) * derivative / weightSum, `element ${k} of the gradient of row ${row}`);
    });
  });
  close(found.loss, sum / weightSum, "the mean");
  close(found.weightSum, weightSum, "the weight sum");
  assert.equal(found.rows, String(rows.length));
  assert.equal(found.nonFinite, "0");
}

let state = 2026;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state >>> 8) / 2 ** 24;
};
const randomRows = (rows, classes) => Array.from({ length: rows }, () => [
  Math.floor(random() * classes), ...Array.from({ length: classes }, () => Number((16 * random() - 8).toFixed(4))),
]);
const asText = (rows, separator) => rows.map((row) => row.join(separator)).join("\n");

async function notations() {
  const rows = [[0, 1.5, -2], [1, 0.25, 3], [1, 100, -20]];
  compare(await enter("y, a, b\n0, 1.5, -2\n\n  1, .25, +3e0\n1.0, 1E2, \u221220\n"), rows);
  compare(await enter("0 1 2\n1   2.5 -3"), [[0, 1, 2], [1, 2.5, -3]]);
  compare(await enter("label 0 1\n0 1 2"), [[0, 1, 2]]);
  for (const separator of ["\t", ",", ";", " "]) {
    const classes = 7, table = randomRows(40, classes);
    const weights = Array.from({ length: classes }, () => Number((20 * random()).toFixed(3)));
    compare(await enter(asText(table, separator), weights.join(separator)), table, weights);
  }
}

/** Chooses each backend with the keyboard. */
async function backends() {
  const table = randomRows(60, 5);
  await enter(asText(table, "\t"));
  await browser.value('document.getElementById("table").focus()');
  const order = [];
  for (let stop = 0; stop < 2; stop++) {
    await browser.press("Tab", 9);
    order.push(await browser.value("document.activeElement.id"));
  }
  assert.deepEqual(order, ["weights", "backend"]);
  const names = await browser.value('[...document.getElementById("backend").options].map(({ text }) => text)');
  assert.deepEqual(names, ["simd128", "scalar", "scalar-fma"]);
  const results = [];
  for (const name of names) {
    const result = await shown();
    assert.equal(result.backend, name);
    compare(result, table);
    assert.deepEqual(result.backends.map(([of]) => of), names);
    assert.equal(result.backends.find(([of]) => of === name)[2], result.loss);
    results.push(result);
    await browser.press("ArrowDown", 40);
  }
  const [simd128] = results;
  for (const [, , loss, bits] of simd128.backends) {
    assert.equal(new Float32Array(Uint32Array.of(parseInt(bits, 16)).buffer)[0], Math.fround(Number(loss)));
  }
  assert.deepEqual(simd128.backends.map(([, rounds]) => rounds), ["twice", "twice", "once"]);
  // Each is of another class of same bits, and all are near the textbook, if on different sides of it.
  results.forEach(({ backends, byRow, loss }, chosen) => backends.forEach((row, other) => {
    if (other === chosen) return assert.equal(row[4], "chosen");
    assert.match(row[4], /^(same bits|[1-9]\d* of 361 differ, by at most ([1-9]|10) ulp)$/);
    // Decimals that stand for the bits: shown alike, they are alike.
    const alike = isDeepStrictEqual([byRow, loss], [results[other].byRow, results[other].loss]);
    assert.equal(row[4] === "same bits", alike, row[4]);
  }));
  assert.match(simd128.backends[2][4], /differ/);
  await browser.press("Home", 36);
  assert.equal((await shown()).backend, "simd128");
}

async function nonFinite() {
  const table = "0 0 0\n1 1 -inf\n0 nan 1\n0 1 -Infinity\n";
  const result = await enter(table, "1 20");
  assert.deepEqual(result.byRow.map((row) => row[3]), ["0.6931472", "\u221e", "NaN", "0"]);
  assert.equal(result.nonFinite, "2");
  assert.equal(result.loss, "NaN");
  assert.match(result.backends[1][4], /^(same bits|\d of 13 differ, by at most \d ulp)$/);
  assert.equal(await browser.value('document.querySelectorAll("tr.not-finite").length'), 2);
  // What weighs nothing cannot spoil the mean.
  assert.equal((await enter("0 0 0\n1 1 -inf", "1 0")).loss, "0.6931472");
}

async function mistakes() {
  const refuses = async (table, weights, message, field) => {
    const result = await enter(table, weights);
    assert.equal(result.fault, message);
    assert.deepEqual(result.invalid, [field]);
    assert.deepEqual([result.loss, result.byRow], [null, []], "a mistake leaves no result");
    return result;
  };
  await refuses("", "", "The table is empty.", "table");
  await refuses("label a b\n", "", "The table has names and no rows.", "table");
  await refuses("0", "", "Line 1: one field, expected a label and at least one logit.", "table");
  await refuses("a,b,c\n0,1,2\n\n1,2\n", "", "Line 4: 2 fields, expected 3 as on line 1.", "table");
  await refuses("0\t1\t2\n1\t2,5\t3", "", 'Line 2: field 2 is "2,5", expected a number such as -1.5.', "table");
  await refuses("0,1,2\n1,,3", "", "Line 2: field 2 is empty, expected a number such as -1.5.", "table");
  await refuses("0,1,2\n1,1e39,3", "", 'Line 2: field 2 is "1e39", too large for 32 bits.', "table");
  await refuses("0 1 2\ncat 1 2", "", 'Line 2: field 1 is "cat", expected the number of a class.', "table");
  await refuses("0 1 2", "1 x", 'Class weights: field 2 is "x", expected a number such as -1.5.', "weights");
  // In the words of the library.
  await refuses("0 1 2", "1 2 3", "Class weights: expected 2 elements, found 3.", "weights");
  await refuses("0 1 2", "1 inf", "Class weights: the number at index 1 is not finite.", "weights");
  await refuses("0 1 2\n-1 1 2", "", "Line 2: labels: row 1 has label -1, expected 0 to 1.", "table");
  const far = await refuses("y a b\n\n0 1 2\n7 1 2", "", "Line 4: labels: row 1 has label 7, expected 0 to 1.", "table");
  assert.equal(far.show, "Go to line 4");
  await browser.value('document.getElementById("show").focus()');
  await browser.press("Enter", 13);
  assert.equal(await browser.value("getSelection().toString()"), "7 1 2");
  assert.equal(await browser.value("document.activeElement.id"), "table");
  compare(await enter("0 1 2"), [[0, 1, 2]]);
}

/** More than is shown is computed, and memory grows for it. */
async function large() {
  const table = randomRows(3000, 60);
  // Typed, it would take Chromium half a minute.
  await browser.value(`document.getElementById("table").value = ${JSON.stringify(asText(table, "\t"))}`);
  await type("weights", " ");
  const result = await shown();
  assert.equal(result.rows, "3000");
  assert.deepEqual([result.byRow.length, result.byRow[0].length], [200, 54]);
  const loss = table.reduce((sum, [label, ...logits]) =>
    sum + Math.log(logits.reduce((t, x) => t + Math.exp(Math.fround(x) - Math.fround(logits[label])), 0)), 0);
  close(result.loss, loss / 3000, "the mean of many rows");
}

/** Names for those who do not see the page, and room for those whose screen is small. */
async function accessible() {
  const { nodes } = await browser.send("Accessibility.getFullAXTree");
  const controls = nodes.filter(({ ignored, role }) => !ignored && ["textbox", "combobox", "button"].includes(role.value));
  assert.deepEqual(controls.map(({ name }) => name.value), ["Table of logits", "Class weights", "Backend"]);
  assert.equal(await browser.value('document.getElementById("loss").closest("[aria-live]").ariaLive'), "polite");
  for (const width of [320, 800, 1600]) {
    await browser.send("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile: false });
    const { scrollWidth, clientWidth } = await browser.value(
      "(({ scrollWidth, clientWidth }) => ({ scrollWidth, clientWidth }))(document.documentElement)");
    assert.ok(scrollWidth <= clientWidth, `${scrollWidth} wide in a window of ${clientWidth}`);
  }
}

/** A page without its module says so. */
async function withoutModule() {
  const empty = await serve("/nowhere");
  await browser.send("Page.navigate", { url: `http://127.0.0.1:${empty.address().port}/` });
  await browser.until('document.getElementById("fault")?.innerText.includes("The module is not at http")');
  empty.closeAllConnections();
  empty.close();
}

try {
  // What is there from the beginning.
  const sample = await shown();
  const [, ...lines] = (await browser.value('document.getElementById("table").value')).trim().split("\n");
  compare(sample, lines.map((line) => line.split("\t").map(parsed)), [1, 5, 20]);
  assert.equal(sample.backend, "simd128");
  assert.deepEqual(sample.byRow[0].slice(0, 4), ["0", "2", "0 benign", "8.279875e-8"]);

  await accessible();
  await notations();
  await backends();
  await nonFinite();
  await mistakes();
  await large();
  assert.deepEqual(browser.complaints, []);
  await withoutModule();
  console.log(`${String(compared).padStart(4)} numbers as the textbook has them, ${await browser.version()}`);
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
}
