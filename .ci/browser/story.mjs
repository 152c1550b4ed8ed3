// Plays the order server's story in a real browser: an admin in one tab, users in
// others, no refresh anywhere.
//
//   node story.mjs PATH-OF-ORDER-SERVER [--screenshot DIR] [--chromium PATH]
//
// `--screenshot` also takes the README's picture into DIR.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";

import { describe, startChromium } from "./chromium.mjs";
import { takePicture } from "./picture.mjs";
import { startServer } from "./server.mjs";
import { Tab } from "./tab.mjs";
import { until } from "./wait.mjs";

const WHOLE_MS = 240_000;
const started = Date.now();
function step(text) {
  console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

async function play(context, url, screenshots) {
  const admin = await Tab.open(context, url, "admin");
  const alice = await Tab.open(context, url, "alice");
  const bob = await Tab.open(context, url, "bob");
  const tabs = [admin, alice, bob];
  await admin.logIn("admin", "/admin/orders");
  await alice.logIn("alice", "/orders");
  await bob.logIn("bob", "/orders");
  step("three people in three tabs of one browser are live");

  const first = await alice.placeOrder({ "TEA-001": 2, "CUP-014": 1 });
  await admin.seesOrder(first, "pending");
  await admin.sawToast(/new order/i);
  await alice.sawToast(/placed/i);
  await until("the admin's badge counts it", async () => (await admin.find("new-count").innerText()) === "1");
  const buyer = await admin.order(first).getByTestId("order-buyer").innerText();
  assert.match(buyer, /alice/, "the admin sees who ordered");
  step("alice's order is in the admin's list, with a toast and the badge");

  for (const status of ["processing", "shipped", "delivered"]) {
    await admin.setStatus(first, status);
    await alice.seesOrder(first, status);
    await alice.sawToast(new RegExp(status, "i"));
    await admin.seesOrder(first, status);
    step(`the admin sets ${status}, and alice sees it`);
  }
  await until("nothing may follow delivered", async () =>
    (await admin.order(first).getByTestId(/^(set-|cancel$)/).count()) === 0);
  await alice.turnTo();
  await alice.order(first).locator("summary").click();
  await until("alice reads the past statuses", async () =>
    (await alice.order(first).getByTestId("order-past").locator("li").count()) === 4);

  const second = await alice.placeOrder({ "POT-003": 1 });
  await admin.seesOrder(second, "pending");
  await alice.cancel(second, "Found mine again");
  await alice.seesOrder(second, "cancelled");
  await admin.seesOrder(second, "cancelled");
  await admin.sawToast(/cancelled.*found mine again/i);
  await until("the admin reads the reason", async () =>
    /Found mine again/.test(await admin.order(second).getByTestId("order-reason").innerText()));
  step("alice cancels her second order, and the admin sees it and why");

  await until("the statistics have moved along", async () => {
    const counts = ["pending", "delivered", "cancelled"].map((status) => admin.find(`stat-${status}`).innerText());
    return (await Promise.all(counts)).join() === "0,1,1";
  });
  step("the admin's statistics say the same");

  // Bob's own order comes through last: what was to reach him before it has.
  const bobs = await bob.placeOrder({ "HON-020": 3 });
  await bob.sawToast(/placed/i);
  await until("bob's order has come as an event", () => bob.frames.some((frame) => frame.includes(bobs)));
  await admin.seesOrder(bobs, "pending");
  assert.deepEqual(await bob.orderIds(), [bobs], "bob's list");
  for (const text of await bob.toasts()) assert.doesNotMatch(text, /deliver|cancel|ship/i, "bob's toasts");
  for (const frame of bob.frames) {
    assert(!frame.includes(first) && !frame.includes(second), `bob was sent alice's order: ${frame}`);
  }
  for (const tab of [alice, bob]) {
    for (const frame of tab.frames) assert.doesNotMatch(frame, /"event":\s*"admin:/, `${tab.name} is no admin`);
  }
  assert.deepEqual(new Set(await alice.orderIds()), new Set([first, second]), "alice's list");
  step("bob saw nothing of it, on his page and on the wire");

  for (const tab of tabs) assert.equal(tab.loads, 0, `${tab.name}'s page was loaded again`);
  const faults = tabs.flatMap((tab) => tab.faults);
  assert.deepEqual(faults, [], "errors in the tabs");
  step("no page was loaded again, and nobody's console has an error");

  if (!screenshots) return;
  await fillForPicture({ admin, alice });
  await takePicture(context, { admin, user: alice }, screenshots, async () => {
    const paid = await alice.placeOrder({ "CUP-014": 2, "TEA-001": 1 });
    await admin.seesOrder(paid, "pending");
    const newest = await bob.placeOrder({ "POT-003": 1, "TEA-001": 2 });
    await admin.seesOrder(newest, "pending");
    await admin.setStatus(paid, "paid");
    await alice.seesOrder(paid, "paid");
    await admin.seesOrder(paid, "paid");
    await until("the statistics have settled", async () => (await admin.find("stat-paid").innerText()) === "1");
  });
  step(`the picture is in ${screenshots}`);
}

/** A few orders on their way, and older toasts out of sight. */
async function fillForPicture({ admin, alice }) {
  const baskets = [{ "TEA-001": 3 }, { "CUP-014": 4, "HON-020": 1 }];
  for (const [n, basket] of baskets.entries()) {
    const id = await alice.placeOrder(basket);
    await admin.seesOrder(id, "pending");
    await admin.setStatus(id, ["shipped", "processing"][n]);
    await alice.seesOrder(id, ["shipped", "processing"][n]);
  }
  for (const tab of [admin, alice]) {
    await tab.turnTo();
    await until(`${tab.name}'s toasts have gone`, async () => {
      const dismiss = tab.find("toast").getByRole("button").first();
      if ((await dismiss.count()) === 0) return true;
      await dismiss.click({ timeout: 500 }).catch(() => {});
      return false;
    });
  }
}

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { screenshot: { type: "string" }, chromium: { type: "string" } },
  });
  const [binary] = positionals;
  if (positionals.length !== 1 || !existsSync(binary)) {
    throw new Error("usage: node story.mjs PATH-OF-ORDER-SERVER [--screenshot DIR] [--chromium PATH]");
  }
  return { ...values, binary };
}

async function main() {
  const { binary, chromium, screenshot } = options();
  let server;
  let browser;
  let late;
  try {
    server = await startServer(binary);
    step(`the order server is ready at ${server.url}`);
    browser = await startChromium(chromium);
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-US" });
    const tooLate = new Promise((_, reject) => {
      late = setTimeout(() => reject(new Error(`not done within ${WHOLE_MS / 1000} s`)), WHOLE_MS);
    });
    try {
      await Promise.race([play(context, server.url, screenshot), tooLate]);
    } catch (error) {
      console.error(await describe(context));
      console.error(`--- the server said:\n${server.log()}`);
      throw error;
    }
  } finally {
    clearTimeout(late);
    await browser?.close();
    await server?.stop();
  }
  step("the server ended in order");
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
