// The Centrifugo door as the browser builds of npm `centrifuge` see it, in a real page.

import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { basename, join } from "node:path";
import { browser, withPage } from "./browser.mjs";
import { relay } from "./relay.mjs";
import { examples, logs, packages, run, same, soon, start, token as sign } from "./server.mjs";

const BUILDS = { JSON: "centrifuge.js", protobuf: "centrifuge.protobuf.js" };
const SECRET = "a secret of these checks";
const CONFIG = `
[auth]
jwt_hmac_secret = "${SECRET}"
[drain]
window = "100ms"
[[topic]]
match = "announcements*"
publish = "server"
[[topic]]
match = "there*"
presence = true
[[topic]]
match = "forgetful*"
history_size = 0
`;

const token = (claims) => sign(SECRET, claims);

/** What the page has beside the SDK: clients, and what they are told. */
function prelude(name) {
  const isText = name === "JSON";
  const door = `${location.origin.replace("http", "ws")}/connection/websocket`;
  Object.assign(window, {
    payload: (value) => (isText ? value : new TextEncoder().encode(JSON.stringify(value))),
    value: (data) => (data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data),
    next: (emitter, event) => new Promise((found) => emitter.once(event, found)),
    several: (emitter, event, count) => new Promise((found) => {
      const all = [];
      emitter.on(event, (context) => { if (all.push(context) === count) found(all); });
    }),
    refused: (call) => call.then(() => null, ({ code }) => code),
    newClient: (options = {}) =>
      new Centrifuge(door, { minReconnectDelay: 20, maxReconnectDelay: 100, ...options }),
    async connect(options) {
      const client = newClient(options);
      const connected = next(client, "connected");
      client.connect();
      client.told = await connected;
      return client;
    },
    async subscribe(client, channel, options) {
      const subscription = client.newSubscription(channel, options);
      const subscribed = next(subscription, "subscribed");
      subscription.subscribe();
      subscription.told = await subscribed;
      return subscription;
    },
  });
}

/** A page of the server's origin with one of the SDK's builds in it. */
const withSdk = (name, url, body) => withPage({}, async (page) => {
  await page.goto(`${url}/topics/blank/history`);
  await page.addScriptTag({ path: join(packages, "centrifuge/dist", BUILDS[name]) });
  await page.evaluate(prelude, name);
  return body(page);
});

const server = await start(CONFIG);
const cases = {};
for (const name of Object.keys(BUILDS)) {
  const add = (what, one) => { cases[`${what} (${name})`] = one; };

  add("two pages get each other's publications, with their publisher", () =>
    withSdk(name, server.url, (one) => withSdk(name, server.url, async (other) => {
      const ready = (page) => page.evaluate(async (topic) => {
        window.client = await connect();
        window.topic = await subscribe(client, topic);
        window.arrived = several(window.topic, "publication", 2);
        return client.told.client;
      }, `pages-${name}`);
      const clients = [await ready(one), await ready(other)];
      await one.evaluate(() => topic.publish(payload({ text: "grüße" })));
      await other.evaluate(() => topic.publish(payload({ text: "hello" })));
      for (const page of [one, other]) {
        const got = await page.evaluate(async () =>
          (await arrived).map(({ data, offset, info }) => [value(data).text, offset, info.client]));
        same(got, [["grüße", 1, clients[0]], ["hello", 2, clients[1]]]);
      }
    })));

  add("publications cross doors, and history is read both ways", () =>
    withSdk(name, server.url, async (page) => {
      const topic = `doors-${name}`;
      await page.evaluate(async (topic) => {
        window.topic = await subscribe(await connect(), topic);
        window.arrived = next(window.topic, "publication");
      }, topic);
      await server.publish(topic, '{"from":"curl"}');
      same(await page.evaluate(async () => value((await arrived).data)), { from: "curl" });
      await page.evaluate(() => topic.publish(payload({ from: "browser" })));
      const { publications } = await (await fetch(`${server.topic(topic)}/history`)).json();
      same(publications.at(-1).data, '{"from":"browser"}');
      const [forward, backward] = await page.evaluate(async () => {
        const offsets = async (options) =>
          (await topic.history(options)).publications.map(({ offset }) => offset);
        return [await offsets({ limit: 10 }), await offsets({ limit: 10, reverse: true })];
      });
      same([forward, backward], [[1, 2], [2, 1]]);
    }));

  add("what was missed comes after a cut, once and in order", async () => {
    const path = await relay(server);
    try {
      await withSdk(name, path.url, async (page) => {
        const topic = `cut-${name}`;
        await page.evaluate(async (topic) => {
          window.topic = await subscribe(await connect(), topic);
          window.left = next(window.topic, "subscribing");
          window.back = next(window.topic, "subscribed");
          window.arrived = several(window.topic, "publication", 60);
        }, topic);
        for (let number = 1; number <= 60; number++) {
          await server.publish(topic, String(number));
          if (number === 20) {
            path.cut();
            await page.evaluate(async () => { await left; });
          }
        }
        const [got, { wasRecovering, recovered }] = await page.evaluate(async () =>
          [(await arrived).map(({ data }) => value(data)), await back]);
        same(got, Array.from({ length: 60 }, (_, index) => index + 1));
        same([wasRecovering, recovered], [true, true]);
      });
    } finally {
      path.close();
    }
  });

  add("a server that began anew is not taken for the old one", async () => {
    const first = await start(CONFIG);
    const path = await relay(first);
    try {
      await withSdk(name, path.url, async (page) => {
        const before = await page.evaluate(async () => {
          window.topic = await subscribe(await connect(), "anew");
          window.back = next(window.topic, "subscribed");
          await topic.publish(payload("old"));
          return topic.told.streamPosition.epoch;
        });
        await first.stop();
        const second = await start(CONFIG);
        path.retarget(second);
        const { wasRecovering, recovered, streamPosition } = await page.evaluate(() => back);
        same([wasRecovering, recovered, streamPosition.epoch === before], [true, false, false]);
        await page.evaluate(() => { window.arrived = next(topic, "publication"); });
        await second.publish("anew", '"new"');
        same(await page.evaluate(async () => value((await arrived).data)), "new");
        await second.stop();
      });
    } finally {
      path.close();
    }
  });

  add("a token names the user, brings subscriptions, and is renewed", () =>
    withSdk(name, server.url, async (page) => {
      const channels = [`news-${name}`];
      const claims = { sub: "ann", channels, info: { name: "Ann" } };
      await page.exposeFunction("renew", () => token({ ...claims, exp: soon(60) }));
      const got = await page.evaluate(async ([token, channel]) => {
        let renewed;
        const asked = new Promise((found) => { renewed = found; });
        const client = newClient({ token, getToken: async () => { renewed(); return renew(); } });
        const given = next(client, "subscribed");
        client.connect();
        const { channel: name } = await given;
        const arrived = next(client, "publication");
        await asked;
        await client.publish(channel, payload(1));
        const { info } = await arrived;
        return [name, info.user, value(info.connInfo), client.state];
      }, [token({ ...claims, exp: soon(2) }), channels[0]]);
      same(got, [channels[0], "ann", { name: "Ann" }, "connected"]);
    }));

  add("a subscription token lets in, and is renewed", () =>
    withSdk(name, server.url, async (page) => {
      const lives = [2, 60];
      await page.exposeFunction("grant", (channel) =>
        token({ sub: "ann", channel, exp: soon(lives.shift()) }));
      const state = await page.evaluate(async ([token, channel]) => {
        let count = 0;
        let renewed;
        const asked = new Promise((found) => { renewed = found; });
        const getToken = async ({ channel }) => {
          if (++count === 2) renewed();
          return grant(channel);
        };
        const topic = await subscribe(await connect({ token }), channel, { getToken });
        await asked;
        const arrived = next(topic, "publication");
        await topic.publish(payload("still here"));
        await arrived;
        return topic.state;
      }, [token({ sub: "ann" }), `$private-${name}`]);
      same(state, "subscribed");
    }));

  add("members are listed, and heard to come and go", () =>
    withSdk(name, server.url, async (one) => {
      const topic = `there-${name}`;
      const own = await one.evaluate(async ([channel, token]) => {
        const client = await connect({ token });
        window.topic = client.newSubscription(channel, { joinLeave: true });
        window.joined = several(topic, "join", 2);
        window.left = next(topic, "leave");
        topic.subscribe();
        return client.told.client;
      }, [topic, token({ sub: "ann" })]);
      const guest = await withSdk(name, server.url, async (other) => {
        const client = await other.evaluate(async ([channel, token]) => {
          window.client = await connect({ token });
          await subscribe(client, channel);
          return client.told.client;
        }, [topic, token({ sub: "bob" })]);
        same(await one.evaluate(async () => (await joined).map(({ info }) => info.client)), [own, client]);
        const users = await one.evaluate(async () =>
          Object.values((await topic.presence()).clients).map(({ user }) => user).sort());
        same(users, ["ann", "bob"]);
        return client;
      });
      // The page is gone, and so is its client.
      same(await one.evaluate(async () => (await left).info.client), guest);
      same(await one.evaluate(() => topic.presenceStats()), { numUsers: 1, numClients: 1 });
    }));

  add("refusals have the codes of the protocol", () =>
    withSdk(name, server.url, async (page) => {
      const codes = await page.evaluate(async (forged) => {
        const client = await connect();
        const denied = client.newSubscription("$private");
        const unsubscribed = next(denied, "unsubscribed");
        denied.subscribe();
        const stranger = newClient({ token: forged });
        const disconnected = next(stranger, "disconnected");
        stranger.connect();
        return [
          await refused(client.publish("announcements", payload(1))),
          await refused(client.history("forgetful", { limit: 1 })),
          await refused(client.presence("quiet")),
          await refused(client.rpc("method", payload(1))),
          (await unsubscribed).code,
          (await disconnected).code,
        ];
      }, `${token({ sub: "ann" }).slice(0, -4)}AAAA`);
      same(codes, [103, 108, 108, 108, 103, 3500]);
    }));
}

cases["a page listens without an SDK, by what browsers have"] = () =>
  withPage({}, async (page) => {
    await page.goto(`${server.url}/topics/blank/history`);
    await page.evaluate(() => {
      const request = JSON.stringify({ subs: { bare: {} } });
      window.got = { socket: [], events: [], stream: [] };
      const query = new URLSearchParams({ cf_connect: request });
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/connection/uni_websocket`);
      socket.onopen = () => socket.send(request);
      socket.onmessage = ({ data }) => got.socket.push(JSON.parse(data));
      new EventSource(`/connection/uni_sse?${query}`).onmessage = ({ data }) => got.events.push(JSON.parse(data));
      (async () => {
        const { body } = await fetch("/connection/uni_http_stream", { method: "POST", body: request });
        const reader = body.pipeThrough(new TextDecoderStream()).getReader();
        for (let rest = ""; ;) {
          const { value, done } = await reader.read();
          if (done) return;
          const lines = (rest + value).split("\n");
          rest = lines.pop();
          got.stream.push(...lines.map((line) => JSON.parse(line)));
        }
      })();
    });
    const have = (count) => page.waitForFunction(
      (count) => Object.values(got).every((all) => all.length === count), count);
    await have(1);
    await server.publish("bare", '{"from":"curl"}');
    await have(2);
    const all = await page.evaluate(() => Object.values(got));
    for (const [{ connect }, { channel, pub }] of all) {
      same([Object.keys(connect.subs), channel, pub.data, pub.offset], [["bare"], "bare", { from: "curl" }, 1]);
    }
  });

/** The folder of the examples with the SDK beside them, at an address of its own. */
async function withExamples(body) {
  const listener = createServer((request, response) => {
    const name = basename(new URL(request.url, "http://localhost").pathname);
    const file = join(name === BUILDS.JSON ? join(packages, "centrifuge/dist") : examples, name);
    if (!existsSync(file)) return response.writeHead(404).end(); // the browser looks for an icon
    response.setHeader("Content-Type", name.endsWith(".js") ? "text/javascript" : "text/html");
    return response.end(readFileSync(file));
  }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  try {
    await body(`http://127.0.0.1:${listener.address().port}`);
  } finally {
    listener.closeAllConnections();
    listener.close();
  }
}

cases["the chat with the SDK and the one without chat with each other"] = () => withExamples(async (url) => {
  const server = await start(`
[drain]
window = "100ms"
[websocket]
allowed_origins = ["${url}"]
`);
  const path = await relay(server);
  const bubbles = (page) => page.$$eval(".bubble", (all) => all.map((one) => one.textContent));
  const bubble = (page, text) => page.waitForSelector(`.bubble:text-is(${JSON.stringify(text)})`);
  const say = async (page, text) => {
    await page.fill("#text", text);
    await page.press("#text", "Enter");
  };
  const live = (page) => page.waitForSelector("#state[data-state=live]");
  await server.publish("chat", "said before");
  await withPage({ viewport: { width: 1100, height: 760 } }, (native) =>
    withPage({ viewport: { width: 390, height: 780 }, colorScheme: "dark", hasTouch: true, isMobile: true }, async (sdk) => {
      const address = (page, at) => `${url}/${page}?server=${encodeURIComponent(at.url)}`;
      await native.goto(address("chat.html", server));
      await sdk.goto(address("chat-centrifugo.html", path));
      for (const page of [native, sdk]) await live(page).then(() => bubble(page, "said before"));
      await say(sdk, "from the SDK");
      await bubble(native, "from the SDK");
      await say(native, "from the bare socket");
      await bubble(sdk, "from the bare socket");
      path.cut();
      await sdk.waitForSelector("#state[data-state=waiting]");
      await say(native, `<img src=x onerror="document.title='broken in'">`);
      await live(sdk);
      await say(sdk, "back again");
      for (const page of [native, sdk]) {
        await bubble(page, "back again");
        same(await bubbles(page), ["said before", "from the SDK", "from the bare socket",
          `<img src=x onerror="document.title='broken in'">`, "back again"]);
        same(await page.$$eval(".note, #messages img", (all) => all.length), 0);
      }
      same(await sdk.$$eval(".own .bubble", (all) => all.length), 2);
      await sdk.screenshot({ path: join(logs, "chat-centrifugo-phone.png") });
    }));
  path.close();
  await server.stop();
});

cases["the server stops well after all of them"] = () => server.stop();

await run(cases);
await browser.close();
