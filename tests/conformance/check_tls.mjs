// TLS on the client port as openssl, curl and npm `ws` see it, and a certificate that changes.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { Certificate } from "./certificate.mjs";
import { load, run, same, start, within } from "./server.mjs";

const WebSocket = load("ws");

const certificate = new Certificate();
const server = await start(`
[drain]
window = "100ms"
${certificate.config}`);
const { port } = new URL(server.url);

/** Runs a program to its end; what it said on both its outputs. */
async function output(program, args, input = "") {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => { said += data; });
  child.stdin.on("error", () => {}); // it need not listen
  child.stdin.end(input);
  await within(once(child, "close"), `end of ${program}`).finally(() => child.kill("SIGKILL"));
  return said;
}

const openssl = (...args) => output("openssl", [
  "s_client", "-connect", `127.0.0.1:${port}`, "-servername", "localhost", "-verify_hostname", "localhost",
  "-CAfile", certificate.trusted, "-verify_return_error", "-ign_eof", ...args,
], "GET /topics/openssl/history HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");

const curl = (...args) => output("curl", ["-sS", "-m", "20", "--cacert", certificate.trusted, ...args]);
const address = (topic) => `https://localhost:${port}/topics/${topic}`;

function has(text, ...parts) {
  for (const part of parts) {
    if (!text.includes(part)) throw new Error(`no ${JSON.stringify(part)} in ${JSON.stringify(text.slice(-900))}`);
  }
}

/** A WebSocket over TLS, open, with `next()` for its messages. */
async function open(topic) {
  const socket = new WebSocket(server.ws(topic), { ca: readFileSync(certificate.trusted) });
  socket.next = async () => (await within(once(socket, "message"), "message"))[0].toString();
  await within(once(socket, "open"), "open");
  return socket;
}

/** A `curl -N` of an event stream, with `next()` for the data of its events. */
function events(topic) {
  const child = spawn("curl", ["-sN", "--cacert", certificate.trusted, "-H", "Accept: text/event-stream", address(topic)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const field = async (name) => {
    for (;;) {
      const { value, done } = await within(lines.next(), `${name} of an event`);
      if (done) throw new Error("the stream ended");
      if (value.startsWith(name)) return value.slice(name.length);
    }
  };
  return { opened: () => field("id: "), next: () => field("data: "), close: () => child.kill("SIGKILL") };
}

/** The certificate that a newcomer is shown. */
const shown = async () => /subject=.*CN ?= ?check (\d+)/.exec(await openssl())?.[1];

await run({
  async "the address says https"() {
    same(new URL(server.url).protocol, "https:");
  },

  async "openssl speaks TLS 1.2 and 1.3, HTTP/1.1 by ALPN, and trusts the certificate"() {
    for (const [flag, version] of [["-tls1_2", "TLSv1.2"], ["-tls1_3", "TLSv1.3"]]) {
      const said = await openssl(flag, "-alpn", "h2,http/1.1");
      has(said, `New, ${version}, Cipher is`, "ALPN protocol: http/1.1", "Verify return code: 0 (ok)");
      has(said, "HTTP/1.1 200 OK", '"topic":"openssl"');
    }
  },

  async "a client without ALPN is served, one that speaks h2 only is not"() {
    has(await openssl(), "No ALPN negotiated", "HTTP/1.1 200 OK");
    has(await openssl("-alpn", "h2"), "no application protocol");
  },

  async "older versions of TLS are refused"() {
    const said = await openssl("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0");
    // Which alert it is depends on what else the client offers.
    has(said, "SSL alert number ", "no peer certificate available");
  },

  async "curl publishes and reads over https, in both versions"() {
    for (const [number, version] of ["1.2", "1.3"].entries()) {
      const flags = [`--tlsv${version}`, "--tls-max", version];
      has(await curl(...flags, "-d", `over ${version}`, address("curl")), `"offset":${number + 1}`);
    }
    const { publications } = JSON.parse(await curl(`${address("curl")}/history`));
    same(publications.map(({ data }) => data), ["over 1.2", "over 1.3"]);
  },

  async "curl without TLS is refused"() {
    has(await output("curl", ["-sS", "-m", "20", `http://127.0.0.1:${port}/`]), "curl: (");
  },

  async "an event stream and a WebSocket get the same"() {
    const [socket, stream] = [await open("doors"), events("doors")];
    await stream.opened();
    for (const text of ["one", "two"]) {
      const arrived = socket.next();
      socket.send(text);
      same([await arrived, await stream.next()], [text, text]);
    }
    const arrived = socket.next();
    await curl("-d", "three", address("doors"));
    same([await arrived, await stream.next()], ["three", "three"]);
    stream.close();
    socket.close();
  },

  async "messages of many records arrive whole"() {
    const socket = await open("large");
    const text = "0123456789".repeat(6000);
    for (let round = 0; round < 20; round++) {
      const arrived = socket.next();
      socket.send(text);
      same(await arrived === text, true);
    }
    socket.close();
  },

  async "SIGHUP shows newcomers the new certificate, and nobody leaves"() {
    const [socket, stream] = [await open("renewed"), events("renewed")];
    await stream.opened();
    let closed = false;
    socket.on("close", () => { closed = true; });
    for (const serial of ["2", "3"]) {
      certificate.renew();
      process.kill(server.pid, "SIGHUP");
      await certificate.isShown(server.url);
      same(await shown(), serial);
      const arrived = socket.next();
      await curl("-d", `after ${serial}`, address("renewed"));
      same([await arrived, await stream.next(), closed], [`after ${serial}`, `after ${serial}`, false]);
    }
    stream.close();
    socket.close();
  },

  async "a certificate that is none leaves the old one in its place"() {
    const log = () => readFileSync(server.log, "utf8");
    const before = log().length;
    certificate.spoil();
    process.kill(server.pid, "SIGHUP");
    const told = async () => { while (!log().slice(before).includes("the old one stays")) await pause(20); };
    await within(told(), "word of it in the log");
    same(await shown(), "3");
    const socket = await open("spoiled");
    const arrived = socket.next();
    socket.send("still served");
    same(await arrived, "still served");
    socket.close();
  },

  async "a draining server says goodbye and ends with 0"() {
    const socket = await open("drain");
    const end = within(once(socket, "close"), "close");
    await server.stop();
    const [code, reason] = await end;
    same([code, reason.toString()], [1012, "draining"]);
  },
});
certificate.remove();
process.exit();
