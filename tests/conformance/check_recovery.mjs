// Exact or told: npm `centrifuge` behind a bad network (`fanwire-loadtest proxy`), while others
// publish without a pause. Whatever breaks, it gets everything once and in order, or is told.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { environment, load, run, same, start, tester, token, within } from "./server.mjs";

const { Centrifuge } = load("centrifuge");
const { Centrifuge: Protobuf } = load("centrifuge/build/protobuf");
const WebSocket = load("ws");

const BUILDS = { JSON: Centrifuge, protobuf: Protobuf };
const KEY = "a-key-of-these-checks";
const SECRET = "a secret of these checks";
const CONFIG = `
[auth]
jwt_hmac_secret = "${SECRET}"
api_keys = ["${KEY}"]
[drain]
window = "100ms"
[limits]
ping_interval = "1s"
pong_timeout = "5s"
[[topic]]
match = "short*"
history_size = 3
[[topic]]
match = "*"
history_size = 1000
`;
const BREAKS_MIN = 5;
const CROWD = 100;
/** What the crowd's faults come from. */
const SEED = Number(process.env.FANWIRE_RECOVERY_SEED ?? 1);

/** Runs `body` with the address of a proxy before `server` that has these faults. */
async function withProxy(server, faults, body) {
  const child = spawn(tester, ["proxy", "--to", new URL(server.url).host, ...faults], {
    env: environment,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  try {
    const [line] = await within(once(createInterface({ input: child.stdout }), "line"), "address of the proxy");
    await body(line.split(" ")[1]);
  } finally {
    child.kill("SIGTERM");
    same((await within(ended, "end of the proxy"))[0], 0);
  }
}

/** The same with a proxy for each of `faults`. */
function withProxies(server, [first, ...others], body, urls = []) {
  if (first === undefined) return body(urls);
  return withProxy(server, first, (url) => withProxies(server, others, body, [...urls, url]));
}

/** Numbers below `limit` that a seed gives again (Mulberry32). */
function generator(seed) {
  return (limit) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

/** Ways to a server: a WebSocket, and what a client falls back to where there is none. */
const ROUTES = {
  websocket: (url) => `${url.replace("http", "ws")}/connection/websocket`,
  http_stream: (url) => [
    { transport: "websocket", endpoint: `${url.replace("http", "ws")}/connection/nowhere` },
    { transport: "http_stream", endpoint: `${url}/connection/http_stream` },
  ],
};

/** A subscriber that looks at every offset and payload it gets, and counts what it is told. */
class Witness {
  constructor(build, url, topic, { user = "", route = ROUTES.websocket } = {}) {
    this.client = new build(route(url), {
      emulationEndpoint: `${url}/emulation`,
      websocket: WebSocket,
      minReconnectDelay: 10,
      maxReconnectDelay: 50,
      maxServerPingDelay: 500,
      timeout: 2000,
      token: user && token(SECRET, { sub: user }),
    });
    this.topic = this.client.newSubscription(topic, { recoverable: true });
    this.counts = { breaks: 0, recovered: 0, unrecovered: 0, got: 0 };
    this.topic.on("subscribing", ({ code }) => { if (code !== 0) this.counts.breaks++; });
    this.topic.on("subscribed", (told) => this.onSubscribed(told));
    this.topic.on("publication", (publication) => this.onPublication(publication));
    this.client.on("connected", ({ transport }) => { this.transport = transport; });
    this.client.connect();
    this.topic.subscribe();
  }

  onSubscribed({ wasRecovering, recovered, streamPosition }) {
    if (wasRecovering && recovered) {
      this.counts.recovered++;
      if (streamPosition.epoch !== this.epoch) this.fault ??= `recovered into epoch ${streamPosition.epoch}`;
      return;
    }
    if (wasRecovering) this.counts.unrecovered++;
    // From here on, and with the loss told: the stream goes on after this position.
    ({ epoch: this.epoch, offset: this.offset } = streamPosition);
    this.wake?.();
  }

  onPublication({ offset, data }) {
    this.counts.got++;
    const said = data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data;
    if (offset !== this.offset + 1) this.fault ??= `offset ${offset} after ${this.offset}`;
    // The publisher's numbers are the offsets.
    if (said !== offset) this.fault ??= `${JSON.stringify(said)} at offset ${offset}`;
    this.offset = offset;
    this.wake?.();
  }

  async reach(offset) {
    while (this.offset !== offset && !this.fault) await new Promise((wake) => { this.wake = wake; });
    if (this.fault) throw new Error(this.fault);
  }

  async subscribed() {
    await within(this.topic.ready(), "subscription");
  }

  /** Leaves, and says what it met. */
  leave() {
    this.client.disconnect();
    return this.counts;
  }
}

/**
 * Publishes 1, 2, 3 .. while `goes()`, some hundreds a second or, with no `gap`, as fast as they are
 * acknowledged; returns the last number.
 */
async function publish(server, topic, goes, gap = 4) {
  let number = 0;
  do {
    same((await server.publish(topic, String(++number))).offset, number);
    await pause(gap);
  } while (await goes(number));
  return number;
}

/** Waits while `witness` is further behind than one recovery can mend (300 publications). */
async function mendable(witness, number) {
  while (number - witness.offset > 250 && !witness.fault) await pause(4);
}

const server = await start(CONFIG);
const cases = {};

/** A steady stream to a client that meets `faults` again and again; `hold` may slow it down. */
async function tortured(build, topic, faults, hold = () => {}) {
  let counts;
  await withProxy(server, faults, async (url) => {
    const witness = new Witness(build, url, topic);
    await witness.subscribed();
    const last = await publish(server, topic, async (number) => {
      await hold(witness, number);
      return !witness.fault && (number < 300 || witness.counts.breaks < BREAKS_MIN);
    });
    await within(witness.reach(last), `publication ${last}, got ${witness.offset}`);
    counts = witness.leave();
  });
  same(counts.breaks >= BREAKS_MIN, true);
  return counts;
}

const FAULTS = {
  "resets in the middle of frames": ["--reset-after", "20011B"],
  "resets, and bytes that come one by one": ["--reset-after", "700ms", "--split"],
  "ends without a close frame, late and uneven": ["--close-after", "600ms", "--delay", "15ms", "--jitter", "15ms"],
};
for (const [name, build] of Object.entries(BUILDS)) {
  for (const [what, faults] of Object.entries(FAULTS)) {
    cases[`all arrives once and in order through ${what} (${name})`] = async () => {
      const counts = await tortured(build, `${what} ${name}`.replace(/\W+/g, "-"), faults, mendable);
      same([counts.unrecovered, counts.recovered >= BREAKS_MIN - 1], [0, true]);
    };
  }

  cases[`more missed than is kept is told every time (${name})`] = async () => {
    const counts = await tortured(build, `short-${name}`, ["--reset-after", "500ms", "--delay", "30ms"]);
    same(counts.unrecovered >= BREAKS_MIN - 1, true);
  };

  cases[`a line that goes dead is noticed, and nothing is lost untold (${name})`] = async () => {
    const topic = `dead-${name}`;
    await withProxy(server, ["--stall-after", "400ms"], async (url) => {
      const witness = new Witness(build, url, topic);
      await witness.subscribed();
      const last = await publish(server, topic, () => !witness.fault && witness.counts.breaks < 2);
      await within(witness.reach(last), `publication ${last}`);
      const { recovered, unrecovered } = witness.leave();
      same(recovered + unrecovered >= 2, true);
    });
  };

  cases[`another server in the place of a drained one is not taken for it (${name})`] = async () => {
    const first = await start(CONFIG);
    await withProxy(first, ["--delay", "5ms"], async (url) => {
      const witness = new Witness(build, url, "restart");
      await witness.subscribed();
      await witness.reach(await publish(first, "restart", (number) => number < 50));
      const { epoch } = witness;
      const told = once(witness.client, "connecting");
      await first.stop();
      same((await within(told, "word of the drain"))[0].code, 3001);
      const second = await start(CONFIG, new URL(first.url).host);
      await witness.subscribed();
      await witness.reach(await publish(second, "restart", (number) => number < 50));
      const { unrecovered, got } = witness.leave();
      same([unrecovered, witness.epoch === epoch, got], [1, false, 100]);
      await second.stop();
    });
  };
}

/** Many clients on bad lines of several kinds, while one publishes as fast as the slowest follows. */
async function crowd(name, build) {
  const random = generator(SEED);
  const faults = [
    ["--reset-after", `${2000 + random(5000)}B`],
    ["--reset-after", `${300 + random(600)}ms`, "--split"],
    ["--close-after", `${2000 + random(5000)}B`, "--jitter", `${random(10)}ms`, "--seed", `${SEED}`],
    ["--close-after", `${300 + random(600)}ms`, "--delay", `${random(10)}ms`],
  ];
  const topic = `crowd-${name}`;
  await withProxies(server, faults, async (urls) => {
    const routes = Object.entries(ROUTES);
    const witnesses = Array.from({ length: CROWD }, (_, index) => {
      const [user, route] = [`crowd-${index}-${name}`, routes[index % routes.length][1]];
      return new Witness(build, urls[random(urls.length)], topic, { user, route });
    });
    await Promise.all(witnesses.map((witness) => witness.subscribed()));
    const sum = (what) => witnesses.reduce((sum, witness) => sum + witness.counts[what], 0);
    const last = await publish(server, topic, async (number) => {
      if (number % 20 === 0) await disconnect(`crowd-${random(CROWD)}-${name}`, { code: 3011, reason: "" });
      await Promise.all(witnesses.map((witness) => mendable(witness, number)));
      return !witnesses.some(({ fault }) => fault) && (number < 600 || sum("breaks") < BREAKS_MIN * CROWD);
    }, 0);
    await Promise.all(witnesses.map((witness, index) =>
      within(witness.reach(last), `publication ${last} for client ${index}, got ${witness.offset}`)));
    witnesses.forEach((witness, index) => {
      const { recovered, unrecovered } = witness.leave();
      same([witness.transport, unrecovered, recovered > 0], [routes[index % routes.length][0], 0, true]);
    });
    same(sum("recovered") >= (BREAKS_MIN - 1) * CROWD, true);
  }).catch((error) => { throw new Error(`FANWIRE_RECOVERY_SEED=${SEED}: ${error.message}`); });
}

for (const [name, build] of Object.entries(BUILDS)) {
  cases[`a hundred clients, cut at random under load, get all once and in order (${name})`] = () => crowd(name, build);
}

/** Sends a user's clients away. */
async function disconnect(user, disconnect) {
  const answer = await fetch(`${server.url}/api/disconnect`, {
    method: "POST", headers: { "X-API-Key": KEY }, body: JSON.stringify({ user, disconnect }),
  });
  same(await answer.json(), { result: {} });
}

for (const [name, build] of Object.entries(BUILDS)) {
  cases[`who is sent away by the server API comes back for all of it, or stays away (${name})`] = async () => {
    const [topic, user] = [`api-${name}`, `ann-${name}`];
    await withProxy(server, ["--delay", "5ms"], async (url) => {
      const witness = new Witness(build, url, topic, { user });
      const codes = [];
      witness.client.on("connecting", ({ code }) => codes.push(code));
      await witness.subscribed();
      const last = await publish(server, topic, async (number) => {
        if (number % 60 === 0) {
          await witness.subscribed();
          await disconnect(user, { code: 3011, reason: "force reconnect" });
        }
        await mendable(witness, number);
        return !witness.fault && number < 60 * BREAKS_MIN + 30;
      });
      await within(witness.reach(last), `publication ${last}, got ${witness.offset}`);
      const { breaks, recovered, unrecovered } = witness.counts;
      same([breaks, recovered, unrecovered], [BREAKS_MIN, BREAKS_MIN, 0]);
      same(codes, Array(BREAKS_MIN).fill(3011));
      const gone = once(witness.client, "disconnected");
      await disconnect(user);
      same((await within(gone, "end"))[0].code, 3503);
      witness.leave();
    });
  };
}

cases["the server stops well after all of them"] = () => server.stop();

await run(cases);
process.exit();
