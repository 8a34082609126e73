// The load tester's pages in a real browser: they show what the JSON says, on a desk and a phone.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { browser, withPage } from "./browser.mjs";
import { environment, logs, run, same, start, tester, within } from "./server.mjs";

const DESK = { viewport: { width: 1100, height: 900 } };
const PHONE = { viewport: { width: 390, height: 780 }, colorScheme: "dark", hasTouch: true, isMobile: true };
const DRAIN = `
[drain]
window = "100ms"
`;

const whole = (value) => Math.round(value).toLocaleString("en-US");
const digits = (count, factor = 1) => (value) => (value * factor).toFixed(count);

/** What the page calls a figure, where the record has it, how it is written: told a second time. */
const FIGURES = {
  "publications": ["publications", whole],
  "deliveries": ["deliveries", whole],
  "deliveries/s, wall": ["deliveries_per_second", whole],
  "deliveries/server-CPU s": ["server.deliveries_per_cpu_second", whole],
  "server CPU/delivery, us": ["server.cpu_us_per_delivery", digits(3)],
  "server busy, % of a core": ["server.busy", digits(1, 100)],
  "server RSS, MiB": ["server.rss_bytes", digits(1, 1 / 1048576)],
  "latency p50, ms": ["latency_ms.p50", digits(3)],
  "latency p99, ms": ["latency_ms.p99", digits(3)],
  "latency max, ms": ["latency_ms.max", digits(3)],
  "lost": ["faults.lost", whole],
  "duplicated": ["faults.duplicated", whole],
  "unacknowledged": ["faults.unacknowledged", whole],
  "tester CPU/delivery, us": ["tester.cpu_us_per_delivery", digits(3)],
};

const at = (record, path) => path.split(".").reduce((value, name) => value[name], record);

/** Runs the tester; it must find no fault. */
async function test(...words) {
  const child = spawn(tester, words, { env: environment, stdio: ["ignore", "ignore", "pipe"] });
  let told = "";
  child.stderr.on("data", (data) => { told += data; });
  const [code] = await within(once(child, "exit"), "end of the tester").catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
  if (code !== 0) throw new Error(`${words[0]} ended with ${code}: ${told}`);
}

async function withFolder(body) {
  const folder = mkdtempSync(join(tmpdir(), "fanwire-report-"));
  const server = await start(DRAIN);
  const file = (name) => join(folder, name);
  try {
    await body({
      file,
      json: (name) => JSON.parse(readFileSync(file(name), "utf8")),
      url: ["--url", server.url, "--pid", String(server.pid)],
    });
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

/** Opens a page that may load nothing but itself. */
async function open(page, path) {
  const url = String(pathToFileURL(path));
  const loaded = [];
  page.on("request", (request) => loaded.push(request.url()));
  await page.goto(url);
  same(loaded, [url]);
}

/** One text for equal values, whatever the order of their members. */
const sorted = (value) => JSON.stringify(value, (_, one) => one && typeof one === "object" && !Array.isArray(one)
  ? Object.fromEntries(Object.entries(one).toSorted(([a], [b]) => (a < b ? -1 : 1)))
  : one);

const records = (page) => page.$eval("#records", (element) => JSON.parse(element.textContent));
const rows = (page, selector) => page.$$eval(`${selector} tr`, (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));

/** The cells of each figure by its name. */
async function figures(page) {
  const all = await rows(page, "h2:text-is('Figures') ~ .wide table");
  return Object.fromEntries(all.map(([name, ...cells]) => [name, cells]));
}

const FANOUT = ["fanout", "--topics", "2", "--subscribers", "20", "--window", "4", "--warmup", "200ms", "--duration", "1500ms"];

await run({
  "a run's page shows the figures of its JSON": () => withFolder(async ({ file, json, url }) => {
    await test(...FANOUT, ...url, "--slo", "p99=20s,lost=0", "--json", file("run.json"), "--html", file("run.html"));
    const record = json("run.json");
    await withPage(DESK, async (page) => {
      await open(page, file("run.html"));
      same(sorted(await records(page)), sorted([record]));
      const shown = await figures(page);
      for (const [name, [path, show]] of Object.entries(FIGURES)) {
        same([name, ...shown[name]], [name, show(at(record, path))]);
      }
      const tiles = await page.$$eval(".tiles div", (all) => all.map((tile) => [tile.lastChild.textContent, tile.firstChild.textContent]));
      same(tiles.length, 4);
      for (const [name, value] of tiles) same([name, value], [name, shown[name][0]]);
      const quantiles = ["p50", "p90", "p99", "p999", "max"].map((name) => record.latency_ms[name].toFixed(3));
      const dots = await page.$$eval("svg:has(circle) text", (all) => all.map((one) => one.textContent));
      same(quantiles.filter((value) => !dots.includes(value)), []);
      const [, ...series] = await rows(page, "details table");
      same(series.length, record.series.length);
      same(series.map((cells) => cells.slice(0, 2)), record.series.map((one) => [one.seconds.toFixed(2), one.deliveries_per_second.toFixed(0)]));
      const points = await page.$eval("figure:has(figcaption:text-is('Deliveries per second')) path", (path) => path.getTotalLength() > 0 && path.getAttribute("d").match(/[ML]/g).length);
      same(points, record.series.length);
      same(await page.$$eval(".good", (all) => all.length), 3);
      await page.screenshot({ path: join(logs, "report-desktop.png"), fullPage: true });
    });
  }),

  "a page fits a phone, in the dark": () => withFolder(async ({ file, url }) => {
    await test(...FANOUT, ...url, "--html", file("run.html"));
    await withPage(PHONE, async (page) => {
      await open(page, file("run.html"));
      const { wide, back, text } = await page.evaluate(() => {
        const { backgroundColor, color } = getComputedStyle(document.body);
        const bright = (rgb) => Math.max(...rgb.match(/\d+/g).slice(0, 3).map(Number));
        return { wide: document.documentElement.scrollWidth, back: bright(backgroundColor), text: bright(color) };
      });
      same([wide, back < 64, text > 192], [390, true, true]);
      await page.screenshot({ path: join(logs, "report-phone.png"), fullPage: true });
    });
  }),

  "runs stand side by side, with ratios to the first": () => withFolder(async ({ file, json, url }) => {
    await test(...FANOUT, ...url, "--json", file("one.json"));
    await test(...FANOUT, ...url, "--door", "sse", "--json", file("two.json"));
    await test("report", file("one.json"), file("two.json"), "--html", file("both.html"));
    const both = ["one.json", "two.json"].map(json);
    await withPage(DESK, async (page) => {
      await open(page, file("both.html"));
      same(sorted(await records(page)), sorted(both));
      const shown = await figures(page);
      const [first, second] = both.map((record) => record.deliveries);
      same(shown.deliveries, [whole(first), `${whole(second)} (${(second / first).toFixed(2)})`]);
      same(shown.unacknowledged, ["0", "0"]);
    });
  }),

  "a comparison's page shows the medians and ranges of its JSON": () => withFolder(async ({ file, json, url }) => {
    const target = `${url[1]}@${url[3]}`;
    await test(
      "compare", "--rounds", "3", "--target", `plain=${target}`, "--target", `again=${target}`,
      "--scenario", "rooms --rooms 3 --members 4 --interval 20ms --duration 400ms",
      "--json", file("compare.json"), "--html", file("compare.html"),
    );
    const record = json("compare.json");
    await withPage(DESK, async (page) => {
      await open(page, file("compare.html"));
      same(sorted(await records(page)), sorted(record));
      const shown = Object.fromEntries((await rows(page, ".wide table")).map(([name, ...cells]) => [name, cells]));
      for (const name of ["deliveries", "latency p99, ms"]) {
        const show = FIGURES[name][1];
        const { cells } = record.cases[0].figures.find((figure) => figure.label === name);
        const texts = cells.map(({ value, ratio }) => [
          ranged(value, show),
          ...ratio ? [`x ${ranged(ratio, digits(2))}`] : [],
        ].join(", "));
        same([name, ...shown[name]], [name, ...texts]);
        for (const { rounds, value } of cells) {
          same([value.min, value.median, value.max], rounds.toSorted((one, other) => one - other));
        }
      }
      same(await page.$$eval("svg circle", (all) => all.length), 2 * await page.$$eval("svg", (all) => all.length));
      await page.screenshot({ path: join(logs, "report-compare.png"), fullPage: true });
    });
  }),
});
await browser.close();

function ranged({ median, min, max }, show) {
  const [low, high] = [show(min), show(max)];
  return low === high ? low : `${show(median)} (${low}..${high})`;
}
