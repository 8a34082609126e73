// The Centrifugo door as the npm package `centrifuge` sees it, in JSON and in protobuf: over a
// WebSocket, and over the transports for those who cannot have one.

import { once } from "node:events";
import { load, run, same, soon, start, token as sign, within } from "./server.mjs";

const { Centrifuge } = load("centrifuge");
const { Centrifuge: Protobuf } = load("centrifuge/build/protobuf");
const WebSocket = load("ws");
const { EventSource } = load("eventsource");

const SECRET = "a secret of these checks";
const server = await start(`
[auth]
jwt_hmac_secret = "${SECRET}"
[drain]
window = "100ms"
[limits]
ping_interval = "1s"
pong_timeout = "2s"
[[topic]]
match = "forgetful*"
history_size = 0
[[topic]]
match = "short*"
history_size = 3
[[topic]]
match = "there*"
presence = true
`);
const url = () => `${server.url.replace("http", "ws")}/connection/websocket`;

/** A connected client with a `next(emitter, event)` for things to come. */
async function connect(kind, options = {}) {
  const client = new kind(url(), { websocket: WebSocket, minReconnectDelay: 50, ...options });
  const connected = next(client, "connected");
  client.connect();
  client.connectedWith = await connected;
  return client;
}

/** As `connect`, without a WebSocket. */
async function connectOver(transport, kind, options = {}) {
  const endpoint = `${server.url}/connection/${transport}`;
  const client = new kind([{ transport, endpoint }], {
    emulationEndpoint: `${server.url}/emulation`, eventsource: EventSource, minReconnectDelay: 50, ...options,
  });
  const connected = next(client, "connected");
  client.connect();
  client.connectedWith = await connected;
  return client;
}

function next(emitter, event) {
  return within(new Promise((found) => emitter.once(event, found)), event);
}

/** The next `count` values of `event`. */
function several(emitter, event, count) {
  const got = [];
  return within(new Promise((found) => emitter.on(event, (value) => {
    if (got.push(value) === count) found(got);
  })), `${count} times ${event}`);
}

async function subscribe(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, options);
  const subscribed = next(subscription, "subscribed");
  subscription.subscribe();
  subscription.subscribedWith = await subscribed;
  return subscription;
}

/** Leaves, misses 50 publications, and gets them on coming back; gives what it is told then. */
async function comeBack(client, topic, wrap) {
  const own = next(topic, "publication");
  await topic.publish(wrap(0));
  await own;
  const disconnected = next(client, "disconnected");
  client.disconnect();
  await disconnected;
  for (let number = 1; number <= 50; number++) await server.publish(topic.channel, String(number));
  const arrived = several(topic, "publication", 50);
  const subscribed = next(topic, "subscribed");
  client.connect();
  same((await arrived).map((one) => value(one.data)), Array.from({ length: 50 }, (_, index) => index + 1));
  return subscribed;
}

const token = (claims) => sign(SECRET, claims);
const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
const value = (data) => (data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data);

const cases = {};
for (const [name, kind, wrap] of [["JSON", Centrifuge, (data) => data], ["protobuf", Protobuf, bytes]]) {
  const add = (what, one) => { cases[`${what} (${name})`] = one; };

  add("every subscriber gets a publication, with its publisher", async () => {
    const [one, other] = [await connect(kind), await connect(kind)];
    const topics = [await subscribe(one, `all-${name}`), await subscribe(other, `all-${name}`)];
    const arrived = topics.map((topic) => next(topic, "publication"));
    await topics[0].publish(wrap({ text: "hello" }));
    for (const publication of await Promise.all(arrived)) {
      same(value(publication.data), { text: "hello" });
      same(publication.offset, 1);
      same(publication.info.client, one.connectedWith.client);
    }
    one.disconnect();
    other.disconnect();
  });

  add("publications cross doors", async () => {
    const client = await connect(kind);
    const topic = await subscribe(client, `doors-${name}`);
    const arrived = several(topic, "publication", 3);
    await server.publish(`doors-${name}`, '{"from":"curl"}');
    await server.publish(`doors-${name}`, "not JSON");
    await fetch(server.topic(`doors-${name}`), {
      method: "POST", body: new Uint8Array([0, 255]), headers: { "Content-Type": "application/octet-stream" },
    });
    const [json, text, binary] = await arrived;
    if (name === "JSON") {
      same([json.data, text.data, binary.data], [{ from: "curl" }, "not JSON", "AP8="]);
      same(binary.tags, { encoding: "base64" });
    } else {
      const words = (data) => new TextDecoder().decode(data);
      same([words(json.data), words(text.data), [...binary.data]], ['{"from":"curl"}', "not JSON", [0, 255]]);
    }
    await topic.publish(wrap({ from: "centrifuge" }));
    const { publications } = await (await fetch(`${server.topic(`doors-${name}`)}/history`)).json();
    same(publications.at(-1).data, '{"from":"centrifuge"}');
    client.disconnect();
  });

  add("what was missed comes after a reconnect, in order", async () => {
    const client = await connect(kind);
    const topic = await subscribe(client, `missed-${name}`);
    same((await comeBack(client, topic, wrap)).wasRecovering, true);
    client.disconnect();
  });

  add("too much missed is told", async () => {
    const client = await connect(kind);
    const topic = await subscribe(client, `short-${name}`);
    await topic.publish(wrap(0));
    client.disconnect();
    for (let number = 1; number <= 9; number++) await server.publish(`short-${name}`, String(number));
    const subscribed = next(topic, "subscribed");
    client.connect();
    const { wasRecovering, recovered } = await subscribed;
    same([wasRecovering, recovered], [true, false]);
    client.disconnect();
  });

  add("history is read forward and backward", async () => {
    const client = await connect(kind);
    const topic = await subscribe(client, `history-${name}`);
    for (let number = 1; number <= 5; number++) await topic.publish(wrap(number));
    const offsets = ({ publications }) => publications.map((one) => one.offset);
    same(offsets(await topic.history({ limit: 2 })), [1, 2]);
    same(offsets(await topic.history({ limit: 2, reverse: true })), [5, 4]);
    const { epoch, offset, publications } = await topic.history({ limit: 0 });
    same([offset, publications.length], [5, 0]);
    same(offsets(await topic.history({ limit: -1, since: { offset: 3, epoch } })), [4, 5]);
    client.disconnect();
  });

  add("a topic without history and one without presence say so", async () => {
    const client = await connect(kind);
    const topic = await subscribe(client, `forgetful-${name}`);
    const refused = (call) => call.then(() => null, (error) => error.code);
    same([await refused(topic.history({ limit: 1 })), await refused(topic.presence())], [108, 108]);
    client.disconnect();
  });

  add("members are listed, counted, and heard to come and go", async () => {
    const one = await connect(kind, { token: token({ sub: "ann", info: { name: "Ann" } }) });
    const topic = one.newSubscription(`there-${name}`, { joinLeave: true });
    const own = next(topic, "join");
    topic.subscribe();
    same((await own).info.client, one.connectedWith.client);
    const joined = next(topic, "join");
    const other = await connect(kind, { token: token({ sub: "bob" }) });
    await subscribe(other, `there-${name}`);
    same((await joined).info.user, "bob");
    const { clients } = await topic.presence();
    same(Object.values(clients).map(({ user }) => user).sort(), ["ann", "bob"]);
    same(value(clients[one.connectedWith.client].connInfo), { name: "Ann" });
    same(await topic.presenceStats(), { numUsers: 2, numClients: 2 });
    const left = next(topic, "leave");
    other.disconnect();
    same((await left).info.client, other.connectedWith.client);
    same(await topic.presenceStats(), { numUsers: 1, numClients: 1 });
    one.disconnect();
  });

  add("deltas make what was published", async () => {
    const client = await connect(kind);
    const topic = await subscribe(client, `delta-${name}`, { delta: "fossil" });
    const texts = Array.from({ length: 20 }, (_, number) => ({ number, rest: "the same in all of them ".repeat(20) }));
    const arrived = several(topic, "publication", texts.length);
    for (const text of texts) await server.publish(`delta-${name}`, JSON.stringify(text));
    same((await arrived).map(({ data }) => value(data)), texts);
    const metrics = await (await fetch(`${server.admin}/metrics`)).text();
    same(/fanwire_encodings_total\{variant="\w*delta\w*"\} [1-9]/.test(metrics), true);
    client.disconnect();
  });

  add("a token names the user and brings subscriptions", async () => {
    const client = new kind(url(), {
      websocket: WebSocket,
      token: token({ sub: "ann", exp: soon(60), channels: [`news-${name}`], info: { name: "Ann" } }),
    });
    const subscribed = next(client, "subscribed");
    client.connect();
    same((await subscribed).channel, `news-${name}`);
    const arrived = next(client, "publication");
    await client.publish(`news-${name}`, wrap(1));
    const { info, channel } = await arrived;
    same([channel, info.user, value(info.connInfo)], [`news-${name}`, "ann", { name: "Ann" }]);
    client.disconnect();
  });

  add("a token that runs out is renewed", async () => {
    let renewed = 0;
    const client = await connect(kind, {
      token: token({ sub: "ann", exp: soon(2) }),
      getToken: async () => { renewed += 1; return token({ sub: "ann", exp: soon(60) }); },
    });
    const topic = await subscribe(client, `renewed-${name}`);
    await within((async () => {
      while (renewed === 0) await topic.publish(wrap(renewed));
    })(), "renewal");
    same(client.state, "connected");
    client.disconnect();
  });

  add("a forged token is refused for good", async () => {
    const forged = `${token({ sub: "ann" }).slice(0, -4)}AAAA`;
    const client = new kind(url(), { websocket: WebSocket, token: forged });
    const disconnected = next(client, "disconnected");
    client.connect();
    same((await disconnected).code, 3500);
  });

}

const emulated = [
  ["http_stream", "JSON", Centrifuge, (data) => data],
  ["http_stream", "protobuf", Protobuf, bytes],
  ["sse", "JSON", Centrifuge, (data) => data],
];
for (const [transport, name, kind, wrap] of emulated) {
  const add = (what, one) => { cases[`${what} (${transport}, ${name})`] = one; };
  const topicName = (what) => `${what}-${transport}-${name}`;

  add("commands and publications go both ways", async () => {
    const client = await connectOver(transport, kind);
    same(client.connectedWith.transport, transport);
    const topic = await subscribe(client, topicName("both"));
    const arrived = several(topic, "publication", 3);
    for (let number = 1; number <= 2; number++) await topic.publish(wrap(number));
    await server.publish(topicName("both"), "3");
    const got = (await arrived).map((one) => [value(one.data), one.offset]);
    same(got, [[1, 1], [2, 2], [3, 3]]);
    const { publications } = await topic.history({ limit: 10 });
    same(publications.map((one) => value(one.data)), [1, 2, 3]);
    const refused = await topic.presence().then(() => null, (error) => error.code);
    same(refused, 108);
    const disconnected = next(client, "disconnected");
    client.disconnect();
    await disconnected;
  });

  add("what was missed comes after a reconnect, in order", async () => {
    const client = await connectOver(transport, kind);
    const topic = await subscribe(client, topicName("missed"));
    same((await comeBack(client, topic, wrap)).recovered, true);
    client.disconnect();
  });

  add("pings are answered for as long as it takes", async () => {
    const client = await connectOver(transport, kind);
    let ended = 0;
    client.on("connecting", () => { ended += 1; });
    const topic = await subscribe(client, topicName("pings"));
    // One that answers none is closed meanwhile.
    const silent = new WebSocket(url());
    silent.on("open", () => silent.send('{"id":1,"connect":{}}'));
    same((await within(once(silent, "close"), "close"))[0], 3012);
    const arrived = next(topic, "publication");
    await topic.publish(wrap(1));
    same([value((await arrived).data), ended], [1, 0]);
    client.disconnect();
  });

  add("a forged token is refused for good", async () => {
    const forged = `${token({ sub: "ann" }).slice(0, -4)}AAAA`;
    const endpoint = `${server.url}/connection/${transport}`;
    const client = new kind([{ transport, endpoint }], {
      emulationEndpoint: `${server.url}/emulation`, eventsource: EventSource, token: forged,
    });
    const disconnected = next(client, "disconnected");
    client.connect();
    same((await disconnected).code, 3500);
  });
}

cases["a client that does not answer a ping is closed with 3012"] = async () => {
  const socket = new WebSocket(url());
  const messages = [];
  socket.on("message", (data) => messages.push(data.toString()));
  socket.on("open", () => socket.send('{"id":1,"connect":{}}'));
  const [code, reason] = await within(once(socket, "close"), "close");
  same([code, reason.toString(), messages.length, messages[1]], [3012, "no pong", 2, "{}"]);
};

cases["a draining server tells its clients to come back"] = async () => {
  const clients = [await connect(Centrifuge)];
  for (const [transport, , kind] of emulated) clients.push(await connectOver(transport, kind));
  const topics = await Promise.all(clients.map((client) => subscribe(client, "drain")));
  const left = clients.map((client) => next(client, "connecting"));
  await server.stop();
  for (const [index, client] of clients.entries()) {
    const { code } = await left[index];
    same([code, topics[index].state], [3001, "subscribing"]);
    client.disconnect();
  }
};

await run(cases);
process.exit();
