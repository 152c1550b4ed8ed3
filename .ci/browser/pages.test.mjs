// The parts of the order server's pages that need no browser. `.ci/run` puts the
// pages beside this file, in `pages/`.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { FanoutClient, comeBackAfter, readReason } from "./pages/fanout-client.js";
import { Orders } from "./pages/orders.js";
import { canCancel, nextOf } from "./pages/statuses.js";
import { until } from "./wait.mjs";

const half = () => 0.5;

test("codes that are final are not come back from", () => {
  for (const code of [1000, 1002, 1003, 1007, 1009, 4500, 4501, 4502, 4503, 4999]) {
    assert.equal(comeBackAfter(code, {}, 0, half), null, `code ${code}`);
  }
  for (const code of [1001, 1005, 1006, 1011, 4000, 4001, 4002, 4003, 4004, 4499]) {
    assert.notEqual(comeBackAfter(code, {}, 0, half), null, `code ${code}`);
  }
});

test("back-off doubles, jitters over its whole width, and is bounded", () => {
  assert.equal(comeBackAfter(1006, {}, 0, half), 250);
  assert.equal(comeBackAfter(1006, {}, 3, half), 2000);
  assert.equal(comeBackAfter(1006, {}, 1000, half), 15_000);
  assert.equal(comeBackAfter(1006, {}, 3, () => 0), 0);
});

test("the server's hints are honoured, within reason", () => {
  assert.equal(comeBackAfter(4000, { withinMs: 8000 }, 5, half), 4000);
  assert.equal(comeBackAfter(4001, { afterMs: 2000 }, 0, half), 2250);
  assert.equal(comeBackAfter(4001, { afterMs: 1e12 }, 0, () => 0), 600_000);
  for (const afterMs of [-5, "2000", null, NaN]) {
    assert.equal(comeBackAfter(4001, { afterMs }, 0, half), 250, `afterMs ${afterMs}`);
  }
});

test("a reason that is no object says nothing", () => {
  assert.deepEqual(readReason('{"name":"slow","afterMs":2000}'), { name: "slow", afterMs: 2000 });
  for (const reason of ["", "going away", "null", "7", '"slow"']) assert.deepEqual(readReason(reason), {});
});

/** A socket that the test holds the other end of. */
class FakeSocket {
  static made = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols, closed: false });
    FakeSocket.made.push(this);
  }

  close() {
    this.closed = true;
  }

  get(frame) {
    this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  welcome(heartbeatMs = 60_000) {
    this.get({ event: "welcome", data: { cursor: "whole", heartbeatMs } });
  }
}

let states;
let events;
let gaps;
let client;

beforeEach(() => {
  [states, events, gaps, FakeSocket.made] = [[], [], [], []];
  globalThis.WebSocket = FakeSocket;
  globalThis.location = { href: "https://shop.example/orders" };
  client = new FanoutClient({
    token: (expired) => (expired ? null : "t0ken"),
    onState: (state) => states.push(state.name),
    onEvent: (frame) => events.push(frame),
    onGap: (data) => gaps.push(data),
  });
  client.connect();
});

// A final close leaves no timer behind.
afterEach(() => FakeSocket.made.at(-1).onclose({ code: 1000, reason: "" }));

test("the token goes into the subprotocols, not into the address", () => {
  const [socket] = FakeSocket.made;
  assert.equal(socket.url.href, "wss://shop.example/ws");
  assert.deepEqual(socket.protocols, ["fanout.v1", "bearer.t0ken"]);
});

test("the cursor is the newest whole one and the last `at` of each lane since", () => {
  const [socket] = FakeSocket.made;
  socket.welcome();
  assert.deepEqual(states, ["connecting", "live"]);
  assert.equal(client.cursor, "whole");
  for (const at of ["a.1", "b.7", "a.2", undefined]) socket.get({ event: "x", at, data: {} });
  assert.equal(client.cursor, "whole,a.2,b.7");
  socket.get({ event: "heartbeat", data: { cursor: "later" } });
  assert.equal(client.cursor, "later");
  assert.equal(events.length, 4);
});

test("what is not known or not JSON is passed over", () => {
  const [socket] = FakeSocket.made;
  socket.welcome();
  for (const text of ["", "{", "null", "[]", "7", '{"data":{}}']) socket.get(text);
  socket.get({ event: "gap", data: { reason: "overflow" } });
  assert.deepEqual(events, []);
  assert.deepEqual(gaps, [{ reason: "overflow" }]);
});

test("silence of two heartbeats is an end, and the client comes back", async () => {
  const [socket] = FakeSocket.made;
  socket.welcome(10);
  await until("it comes back", () => FakeSocket.made.length === 2);
  assert(socket.closed);
  assert.deepEqual(states.slice(0, 4), ["connecting", "live", "away", "connecting"]);
  // The old socket has nothing more to say.
  socket.onclose({ code: 4500, reason: "" });
  assert.equal(client.state.name, "connecting");
});

test("an unaccepted token ends it until it is asked to connect again", () => {
  FakeSocket.made[0].onclose({ code: 4500, reason: '{"name":"unauthenticated"}' });
  assert.deepEqual(client.state, { name: "ended", code: 4500, reason: { name: "unauthenticated" } });
  client.connect();
  assert.equal(FakeSocket.made.length, 2);
});

test("an expired token ends it at once where there is no other", () => {
  FakeSocket.made[0].onclose({ code: 4002, reason: '{"name":"token_expired"}' });
  assert.deepEqual(client.state, { name: "ended", code: 4002, reason: { name: "token_expired" } });
  assert.equal(FakeSocket.made.length, 1);
});

const order = (orderId, version, more = {}) => ({ orderId, version, createdAt: `2030-01-0${version}`, ...more });

test("an order changes only by a higher version", () => {
  const orders = new Orders();
  assert(orders.apply(order("a", 2, { status: "paid" })));
  assert.equal(orders.apply(order("a", 2, { status: "shipped" })), null);
  assert.equal(orders.apply(order("a", 1, { status: "pending" })), null);
  assert.equal(orders.get("a").status, "paid");
  for (const raw of [null, {}, { orderId: "b" }, { orderId: 7, version: 1 }, { orderId: "b", version: "1" }]) {
    assert.equal(orders.apply(raw), null);
  }
});

test("an order that was paid does not become paid again", () => {
  const orders = new Orders();
  ["pending", "paid", "processing"].forEach((status, n) => orders.apply(order("a", n + 1, { status })));
  assert.deepEqual(nextOf(orders.get("a")), ["shipped", "delivered"]);
  orders.apply(order("b", 2, { status: "processing" }));
  assert.deepEqual(nextOf(orders.get("b")), ["paid", "shipped", "delivered"]);
  assert(canCancel(orders.get("b")));
  for (const status of ["delivered", "cancelled", "unheard-of"]) {
    assert.deepEqual(nextOf({ status }), []);
    assert(!canCancel({ status }));
  }
});

test("a snapshot replaces all but what came since it was asked for", () => {
  const orders = new Orders();
  orders.apply(order("gone", 1));
  orders.apply(order("listed", 1));
  orders.expectSnapshot();
  orders.apply(order("new", 1));
  orders.apply(order("listed", 3));
  orders.snapshot([order("listed", 2)]);
  assert.deepEqual(orders.sorted().map(({ orderId, version }) => [orderId, version]), [["listed", 3], ["new", 1]]);
});

test("only so many orders are kept, and the oldest go", () => {
  const orders = new Orders();
  for (let n = 0; n < 600; n += 1) {
    orders.apply({ orderId: `o${n}`, version: 1, createdAt: new Date(n * 1000).toISOString() });
  }
  assert.equal(orders.sorted().length, 500);
  assert.equal(orders.get("o0"), undefined);
  assert.equal(orders.sorted()[0].orderId, "o599");
});
