// What the browser says of network and page.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { client, clock, event, greet, happens, install, last, live, made, settle, uninstall } from "./fakes.mjs";

beforeEach(install);
afterEach(uninstall);

test("a page that becomes visible does not wait on", async () => {
  const { fanout } = client();
  await (await live(fanout)).end();
  document.visibilityState = "hidden";
  await happens("visibilitychange");
  assert.equal(made.length, 1);
  document.visibilityState = "visible";
  await happens("visibilitychange");
  assert.equal(made.length, 2);
  await clock.pass(1000);
  assert.equal(made.length, 2);
});

test("a wait that the server asked for is not cut short by looking at the page", async () => {
  for (const [code, reason] of [[4000, { withinMs: 8000 }], [4003, { afterMs: 4000 }]]) {
    const { fanout } = client();
    const socket = await live(fanout);
    const before = made.length;
    await socket.end(code, reason);
    await happens("visibilitychange");
    await happens("online");
    assert.equal(made.length, before);
    await clock.pass(4250);
    assert.equal(made.length, before + 1);
    fanout.close();
  }
});

test("a page that becomes visible after a sleep notices at once that the connection is dead", async () => {
  const { fanout, states } = client();
  await live(fanout, { heartbeatMs: 10_000 });
  clock.sleep(24_000);
  await happens("visibilitychange");
  assert.equal(fanout.state.name, "live");
  clock.sleep(2_000);
  await happens("visibilitychange");
  assert.deepEqual(states.at(-1).reason, { name: "silent" });
});

test("without a network there is no connection, and with one there is at once", async () => {
  const { fanout, states } = client();
  const socket = await live(fanout);
  await happens("offline");
  assert(socket.closed);
  assert.deepEqual(states.at(-1).reason, { name: "offline" });
  await happens("offline");
  assert.equal(states.length, 3);
  await happens("online");
  assert.equal(made.length, 2);
});

test("a page that goes into the back-forward cache leaves, and goes on when it is shown again", async () => {
  const { fanout, states } = client();
  const seen = [];
  fanout.on("x", (data, { at }) => seen.push(at));
  const socket = await live(fanout);
  await socket.get(event("x", "a.1"));
  const asked = fanout.send("say");
  await happens("pagehide", { persisted: true });
  await assert.rejects(asked, { code: "disconnected" });
  assert(socket.closed);
  assert.deepEqual([states.at(-1).name, states.at(-1).retryAt], ["away", undefined]);
  // Nothing wakes it while nobody sees it.
  assert.deepEqual(clock.waiting, []);
  await happens("pageshow", { persisted: true });
  assert.equal(last().url.searchParams.get("cursor"), "W,a.1");
  await greet({ cursor: "W,a.1", recovered: true });
  await last().get(event("x", "a.2"));
  assert.deepEqual(seen, ["a.1", "a.2"]);
  assert.equal(made.length, 2);
});

test("a page that is hidden while a token is on its way opens nothing", async () => {
  let give;
  const { fanout } = client({ token: () => new Promise((resolve) => (give = resolve)) });
  fanout.connect();
  await settle();
  await happens("pagehide", { persisted: true });
  give("late");
  await settle();
  assert.equal(made.length, 0);
  await happens("pageshow", { persisted: true });
  give("new");
  await settle();
  assert.equal(made.length, 1);
  assert.deepEqual(last().protocols, ["fanout.v1", "bearer.new"]);
});

test("what ended does not come back because of the page", async () => {
  for (const end of [(fanout) => fanout.close(), () => last().end(4503)]) {
    const { fanout } = client();
    await live(fanout);
    const before = made.length;
    await end(fanout);
    for (const what of ["online", "visibilitychange", "pagehide", "pageshow", "offline"]) await happens(what);
    await clock.pass(100_000);
    assert.equal(made.length, before);
  }
});

test("the first showing of a page opens nothing twice", async () => {
  const { fanout } = client();
  fanout.connect();
  await settle();
  await happens("pageshow", { persisted: false });
  await greet();
  await happens("pageshow", { persisted: false });
  assert.equal(made.length, 1);
});

test("it listens once, however often it is asked to connect, and no longer after the end", async () => {
  const listening = new Map();
  globalThis.addEventListener = (name, listener, { signal }) => {
    listening.set(name, (listening.get(name) ?? 0) + 1);
    signal.addEventListener("abort", () => listening.set(name, listening.get(name) - 1));
  };
  const { fanout } = client();
  for (let n = 0; n < 3; n += 1) await (await live(fanout)).end();
  assert.deepEqual([...listening.values()], [1, 1, 1, 1, 1]);
  fanout.close();
  assert.deepEqual([...listening.values()], [0, 0, 0, 0, 0]);
});

test("where there is no page, as in a worker or under Node, it works without", async () => {
  for (const name of ["document", "addEventListener", "sessionStorage", "location"]) delete globalThis[name];
  const { fanout } = client({ url: "wss://shop.example/ws", storageKey: "k" });
  const socket = await live(fanout);
  await socket.get(event("x", "a.1"));
  assert.equal(fanout.cursor, "W,a.1");
});
