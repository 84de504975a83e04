// Serves the page to this machine: node serve.mjs [MODULE [PORT]]
// The module is that of cargo build --release --target wasm32-unknown-unknown unless told otherwise.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const built = "target/wasm32-unknown-unknown/release/rwwce_web.wasm";
const types = {
  "index.html": "text/html",
  "page.mjs": "text/javascript",
  "rwwce.mjs": "text/javascript",
  [built]: "application/wasm",
};

/** Serves the page with a module, and nothing else; 0 stands for any free port. */
export function serve(module = fileURLToPath(new URL(built, import.meta.url)), port = 0) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const name = pathname === "/" ? "index.html" : pathname.slice(1);
    try {
      if (!Object.hasOwn(types, name)) throw new Error("no such file");
      const content = await readFile(name === built ? module : new URL(name, import.meta.url));
      response.writeHead(200, { "Content-Type": types[name], "Cache-Control": "no-store" }).end(content);
    } catch (error) {
      response.writeHead(404, { "Content-Type": "text/plain" }).end(error.message);
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(process.argv[2], Number(process.argv[3] ?? 8000));
  console.log(`http://127.0.0.1:${server.address().port}/`);
}
