// Plays what happens to pages whose server goes away and comes back, and to pages that
// are loaded again: each order, and each toast, is there exactly once.
//
//   node comeback.mjs PATH-OF-ORDER-SERVER [--transport sse] [--kafka HOST:PORT] [--chromium PATH]
//
// With the embedded broker a new server has a new log: there is a gap, and the pages
// make up for it by their snapshot. With `--kafka` nothing may be missing: no gap.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { parseArgs } from "node:util";

import { describe, startChromium } from "./chromium.mjs";
import { newFolder, startServer } from "./server.mjs";
import { Tab } from "./tab.mjs";
import { until } from "./wait.mjs";

const WHOLE_MS = 240_000;
/** A browser tells of each try while nobody listens, or the server is not ready. */
const WHILE_AWAY = /WebSocket connection to|net::ERR_|\b503\b|websocket/i;
const ITEMS = [{ sku: "TEA-001", name: "Green tea, 100 g", quantity: 1, unitPrice: 8.5 }];

const started = Date.now();
function step(text) {
  console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

/** Somebody without a page: what they do is not known to any tab beforehand. */
class Caller {
  static async logIn(url, who) {
    const caller = new Caller();
    caller.url = url;
    const { token } = await caller.call("POST", "/api/login", { email: `${who}@shop.example` });
    caller.token = token;
    return caller;
  }

  async call(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: { "Content-Type": "application/json", ...(this.token ? { Authorization: `Bearer ${this.token}` } : {}) },
      body: JSON.stringify(body),
    });
    assert(response.ok, `${method} ${path}: ${response.status}`);
    return response.json();
  }

  async order() {
    return (await this.call("POST", "/api/orders", { items: ITEMS })).orderId;
  }

  setStatus(orderId, status) {
    return this.call("PATCH", `/api/orders/${orderId}/status`, { status });
  }
}

class Story {
  /** What each page is to have told of, as `order status`. */
  told = [];
  orders = [];

  constructor(context, options, start) {
    Object.assign(this, { context, options, start });
  }

  async open(who, path) {
    const tab = await Tab.open(this.context, this.server.url, who);
    await tab.noteToasts();
    await tab.logIn(who, path);
    if (this.options.transport === "ws") return tab;
    await tab.page.goto(`${this.server.url}${path}?transport=${this.options.transport}`);
    await tab.is("live");
    return tab;
  }

  get tabs() {
    return [this.admin, this.alice];
  }

  /** Waits until all pages show an order so, and have told of it. */
  async shown(orderId, status) {
    this.told.push(`${orderId} ${status}`);
    if (!this.orders.includes(orderId)) this.orders.push(orderId);
    for (const tab of this.tabs) {
      await tab.seesOrder(orderId, status);
      await until(`${tab.name} is told of ${orderId} ${status}`, () =>
        tab.noted.some(({ key }) => key === `${orderId} ${status}`));
    }
  }

  async everythingOnce(when) {
    for (const tab of this.tabs) {
      assert.deepEqual((await tab.orderIds()).sort(), [...this.orders].sort(), `${tab.name}'s list ${when}`);
      const keys = tab.noted.map(({ key, text }) => key || text);
      assert.deepEqual(keys.sort(), [...this.told].sort(), `${tab.name}'s toasts ${when}`);
    }
    step(`${when}: each order and each toast is there once`);
  }

  /** Ends the server, lets it be noticed, and starts it where it was. */
  async restart(how) {
    const { port } = this.server;
    await this.server[how]();
    for (const tab of this.tabs) await tab.is("away");
    this.server = await this.start(port);
  }

  async play() {
    this.server = await this.start(0);
    this.admin = await this.open("admin", "/admin/orders");
    this.alice = await this.open("alice", "/orders");
    const { url } = this.server;
    const alice = await Caller.logIn(url, "alice");
    const admin = await Caller.logIn(url, "admin");
    step(`two people are live over ${this.options.transport}`);

    const first = await this.alice.placeOrder({ "TEA-001": 2 });
    await this.shown(first, "pending");
    await this.everythingOnce("at first");

    await this.restart("kill");
    for (const tab of this.tabs) await tab.is("live");
    await admin.setStatus(first, "paid");
    await this.shown(first, "paid");
    await this.everythingOnce("after a crash");

    await this.restart("kill");
    // Sooner or later than the pages come back, as it may be.
    const second = await alice.order();
    await this.shown(second, "pending");
    await admin.setStatus(second, "shipped");
    await this.shown(second, "shipped");
    await this.everythingOnce("after a crash, with an order at once");

    await this.restart("stop");
    await admin.setStatus(first, "processing");
    await this.shown(first, "processing");
    await this.everythingOnce("after an orderly restart");

    for (const tab of this.tabs) {
      await tab.page.reload();
      await tab.is("live");
    }
    const third = await alice.order();
    await this.shown(third, "pending");
    await this.everythingOnce("after a reload");

    const { href } = new URL(this.alice.page.url());
    await this.alice.page.goto("about:blank");
    const fourth = await alice.order();
    await admin.setStatus(third, "shipped");
    await this.alice.page.goto(href);
    await this.shown(fourth, "pending");
    await this.shown(third, "shipped");
    await this.everythingOnce("after a page was elsewhere");

    await this.alice.page.evaluate(() => (window.wasHere = true));
    await this.alice.page.goto("about:blank");
    // A page that was kept is not loaded: there is no more to wait for.
    await this.alice.page.goBack({ waitUntil: "commit" });
    await this.alice.is("live");
    const kept = await this.alice.page.evaluate(() => window.wasHere === true);
    step(`the back button ${kept ? "shows the page that was kept" : "loads the page again"}`);
    const fifth = await alice.order();
    await this.shown(fifth, "pending");
    await this.everythingOnce("after the back button");

    await this.context.setOffline(true);
    for (const tab of this.tabs) await tab.is("away");
    await admin.setStatus(fifth, "paid");
    await this.context.setOffline(false);
    await this.shown(fifth, "paid");
    await this.everythingOnce("after a time without network");

    if (this.options.kafka && this.options.transport === "ws") {
      for (const tab of this.tabs) {
        assert.deepEqual(tab.frames.filter((frame) => /"event":"gap"/.test(frame)), [], `${tab.name} missed something`);
      }
      step("nobody was told of a gap");
    }
    const faults = this.tabs.flatMap((tab) => tab.faults).filter((fault) => !WHILE_AWAY.test(fault));
    assert.deepEqual(faults, [], "errors in the tabs");
  }
}

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { transport: { type: "string" }, kafka: { type: "string" }, chromium: { type: "string" } },
  });
  const { transport = "ws" } = values;
  const [binary] = positionals;
  if (positionals.length !== 1 || !existsSync(binary) || !["ws", "sse"].includes(transport)) {
    const flags = "[--transport ws|sse] [--kafka HOST:PORT] [--chromium PATH]";
    throw new Error(`usage: node comeback.mjs PATH-OF-ORDER-SERVER ${flags}`);
  }
  return { ...values, transport, binary };
}

async function main() {
  const asked = options();
  const folder = await newFolder();
  const more = asked.kafka ? ["--kafka", asked.kafka] : [];
  let browser;
  let late;
  let story;
  try {
    browser = await startChromium(asked.chromium);
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-US" });
    story = new Story(context, asked, (port) => startServer(asked.binary, { port, folder, more }));
    const tooLate = new Promise((_, reject) => {
      late = setTimeout(() => reject(new Error(`not done within ${WHOLE_MS / 1000} s`)), WHOLE_MS);
    });
    try {
      await Promise.race([story.play(), tooLate]);
    } catch (error) {
      console.error(await describe(context));
      for (const tab of story.tabs) console.error(`--- ${tab?.name}`, tab?.noted, tab?.faults);
      console.error(`--- the server said:\n${story.server?.log()}`);
      throw error;
    }
  } finally {
    clearTimeout(late);
    await browser?.close();
    await story?.server?.stop().catch((error) => console.error(error));
    await rm(folder, { recursive: true, force: true });
  }
  step("the server ended in order");
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
