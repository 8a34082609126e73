// One Chromium for the checks that need a real browser.

import { load } from "./server.mjs";

const { chromium } = load("playwright-core");
const SECONDS_MAX = 20;

// Every launch has a new, empty profile.
export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

/** Runs `body` with a new page; whatever the page throws fails the case. */
export async function withPage(options, body) {
  const context = await browser.newContext(options);
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(SECONDS_MAX * 1000);
    let thrown;
    page.on("pageerror", (error) => { thrown ??= error; });
    const result = await body(page, context);
    if (thrown) throw thrown;
    return result;
  } finally {
    await context.close();
  }
}
