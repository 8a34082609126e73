// The Centrifugo door's unidirectional transports, as clients without an SDK use them: npm `ws`, npm
// `eventsource`, and `fetch`.

import { load, run, same, soon, start, token as sign, within } from "./server.mjs";
import { relay } from "./relay.mjs";

const WebSocket = load("ws");
const { EventSource } = load("eventsource");
const SECRET = "a secret of these checks";
const CONFIG = `
[auth]
jwt_hmac_secret = "${SECRET}"
personal_topics = true
[websocket]
compression = true
compression_min_bytes = 0
[drain]
window = "100ms"
[[topic]]
match = "there*"
presence = true
`;

const server = await start(CONFIG);
const token = (claims) => sign(SECRET, claims);

/** What a client got, to be taken with `next()`; `ended` gives the close code of a WebSocket. */
function inbox(ended) {
  const [arrived, waiting] = [[], []];
  const put = (push) => (waiting.length ? waiting.shift()(push) : arrived.push(push));
  const next = () => within(arrived.length ? Promise.resolve(arrived.shift()) : new Promise((found) => waiting.push(found)), "push");
  return { put: (text) => put(JSON.parse(text)), next, ended };
}

/** The transports: each begins a session at `url` with a request to connect. */
const transports = {
  ws(url, request) {
    const socket = new WebSocket(`${url.replace("http", "ws")}/connection/uni_websocket`);
    const box = inbox(new Promise((found) => socket.on("close", (code) => found(code))));
    socket.on("open", () => socket.send(JSON.stringify(request)));
    socket.on("message", (data, isBinary) => { same(isBinary, false); box.put(data.toString()); });
    return { ...box, close: () => socket.close() };
  },

  eventsource(url, request) {
    const query = new URLSearchParams({ cf_connect: JSON.stringify(request) });
    const source = new EventSource(`${url}/connection/uni_sse?${query}`);
    const box = inbox(new Promise((found) => source.addEventListener("error", () => found())));
    source.addEventListener("message", ({ data }) => box.put(data));
    return { ...box, close: () => source.close() };
  },

  fetch(url, request) {
    const stop = new AbortController();
    const box = inbox();
    box.ended = (async () => {
      const body = JSON.stringify(request);
      const response = await fetch(`${url}/connection/uni_http_stream`, { method: "POST", body, signal: stop.signal });
      let rest = "";
      for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        lines.forEach(box.put);
      }
      same(rest, "");
    })().catch((error) => { if (error.name !== "AbortError") throw error; });
    return { ...box, close: () => stop.abort() };
  },
};

/** Takes the push that says what the client was connected with. */
async function connected(client) {
  const { connect } = await client.next();
  same([typeof connect.client, typeof connect.session, connect.ping, connect.pong], ["string", "string", 25, undefined]);
  return connect;
}

const cases = {};
for (const [name, open] of Object.entries(transports)) {
  const add = (what, one) => { cases[`${what} (${name})`] = one; };
  const topicName = (word) => `${word}-${name}`;

  add("publications of every door come bare", async () => {
    const topic = topicName("bare");
    const client = open(server.url, { subs: { [topic]: {} } });
    const { subs } = await connected(client);
    same([subs[topic].recoverable, subs[topic].offset], [true, undefined]);
    await server.publish(topic, '{"text":"grüße"}');
    await server.publish(topic, "no JSON");
    const { epoch } = subs[topic];
    same(await client.next(), { channel: topic, pub: { data: { text: "grüße" }, offset: 1, epoch } });
    same(await client.next(), { channel: topic, pub: { data: "no JSON", offset: 2 } });
    client.close();
  });

  add("a token brings its topics", async () => {
    const claims = { sub: name, channels: [topicName("news")], exp: soon(60) };
    const client = open(server.url, { token: token(claims) });
    const { subs, expires, ttl } = await connected(client);
    same([Object.keys(subs), expires, ttl > 50], [[`#${name}`, topicName("news")], true, true]);
    await server.publish(topicName("news"), "1");
    same((await client.next()).pub.data, 1);
    client.close();
  });

  add("what was missed comes after a cut, once and in order", async () => {
    const topic = topicName("cut");
    const path = await relay(server);
    const first = open(path.url, { subs: { [topic]: {} } });
    const { epoch } = (await connected(first)).subs[topic];
    const got = [];
    for (let number = 1; number <= 20; number++) await server.publish(topic, String(number));
    while (got.length < 20) got.push((await first.next()).pub.data);
    path.cut();
    await within(first.ended, "end").catch(() => {});
    first.close();
    for (let number = 21; number <= 40; number++) await server.publish(topic, String(number));
    const back = open(path.url, { subs: { [topic]: { recover: true, epoch, offset: got.length } } });
    const sub = (await connected(back)).subs[topic];
    got.push(...sub.publications.map(({ data }) => data));
    for (let number = 41; number <= 60; number++) await server.publish(topic, String(number));
    while (got.length < 60) got.push((await back.next()).pub.data);
    same([sub.recovered, got], [true, Array.from({ length: 60 }, (_, index) => index + 1)]);
    back.close();
    path.close();
  });

  add("members are heard to come and go", async () => {
    const topic = topicName("there");
    const enter = (user) => open(server.url, { token: token({ sub: user }), subs: { [topic]: {} } });
    const ann = enter("ann");
    await connected(ann);
    const users = [(await ann.next()).join.info.user];
    const bob = enter("bob");
    await connected(bob);
    users.push((await ann.next()).join.info.user);
    bob.close();
    users.push((await ann.next()).leave.info.user);
    same(users, ["ann", "bob", "bob"]);
    ann.close();
  });

  add("a forged token is told and ends the session", async () => {
    const client = open(server.url, { token: `${token({ sub: "ann" }).slice(0, -4)}AAAA` });
    same(await client.next(), { disconnect: { code: 3500, reason: "invalid token" } });
    const code = await within(client.ended, "end");
    if (name === "ws") same(code, 3500);
    client.close();
  });
}

cases["an EventSource that is cut off comes back by itself"] = async () => {
  const path = await relay(server);
  const client = transports.eventsource(path.url, { subs: { again: {} } });
  const first = await connected(client);
  path.cut();
  const second = await connected(client);
  same(first.client === second.client, false);
  await server.publish("again", "1");
  same((await client.next()).pub.data, 1);
  client.close();
  path.close();
};

cases["a draining server says so last"] = async () => {
  const clients = Object.values(transports).map((open) => open(server.url, { subs: { drain: {} } }));
  for (const client of clients) await connected(client);
  await server.publish("drain", "1");
  const stopped = server.stop();
  for (const client of clients) {
    same((await client.next()).pub.data, 1);
    same(await client.next(), { disconnect: { code: 3001, reason: "shutdown" } });
    await within(client.ended, "end");
    client.close();
  }
  await stopped;
};

await run(cases);
