// Prints what every backend of the WebAssembly module computes for the fixed set: node report.mjs MODULE BACKEND
import { readFile } from "node:fs/promises";

const [path, backend] = process.argv.slice(2);
const lines = [];
const host = {
  result(classes, name, length, bits) {
    const text = new TextDecoder().decode(new Uint8Array(instance.exports.memory.buffer, name, length));
    lines.push(`${classes} ${text} ${(bits >>> 0).toString(16).padStart(8, "0")}`);
  },
};
const { instance } = await WebAssembly.instantiate(await readFile(path), { host });
if (instance.exports.report(Number(backend)) !== 1) {
  console.error(`error: backend ${backend} computed nothing`);
  process.exit(1);
}
console.log(lines.join("\n"));
