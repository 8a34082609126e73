// The load tester's counts beside those of npm `ws` on the same run: every door, with TLS too.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Certificate } from "./certificate.mjs";
import { environment, load, run, same, start, tester, within } from "./server.mjs";

const WebSocket = load("ws");

const SUBSCRIBERS = 20;
/** How far two counts of the same may be apart, beside what is out when the tester stops counting. */
const APART_MAX = 0.05;
const WINDOW = 4;
// Room for a counter that is slower than the tester.
const CONFIG = `
[limits]
outbox_bytes_max = 67108864
[drain]
window = "100ms"
`;

const certificate = new Certificate();
const folder = mkdtempSync(join(tmpdir(), "fanwire-tester-"));
const servers = { plain: await start(CONFIG), TLS: await start(CONFIG + certificate.config) };

function close(what, got, wanted, out) {
  if (!(Math.abs(got - wanted) <= APART_MAX * wanted + out)) throw new Error(`${what}: ${got}, not about ${wanted}`);
}

/** A subscriber that only counts. */
async function counter(server) {
  const socket = new WebSocket(server.ws("bench-0"), { ca: readFileSync(certificate.trusted) });
  socket.count = 0;
  socket.on("message", () => { socket.count += 1; });
  await within(once(socket, "open"), "open");
  return socket;
}

/** The record of a closed loop on topic `bench-0`. */
async function fanout(server, door) {
  const file = join(folder, "record.json");
  const trust = server.url.startsWith("https") ? ["--ca", certificate.trusted] : [];
  const child = spawn(tester, [
    "fanout", "--url", server.url, ...trust, "--door", door, "--subscribers", String(SUBSCRIBERS),
    "--window", String(WINDOW), "--warmup", "0s", "--duration", "1s", "--pid", String(server.pid), "--json", file,
  ], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
  let told = "";
  child.stderr.on("data", (data) => { told += data; });
  const [code] = await within(once(child, "exit"), "end of the tester").finally(() => child.kill("SIGKILL"));
  if (code !== 0) throw new Error(`it ended with ${code}: ${told}`);
  return JSON.parse(readFileSync(file, "utf8"));
}

const cases = {};
for (const [how, server] of Object.entries(servers)) {
  for (const door of ["plain", "sse", "centrifugo", "mixed"]) {
    cases[`${door} (${how})`] = async () => {
      const other = await counter(server);
      const { publications, deliveries, faults } = await fanout(server, door);
      other.close();
      await within(once(other, "close"), "close");
      same(Object.values(faults).filter((count) => count !== 0), []);
      same(publications > WINDOW, true);
      close("publications", publications, other.count, WINDOW);
      close("deliveries", deliveries, other.count * SUBSCRIBERS, WINDOW * SUBSCRIBERS);
    };
  }
}

await run(cases);
for (const server of Object.values(servers)) await server.stop();
certificate.remove();
rmSync(folder, { recursive: true });
process.exit();
