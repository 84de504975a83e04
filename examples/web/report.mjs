// Prints what every backend of the WebAssembly module computes for the fixed set: node report.mjs MODULE BACKEND
import { readFile } from "node:fs/promises";
import { load } from "./rwwce.mjs";

const [path, backend] = process.argv.slice(2);
const lines = [];
const module = await load(await readFile(path), (classes, name, bits) => {
  lines.push(`${classes} ${name} ${bits.toString(16).padStart(8, "0")}`);
});
if (!module.report(Number(backend))) {
  console.error(`error: backend ${backend} computed nothing`);
  process.exit(1);
}
console.log(lines.join("\n"));
