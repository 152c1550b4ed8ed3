// The parts of the order server's pages that need no browser. `.ci/run` puts the
// pages beside this file, in `pages/`.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Orders } from "./pages/orders.js";
import { canCancel, nextOf } from "./pages/statuses.js";
import { Told } from "./pages/told.js";

let page;

beforeEach(() => {
  const kept = new Map();
  page = new EventTarget();
  globalThis.addEventListener = (...args) => page.addEventListener(...args);
  globalThis.location = { pathname: "/orders" };
  globalThis.sessionStorage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
  };
});

test("what was told is not told again, also after a reload", () => {
  const told = new Told();
  assert(told.isNew);
  told.isNew = false;
  assert.deepEqual([told.add("a paid"), told.add("a paid"), told.add("a shipped")], [true, false, true]);
  page.dispatchEvent(new Event("pagehide"));
  const reloaded = new Told();
  assert.deepEqual([reloaded.isNew, reloaded.has("a paid"), reloaded.add("a shipped")], [false, true, false]);
  globalThis.location.pathname = "/admin/orders";
  assert(new Told().isNew, "another page has told nothing yet");
});

test("a page that was left before it knew anything is still new", () => {
  new Told().add("a paid");
  page.dispatchEvent(new Event("pagehide"));
  assert(new Told().isNew);
});

test("only so much of what was told is remembered", () => {
  const told = new Told();
  for (let n = 0; n <= 1000; n += 1) told.add(`o${n}`);
  assert.deepEqual([told.has("o0"), told.has("o1"), told.has("o1000")], [false, true, true]);
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
