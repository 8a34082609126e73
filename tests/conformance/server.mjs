// Starts the server for the Node checks, and runs their cases: the twin of server.py.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { createInterface } from "node:readline";

const root = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "../..");
export const examples = join(root, "examples");
export const binary = process.env.TEST_BINARY ?? join(root, "target/debug/fanwire");
export const tester = process.env.TEST_TESTER ?? join(root, "target/debug/fanwire-loadtest");
export const logs = process.env.TEST_LOGS ?? join(root, "target/test-logs");
const tools = process.env.TEST_TOOLS ?? join(root, "target/tools");
const SECONDS_MAX = 30;

/** Packages of package.json, from where `tests/run` put them. */
export const load = createRequire(join(tools, "npm/"));
export const packages = join(tools, "npm/node_modules");

/** Ours without the server's own variables: a developer's must not leak into the checks. */
export const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith("FANWIRE_")),
);

/** Servers that run; a check that fails on its way may not leave them behind. */
const running = new Set();
process.on("exit", () => { for (const child of running) child.kill("SIGKILL"); });

/** Rejects with `what` unless `promise` settles in time. */
export function within(promise, what, seconds = SECONDS_MAX) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function same(got, wanted) {
  const [left, right] = [got, wanted].map((value) => JSON.stringify(value));
  if (left !== right) throw new Error(`got ${left}, wanted ${right}`);
}

/** A JWT (HS256) that says `claims`. */
export function token(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** So many seconds from now, as tokens count time. */
export const soon = (seconds) => Math.floor(Date.now() / 1000) + seconds;

/** A server with `config` (TOML tables); `listen` is a free port unless one is to be taken again. */
export async function start(config = "", listen = "127.0.0.1:0") {
  mkdirSync(logs, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), "fanwire-"));
  const file = join(folder, "fanwire.toml");
  writeFileSync(file, `listen = "${listen}"\nadmin_listen = "127.0.0.1:0"\n${config}`);
  const child = spawn(binary, ["serve", "--config", file], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  const log = join(logs, `${basename(process.argv[1], ".mjs")}.server.log`);
  child.stderr.pipe(createWriteStream(log, { flags: "a" }));
  running.add(child);
  const ended = once(child, "exit").finally(() => {
    running.delete(child);
    rmSync(folder, { recursive: true });
  });
  const server = {
    pid: child.pid,
    log,
    topic: (name, query = "") => `${server.url}/topics/${name}${query}`,
    ws: (name, query = "") => server.topic(name, query).replace("http", "ws"),
    publish: async (name, body) => (await fetch(server.topic(name), { method: "POST", body })).json(),
    async stop() {
      child.kill("SIGTERM");
      const [code] = await within(ended, "end after SIGTERM").finally(() => child.kill("SIGKILL"));
      same(code, 0);
    },
  };
  const addresses = new Promise((found, failed) => {
    ended.then(([code]) => failed(new Error(`the server ended with ${code} before it listened`)), failed);
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [label, url] = line.split(" ");
      if (label === "listening") server.url = url;
      if (label === "admin") found(url);
    });
  });
  server.admin = await within(addresses, "line `admin ..` on stdout").catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
  return server;
}

/** Runs named cases in order and exits; one line each, which `tests/run` counts. */
export async function run(cases) {
  for (const [name, one] of Object.entries(cases)) {
    try {
      await within(one(), "result", 2 * SECONDS_MAX);
      console.log(`ok ${name}`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`not ok ${name}: ${String(error.message ?? error).replace(/\s+/g, " ").slice(0, 300)}`);
    }
  }
}
