// A page in headless Chromium, driven over a pipe by the DevTools protocol.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Browser {
  #process; #profile; #session; #pending = new Map(); #last = 0;
  /** What the page complained about: exceptions, failed requests, errors on its console. */
  complaints = [];

  static async open(url, program = process.env.CHROMIUM ?? "chromium") {
    const browser = new Browser();
    browser.#profile = await mkdtemp(join(tmpdir(), "page-"));
    browser.#process = spawn(program, [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
      "--no-first-run", "--remote-debugging-pipe", `--user-data-dir=${browser.#profile}`, "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.#process.once("error", (error) => browser.#end(error));
    browser.#process.once("exit", (status) => browser.#end(new Error(`the browser ended with status ${status}`)));
    browser.#process.stdio[3].on("error", (error) => browser.#end(error));
    browser.#receive();
    try {
      const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
      const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
      browser.#session = sessionId;
      for (const domain of ["Page", "Runtime", "Log"]) await browser.send(`${domain}.enable`);
      await browser.send("Page.navigate", { url });
    } catch (error) {
      await browser.close();
      throw error;
    }
    return browser;
  }

  /** Messages end with a zero byte. */
  #receive() {
    let rest = Buffer.alloc(0);
    this.#process.stdio[4].on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      for (let end; (end = rest.indexOf(0)) >= 0; rest = rest.subarray(end + 1)) {
        const { id, method, params, result, error } = JSON.parse(rest.subarray(0, end).toString());
        if (id !== undefined) {
          const { resolve, reject, asked } = this.#pending.get(id);
          this.#pending.delete(id);
          error ? reject(new Error(`${asked}: ${error.message}`)) : resolve(result);
        } else if (method === "Runtime.exceptionThrown") {
          this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
        } else if (method === "Log.entryAdded" && params.entry.level !== "verbose") {
          this.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
        }
      }
    });
  }

  #end(error) {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  send(method, params = {}) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, asked: method });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.#session })}\0`);
    });
  }

  /** What an expression is in the page. */
  async value(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  /** Waits until an expression is true in the page. */
  async until(expression, seconds = 20) {
    const deadline = Date.now() + 1000 * seconds;
    while (!(await this.value(expression))) {
      if (Date.now() > deadline) {
        throw new Error([`not true within ${seconds} s: ${expression}`, ...this.complaints].join("\n"));
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Presses a key, by its name and its code on Windows; 2 among the modifiers is Ctrl. */
  async press(key, code, modifiers = 0, commands = []) {
    const event = { key, code: key, windowsVirtualKeyCode: code, modifiers };
    const text = key === "Enter" ? "\r" : undefined;
    await this.send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", text, commands, ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async version() {
    return (await this.send("Browser.getVersion")).product;
  }

  async close() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    if (this.#process.exitCode === null && this.#process.pid) {
      this.#process.kill("SIGKILL");
      await ended;
    }
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
