// The plain door as the npm package `ws` sees it.

import { once } from "node:events";
import { load, run, same, start, within } from "./server.mjs";

const WebSocket = load("ws");

const config = `
[limits]
message_bytes_max = 1000
[drain]
window = "100ms"
`;
const server = await start(config);

/** An open socket with `next()` for its messages; those before the first call are kept. */
async function open(name, query = "", protocols = [], options = {}) {
  const { at = server, ...rest } = options;
  const socket = new WebSocket(at.ws(name, query), protocols, rest);
  const arrived = [];
  const waiting = [];
  socket.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    waiting.length ? waiting.shift()(message) : arrived.push(message);
  });
  socket.on("upgrade", (response) => { socket.headers = response.headers; });
  socket.next = () => arrived.length
    ? Promise.resolve(arrived.shift())
    : within(new Promise((found) => waiting.push(found)), "message");
  socket.nextObject = async () => JSON.parse(await socket.next());
  await within(once(socket, "open"), "open");
  return socket;
}

async function shut(...sockets) {
  for (const socket of sockets) {
    socket.close();
    await within(once(socket, "close"), "close");
  }
}

async function closed(socket, code, reason) {
  const [got, words] = await within(once(socket, "close"), "close");
  same([got, words.toString()], [code, reason]);
}

await run({
  async "every subscriber gets a publication and its sender too"() {
    const [one, other] = [await open("all"), await open("all")];
    one.send("hello");
    same([await one.next(), await other.next()], ["hello", "hello"]);
    await shut(one, other);
  },

  async "text stays text and binary stays binary"() {
    const socket = await open("kinds");
    socket.send("grüße");
    socket.send(Buffer.from([0, 255]));
    same(await socket.next(), "grüße");
    same([...await socket.next()], [0, 255]);
    await shut(socket);
  },

  async "own publications are left out with echo=false"() {
    const [one, other] = [await open("echo", "?echo=false"), await open("echo")];
    one.send("from one");
    same(await other.next(), "from one");
    other.send("from other");
    same(await one.next(), "from other");
    await shut(one, other);
  },

  async "a returning client gets what it missed, in JSON"() {
    const first = await open("return", "?format=json");
    const { subscribed } = await first.nextObject();
    same(first.headers["fanwire-epoch"], subscribed.epoch);
    await shut(first);
    for (const text of ["1", "2", "3"]) await server.publish("return", text);
    const second = await open("return", `?format=json&since=${subscribed.epoch}:1`);
    same((await second.nextObject()).subscribed.recovered, true);
    const [two, three] = [await second.nextObject(), await second.nextObject()];
    same([two.offset, two.data, three.offset, three.data], [2, "2", 3, "3"]);
    await shut(second);
  },

  async "a message over the limit closes with 1009"() {
    const socket = await open("large");
    socket.send("x".repeat(1001));
    await closed(socket, 1009, "message_too_large");
  },

  async "an offer of compression is answered without it"() {
    const socket = await open("deflate");
    same(socket.extensions, "");
    await shut(socket);
  },

  async "compressed and plain subscribers get the same"() {
    const at = await start(`${config}[websocket]\ncompression = true\n`);
    const all = [{ threshold: 0 }, { threshold: 1024 }, { serverMaxWindowBits: 10 }, false];
    const sockets = [];
    for (const perMessageDeflate of all) {
      sockets.push(await open("deflate", "", [], { at, perMessageDeflate }));
      same(sockets.at(-1).extensions, perMessageDeflate ? "permessage-deflate" : "");
    }
    for (const socket of sockets) {
      for (const text of ["", "short", "words, words, words. ".repeat(40)]) {
        socket.send(text);
        for (const subscriber of sockets) same(await subscriber.next(), text);
      }
      socket.send("one, ".repeat(60), { fin: false });
      socket.send("two, ".repeat(60));
      for (const subscriber of sockets) {
        same(await subscriber.next(), "one, ".repeat(60) + "two, ".repeat(60));
      }
      socket.send(Buffer.alloc(1000, 7));
      for (const subscriber of sockets) same([...await subscriber.next()], Array(1000).fill(7));
    }
    sockets[0].send("x".repeat(1001));
    await closed(sockets[0], 1009, "message_too_large");
    await shut(...sockets.slice(1));
    await at.stop();
  },

  async "our subprotocol is selected and others are not"() {
    const ours = await open("sub", "", ["other", "fanwire.plain"]);
    same(ours.protocol, "fanwire.plain");
    await shut(ours);
  },

  async "a ping is answered with its payload"() {
    const socket = await open("ping");
    socket.ping("are you there");
    const [payload] = await within(once(socket, "pong"), "pong");
    same(payload.toString(), "are you there");
    await shut(socket);
  },

  async "a draining server closes with 1012 and ends with 0"() {
    const socket = await open("drain");
    const end = closed(socket, 1012, "draining");
    await server.stop();
    await end;
  },
});
