// The example pages in a real browser: native WebSocket and EventSource.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { browser, withPage } from "./browser.mjs";
import { Certificate } from "./certificate.mjs";
import { relay } from "./relay.mjs";
import { binary, environment, examples, logs, run, same, start, within } from "./server.mjs";

const DRAIN = `
[drain]
window = "100ms"
`;
const FROM_FILES = `
[websocket]
allowed_origins = ["null"]
`;

const COMPRESSED = `
[websocket]
compression = true
`;

async function withServer(config, body) {
  const server = await start(config);
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

const live = (page) => page.waitForSelector("#state[data-state=live]");
const bubble = (page, text) => page.waitForSelector(`.bubble:text-is(${JSON.stringify(text)})`);
const bubbles = (page) => page.$$eval(".bubble", (all) => all.map((one) => one.textContent));

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

/** Opens an EventSource on `topic` that keeps what it gets in `window.got`. */
async function listen(page, topic) {
  await page.evaluate((path) => {
    window.got = [];
    window.opened = 0;
    window.source = new EventSource(path);
    window.source.onopen = () => { window.opened++; };
    window.source.onmessage = ({ data }) => window.got.push(data);
    window.source.addEventListener("reset", () => window.got.push("reset"));
  }, `/topics/${topic}`);
  await page.waitForFunction(() => window.opened === 1);
}

const got = (page, last) => page
  .waitForFunction((text) => window.got.includes(text), last)
  .then(() => page.evaluate(() => window.got));

await run({
  "two pages chat with each other": () => withServer(DRAIN, (server) =>
    withPage({ viewport: { width: 1100, height: 760 } }, (one) =>
      withPage({ viewport: { width: 390, height: 780 }, colorScheme: "dark", hasTouch: true, isMobile: true }, async (other) => {
        for (const page of [one, other]) {
          await page.goto(server.url);
          await live(page);
        }
        await one.fill("#name", "Ada");
        await other.fill("#name", "Grace");
        await say(one, "Is anybody out there?");
        await bubble(other, "Is anybody out there?");
        await say(other, "Yes! I came in by telephone.");
        await bubble(one, "Yes! I came in by telephone.");
        await say(one, "Wonderful. It is all one socket, then.");
        await bubble(other, "Wonderful. It is all one socket, then.");
        same(await bubbles(one), await bubbles(other));
        same(await other.$$eval(".own .bubble", (all) => all.length), 1);
        await one.screenshot({ path: join(logs, "chat-desktop.png") });
        await other.screenshot({ path: join(logs, "chat-phone.png") });
      }))),

  "compression is agreed on, and both sides deflate": () => withServer(`${DRAIN}${COMPRESSED}`, (server) =>
    withPage({}, async (page) => {
      await page.goto(server.url);
      const [extensions, ...got] = await page.evaluate(async (url) => {
        const socket = new WebSocket(url);
        socket.binaryType = "arraybuffer";
        const results = [];
        await new Promise((opened) => { socket.onopen = opened; });
        results.push(socket.extensions);
        for (const payload of ["", "short", "many words ".repeat(900), new Uint8Array(5000).fill(7)]) {
          socket.send(payload);
          const { data } = await new Promise((arrived) => { socket.onmessage = arrived; });
          results.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
        }
        socket.close();
        return results;
      }, server.ws("deflate"));
      same(extensions, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
      same(got, ["", "short", "many words ".repeat(900), Array(5000).fill(7)]);
      const metrics = await (await fetch(`${server.admin}/metrics`)).text();
      same(metrics.includes('fanwire_encodings_total{variant="plain_deflate_15"} 2\n'), true);
    })),

  "over TLS pages chat, and stay while the certificate changes": async () => {
    const certificate = new Certificate();
    const trusting = { ignoreHTTPSErrors: true };
    const enter = async (page, url) => {
      const { protocol, subjectName } = await (await page.goto(url)).securityDetails();
      await live(page);
      return [protocol, subjectName];
    };
    await withServer(DRAIN + certificate.config, (server) => withPage(trusting, async (one) => {
      same(await enter(one, server.url), ["TLS 1.3", "check 1"]);
      await listen(one, "chat");
      certificate.renew();
      process.kill(server.pid, "SIGHUP");
      await certificate.isShown(server.url);
      await withPage(trusting, async (other) => {
        same(await enter(other, server.url), ["TLS 1.3", "check 2"]);
        await say(other, "new here");
        await bubble(one, "new here");
        await say(one, "old friend");
        await bubble(other, "old friend");
      });
      const said = await one.evaluate(() => [window.opened, ...window.got.map((data) => JSON.parse(data).text)]);
      same(said, [1, "new here", "old friend"]);
      same(await one.$$eval(".note", (all) => all.length), 0);
    }));
    certificate.remove();
  },

  "markup in a message stays text": () => withServer(DRAIN, (server) =>
    withPage({}, async (page) => {
      await page.goto(`${server.url}/#markup`);
      await live(page);
      const markup = `<img src=x onerror="document.title='broken in'">`;
      await server.publish("markup", markup);
      await server.publish("markup", JSON.stringify({ name: markup, text: markup }));
      await page.waitForFunction(() => document.querySelectorAll(".bubble").length === 2);
      same(await bubbles(page), [markup, markup]);
      same(await page.$$eval("#messages img", (all) => all.length), 0);
    })),

  "the address chooses the topic": () => withServer(DRAIN, (server) =>
    withPage({}, async (page) => {
      await server.publish("team%2Fa%20b", "in team");
      await server.publish("other", "in other");
      await page.goto(`${server.url}/?topic=team%2Fa%20b`);
      await bubble(page, "in team");
      await page.fill("#topic", "other");
      await page.press("#topic", "Enter");
      await bubble(page, "in other");
      same(await bubbles(page), ["in other"]);
    })),

  "the chat recovers what it missed while it was cut off": () => withServer(DRAIN, async (server) => {
    const path = await relay(server);
    try {
      await withPage({}, async (page) => {
        await page.goto(path.url);
        await live(page);
        await say(page, "before");
        await bubble(page, "before");
        path.cut();
        await page.waitForSelector("#state[data-state=waiting]");
        await server.publish("chat", "while away");
        await bubble(page, "while away");
        await say(page, "after").then(() => bubble(page, "after"));
        same(await bubbles(page), ["before", "while away", "after"]);
        same(await page.$$eval(".note", (all) => all.length), 0);
      });
    } finally {
      path.close();
    }
  }),

  "EventSource resumes after a cut without loss or repeat": () => withServer(DRAIN, async (server) => {
    const path = await relay(server);
    try {
      await withPage({}, async (page) => {
        await page.goto(path.url);
        await listen(page, "cut");
        await server.publish("cut", "1");
        await got(page, "1");
        path.cut();
        for (const text of ["2", "3"]) await server.publish("cut", text);
        await got(page, "3");
        await server.publish("cut", "4");
        same(await got(page, "4"), ["1", "2", "3", "4"]);
      });
    } finally {
      path.close();
    }
  }),

  "EventSource is told to reset after a restart": async () => {
    const first = await start(DRAIN);
    const path = await relay(first);
    try {
      await withPage({}, async (page) => {
        await page.goto(path.url);
        await listen(page, "restart");
        await first.publish("restart", "1");
        await got(page, "1");
        await first.stop();
        await withServer(DRAIN, async (second) => {
          path.retarget(second);
          await got(page, "reset");
          await second.publish("restart", "2");
          same(await got(page, "2"), ["1", "reset", "2"]);
        });
      });
    } finally {
      path.close();
    }
  },

  "the vmstat page shows what `fanwire pub --lines` publishes": () => withServer(DRAIN + FROM_FILES, (server) =>
    withPage({ viewport: { width: 1100, height: 900 } }, async (page) => {
      await page.goto(`${pathToFileURL(join(examples, "vmstat.html"))}?server=${encodeURIComponent(server.url)}`);
      await live(page);
      const publisher = spawn(binary, ["pub", "--url", server.url, "--lines", "vmstat"], {
        env: environment,
        stdio: ["pipe", "ignore", "inherit"],
      });
      publisher.stdin.end(vmstat(80));
      same((await within(once(publisher, "exit"), "end of the publisher"))[0], 0);
      await page.waitForFunction(() => document.querySelector("#lines").textContent.includes(" 4079 "));
      const lines = (await page.textContent("#lines")).split("\n");
      same([lines.length, lines[0].includes(" 4079 "), lines.at(-1).includes(" 4020 ")], [60, true, true]);
      same((await page.textContent("#head")).includes("us sy id wa st"), true);
      same(await page.textContent("dd[data-column=id]"), `${idle(79)} %`);
      await page.screenshot({ path: join(logs, "vmstat.png") });
    })),
});
await browser.close();

/** What vmstat writes, `count` samples; sample i has 4000 + i context switches. */
function vmstat(count) {
  const head = [
    "procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----",
    " r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st",
  ];
  const line = (index) => {
    const system = 4 + index % 4;
    const user = 100 - idle(index) - system - 2;
    return ` 2  0      0 81${34000 + 317 * index} 220340 913512    0    0    12   ${100 + index % 37}  2210 ${4000 + index} ${user} ${system} ${idle(index)} 2  0`;
  };
  return [...head, ...Array.from({ length: count }, (_, index) => line(index))].join("\n") + "\n";
}

function idle(index) {
  return Math.round(62 + 22 * Math.sin(index / 7) + 6 * Math.cos(index / 2));
}
