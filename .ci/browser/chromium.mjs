// The browser that the stories are played in.

import { existsSync } from "node:fs";

import { chromium } from "playwright-core";

const KNOWN = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts it, with a new profile folder that is removed on closing. */
export async function startChromium(path) {
  const executablePath = path ?? KNOWN.find(existsSync);
  if (!executablePath) throw new Error(`no Chromium at ${KNOWN.join(", ")}: name one with --chromium`);
  // As people have it: Playwright would leave nothing for the back button.
  const ignoreDefaultArgs = ["--disable-back-forward-cache"];
  return chromium.launch({ executablePath, headless: true, args: FLAGS, ignoreDefaultArgs });
}

/** What each tab showed when it went wrong. */
export async function describe(context) {
  const pages = context.pages().map(async (page) => {
    const text = await page.locator("body").innerText({ timeout: 1000 }).catch((error) => error.message);
    return `--- ${page.url()}\n${text}`;
  });
  return (await Promise.all(pages)).join("\n");
}
