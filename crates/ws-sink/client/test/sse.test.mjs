// The same client over Server-Sent Events.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { client, clock, event, happens, install, last, made, settle, uninstall } from "./fakes.mjs";

beforeEach(install);
afterEach(uninstall);

async function live(options = {}) {
  const told = client({ transport: "sse", ...options });
  told.fanout.connect();
  await settle();
  await welcome();
  return told;
}

const welcome = (more = {}) =>
  last().get({ event: "welcome", data: { rooms: [], cursor: "W", recovered: null, heartbeatMs: 25_000, ...more } }, "W");

test("who and what is in the address, and the way back is its own", async () => {
  let tickets = 0;
  const token = () => assert.fail("it cannot be shown");
  const { fanout, names } = await live({ token, ticket: async () => `t${++tickets}`, rooms: ["a:b"], cursor: "C" });
  assert.equal(made[0].url.href, "https://shop.example/events?cursor=C&ticket=t1&room=a%3Ab");
  assert.equal(made[0].init.withCredentials, false);
  await last().end();
  assert(made[0].closed, "an EventSource left alone would come back with an old ticket");
  await clock.pass(250);
  assert.equal(last().url.href, "https://shop.example/events?cursor=W&ticket=t2&room=a%3Ab");
  assert.deepEqual(names(), ["connecting", "live", "away", "connecting"]);
  assert.equal(fanout.cursor, "W");
});

test("an id is the whole cursor, once the handlers have run", async () => {
  const { fanout } = await live();
  let finish;
  const seen = [];
  fanout.on("x", (data, { at }) => {
    seen.push([at, fanout.cursor]);
    return new Promise((resolve) => (finish = resolve));
  });
  await last().get(event("x", "a.1"), "V1");
  await last().get(event("x", "a.2"), "V2");
  assert.deepEqual([seen, fanout.cursor], [[["a.1", "W"]], "W"]);
  finish();
  await settle();
  assert.deepEqual(seen[1], ["a.2", "V1"]);
  finish();
  await settle();
  assert.equal(fanout.cursor, "V2");
});

test("without an id, places and heartbeats count as over WebSocket", async () => {
  const { fanout } = await live();
  fanout.on("x", () => {});
  await last().get(event("x", "a.1"));
  assert.equal(fanout.cursor, "W,a.1");
  await last().get({ event: "heartbeat", data: { cursor: "V" } });
  assert.equal(fanout.cursor, "V");
});

test("it is asked by name for what has handlers, then, later and by options", async () => {
  const told = client({ transport: "sse", events: ["named"] });
  told.fanout.on("before", () => {});
  told.fanout.connect();
  await settle();
  await welcome();
  const got = [];
  told.fanout.on("after", () => got.push("after"));
  told.fanout.on("*", (data, frame) => got.push(`* ${frame.event}`));
  for (const name of ["before", "after", "named", "unnamed"]) await last().get(event(name));
  // What has a name that the browser keeps for itself comes without one.
  await last().get(event("open"), "", "message");
  assert.deepEqual(got, ["* before", "after", "* after", "* named", "* open"]);
  for (const name of ["error", "open"]) assert(!last().hears.includes(name));
});

test("a handler twice for one event hears it once a frame", async () => {
  const { fanout } = await live();
  const got = [];
  fanout.on("x", () => got.push(1));
  fanout.on("x", () => got.push(2));
  await last().get(event("x"));
  assert.deepEqual(got, [1, 2]);
});

test("an event `close` says why, as a close code does", async () => {
  for (const [data, name, code, wait] of [
    [{ code: 4500 }, "ended", 4500],
    [{ code: 4000, withinMs: 8000 }, "away", 4000, 4000],
    [{ code: 4003, afterMs: 1000 }, "away", 4003, 1250],
    [{}, "away", undefined, 250],
  ]) {
    const { states } = await live();
    await last().get(data, "", "close");
    const state = states.at(-1);
    assert.deepEqual([state.name, state.code], [name, code]);
    assert(last().closed);
    if (wait) assert.equal(state.retryAt - clock.now, wait);
  }
});

test("gaps, silence and the page work as over WebSocket", async () => {
  const { gaps, fanout, states } = await live();
  await last().get({ event: "gap", data: { reason: "limit", rooms: [] } }, "V");
  assert.deepEqual([gaps, fanout.cursor], [[{ reason: "limit", rooms: [] }], "V"]);
  await clock.pass(55_000);
  assert.deepEqual(states.at(-1).reason, { name: "silent" });
  await clock.pass(250);
  await welcome();
  await happens("pagehide", { persisted: true });
  assert(last().closed);
  await happens("pageshow", { persisted: true });
  assert.equal(made.length, 3);
});

test("what cannot be asked is said", async () => {
  const { fanout } = await live({ token: () => "t" });
  for (const asked of [fanout.subscribe("a"), fanout.unsubscribe("a"), fanout.send("say"), fanout.renew()]) {
    await assert.rejects(asked, { code: "unsupported" });
  }
});

test("nothing after closing", async () => {
  const { fanout, all } = await live();
  fanout.on("x", () => all.push("x"));
  const before = all.length;
  fanout.close();
  await last().get(event("x", "a.1"), "V");
  await last().end();
  await clock.pass(1_000_000);
  assert.deepEqual([all.length, made.length, fanout.cursor], [before, 1, "W"]);
});
