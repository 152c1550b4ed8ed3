// How it connects, and whether, when and how it comes back.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { comeBackAfter } from "../fanout.js";
import { chance, client, clock, event, greet, install, last, live, made, settle, uninstall } from "./fakes.mjs";

beforeEach(install);
afterEach(uninstall);

const TABLE = [
  // code, reason, comes back after (with chance at a half, at the first try); null: not
  [1000, {}, null],
  [1001, {}, 250],
  [1002, {}, null],
  [1003, {}, null],
  [1005, {}, 250],
  [1006, {}, 250],
  [1007, {}, null],
  [1009, {}, null],
  [1011, {}, 250],
  [4000, { withinMs: 8000 }, 4000],
  [4000, {}, 250],
  [4001, { afterMs: 2000 }, 2250],
  [4002, {}, 250],
  [4003, { afterMs: 10_000 }, 10_250],
  [4004, {}, 250],
  [4499, {}, 250],
  [4500, {}, null],
  [4501, {}, null],
  [4502, {}, null],
  [4503, {}, null],
  [4999, { afterMs: 1 }, null],
  [undefined, {}, 250],
];

test("the table of close codes", () => {
  for (const [code, reason, wait] of TABLE) assert.equal(comeBackAfter(code, reason, 0), wait, `code ${code}`);
});

for (const [code, reason, wait] of TABLE.filter(([code]) => code)) {
  test(`a client that is closed with ${code} ${wait === null ? "stays away" : `comes back after ${wait} ms`}`, async () => {
    const { fanout, states } = client();
    const socket = await live(fanout);
    await socket.end(code, reason);
    const state = states.at(-1);
    assert.deepEqual([state.name, state.code, state.reason], [wait === null ? "ended" : "away", code, reason]);
    if (wait === null) {
      assert.deepEqual(clock.waiting, []);
      return;
    }
    assert.equal(state.retryAt, clock.now + wait);
    await clock.pass(wait - 1);
    assert.equal(made.length, 1);
    await clock.pass(1);
    assert.equal(made.length, 2);
  });
}

test("back-off doubles to its cap, with full jitter", () => {
  const waits = (attempt, max) => [0, 0.5, 1].map((at) => ((chance.is = at), comeBackAfter(1006, {}, attempt, max)));
  assert.deepEqual(waits(0), [0, 250, 500]);
  assert.deepEqual(waits(3), [0, 2000, 4000]);
  assert.deepEqual(waits(1000), [0, 15_000, 30_000]);
  assert.deepEqual(waits(1000, 5000), [0, 2500, 5000]);
});

test("a window is used in its whole width, and what is no window is none", () => {
  const wait = (reason, at) => ((chance.is = at), comeBackAfter(4000, reason, 0));
  assert.deepEqual([0, 0.25, 1].map((at) => wait({ withinMs: 4000 }, at)), [0, 1000, 4000]);
  assert.equal(wait({ afterMs: 1e15 }, 0), 600_000);
  assert.equal(wait({ withinMs: Infinity }, 1), 600_000);
  for (const none of [-5, null, NaN, "soon", {}, true && undefined]) {
    assert.equal(wait({ withinMs: none, afterMs: none }, 0.5), 250, String(none));
  }
});

test("a reason that is no object is no error", async () => {
  for (const reason of ["", "going away", "null", "7", '"slow"', "[]", "{"]) {
    const { fanout, states, errors } = client();
    await (await live(fanout)).end(4001, reason);
    assert.equal(states.at(-1).name, "away", reason);
    assert.equal(states.at(-1).code, 4001);
    assert.deepEqual(errors, []);
    fanout.close();
  }
});

test("a reason cannot say another code", async () => {
  const { fanout, states } = client();
  await (await live(fanout)).end(4001, { code: 4500 });
  assert.equal(states.at(-1).code, 4001);
});

test("back-off starts over only after a connection that held", async () => {
  const { fanout, states } = client();
  const waits = [];
  fanout.connect();
  await settle();
  for (const held of [null, 0, 4_000, null, 5_000, null]) {
    if (held !== null) {
      await greet({ heartbeatMs: 60_000 });
      await last().get(event("x", "a.1"));
      await clock.pass(held);
    }
    await last().end();
    waits.push(states.at(-1).retryAt - clock.now);
    await clock.pass(waits.at(-1));
  }
  // Being greeted, and even sent something, is not enough.
  assert.deepEqual(waits, [250, 500, 1000, 2000, 250, 500]);
});

test("the cap can be set", async () => {
  const { fanout, states } = client({ maxBackoffMs: 600 });
  fanout.connect();
  await settle();
  for (let n = 0; n < 4; n += 1) {
    await last().end();
    assert.equal(states.at(-1).retryAt - clock.now, [250, 300, 300, 300][n]);
    await clock.pass(300);
  }
});

test("the token goes into the subprotocols, not into the address", async () => {
  const { fanout } = client({ token: () => "t0ken", rooms: ["a:b", "c+d@e"] });
  fanout.connect();
  await settle();
  assert.equal(last().url.href, "wss://shop.example/ws?room=a%3Ab&room=c%2Bd%40e");
  assert.deepEqual(last().protocols, ["fanout.v1", "bearer.t0ken"]);
});

test("without a token a cookie counts", async () => {
  for (const token of [undefined, () => null, async () => undefined]) {
    const { fanout } = client({ token, url: "http://other.example/live?tenant=7" });
    fanout.connect();
    await settle();
    assert.deepEqual(last().protocols, ["fanout.v1"]);
    assert.equal(last().url.href, "ws://other.example/live?tenant=7");
    fanout.close();
  }
});

test("a token is asked for before each connection, and told why", async () => {
  const asked = [];
  const { fanout } = client({ token: async ({ code }) => `t${asked.push(code)}` });
  await (await live(fanout)).end(4002, { name: "token_expired" });
  await clock.pass(500);
  assert.deepEqual(asked, [undefined, 4002]);
  assert.deepEqual(last().protocols, ["fanout.v1", "bearer.t2"]);
});

test("a token or a ticket that cannot be had is taken for a cut", async () => {
  for (const callback of ["token", "ticket"]) {
    let works = false;
    const { fanout, states, errors } = client({
      async [callback]() {
        if (!works) throw new Error("no login today");
        return "here";
      },
    });
    const before = made.length;
    fanout.connect();
    await settle();
    assert.deepEqual([states.at(-1).name, states.at(-1).code, made.length], ["away", 1006, before]);
    assert.equal(errors[0].error.message, "no login today");
    works = true;
    await clock.pass(500);
    assert.equal(made.length, before + 1);
    fanout.close();
  }
});

test("what the browser refuses to open is reported and tried again", async () => {
  const Works = globalThis.WebSocket;
  globalThis.WebSocket = class {
    constructor() {
      throw new SyntaxError("bad subprotocol");
    }
  };
  const { fanout, names, errors } = client({ token: () => "a b" });
  fanout.connect();
  await settle();
  assert.deepEqual(names(), ["connecting", "away"]);
  assert.equal(errors[0].error.message, "bad subprotocol");
  globalThis.WebSocket = Works;
  await clock.pass(500);
  assert.equal(made.length, 1);
});

test("connecting instead of waiting on, once", async () => {
  const { fanout } = client();
  await (await live(fanout)).end();
  fanout.connect();
  fanout.connect();
  await settle();
  fanout.connect();
  await settle();
  assert.equal(made.length, 2);
  // The wait that was cut short does not open another.
  await clock.pass(1000);
  assert.equal(made.length, 2);
  await greet();
  fanout.connect();
  await settle();
  assert.equal(made.length, 2);
});

test("after the end it can be started anew", async () => {
  const { fanout, names } = client();
  await (await live(fanout)).end(4500);
  await clock.pass(100_000);
  assert.equal(made.length, 1);
  fanout.connect();
  await settle();
  await greet();
  assert.deepEqual(names(), ["connecting", "live", "ended", "connecting", "live"]);
});

test("a new start starts the back-off over", async () => {
  const { fanout, states } = client();
  await (await live(fanout)).end();
  await clock.pass(250);
  await last().end(4503);
  fanout.connect();
  await settle();
  await last().end();
  assert.equal(states.at(-1).retryAt - clock.now, 250);
});

test("silence of two heartbeats and some is an end", async () => {
  const { fanout, states } = client();
  const socket = await live(fanout, { heartbeatMs: 10_000 });
  await clock.pass(24_999);
  // Any frame is a sign of life, whatever it is.
  await socket.get({ event: "subscribed", id: 99, data: { room: "x" } });
  await clock.pass(24_999);
  assert.equal(states.at(-1).name, "live");
  await clock.pass(1);
  assert.deepEqual(states.at(-1).reason, { name: "silent" });
  assert(socket.closed);
  await clock.pass(250);
  assert.equal(made.length, 2);
  // The old socket has nothing more to say.
  socket.onclose({ code: 4500, reason: "" });
  socket.onmessage({ data: JSON.stringify(event("late", "a.1")) });
  assert.equal(fanout.state.name, "connecting");
});

test("a short heartbeat counts from the welcome on", async () => {
  const { fanout } = client();
  await live(fanout, { heartbeatMs: 1000 });
  await clock.pass(6_999);
  assert.equal(fanout.state.name, "live");
  await clock.pass(1);
  assert.equal(fanout.state.name, "away");
});

test("a server that never says welcome is given up", async () => {
  const { fanout, states } = client();
  fanout.connect();
  await settle();
  await clock.pass(14_999);
  assert.equal(states.at(-1).name, "connecting");
  await clock.pass(1);
  assert.deepEqual(states.at(-1).reason, { name: "silent" });
});

test("a heartbeat that is not told or odd is a usual one", async () => {
  for (const heartbeatMs of [undefined, 0, -1, "x", null]) {
    const { fanout } = client();
    await live(fanout, { heartbeatMs });
    await clock.pass(64_999);
    assert.equal(fanout.state.name, "live");
    await clock.pass(1);
    assert.equal(fanout.state.name, "away", String(heartbeatMs));
    fanout.close();
  }
});

test("a clock that is set back makes the watchdog wait no longer than usual", async () => {
  const { fanout } = client();
  await live(fanout, { heartbeatMs: 10_000 });
  // What the time of day says, and what timers go by, are two clocks.
  Date.now = () => clock.now - 3_600_000;
  for (let n = 0; n < 3; n += 1) {
    await clock.pass(24_000);
    assert(Math.max(...clock.waiting) <= 25_000);
  }
  assert.equal(fanout.state.name, "live");
});
