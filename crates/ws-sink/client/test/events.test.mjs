// What the application gets, and what it says.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { FanoutError } from "../fanout.js";
import { client, clock, event, greet, install, last, live, made, settle, storage, uninstall } from "./fakes.mjs";

beforeEach(install);
afterEach(uninstall);

/** How a promise stands: what it gave, its error's code, or that it waits. */
async function stands(promise) {
  let state = "waits";
  promise.then((given) => (state = { given }), ({ code }) => (state = { code }));
  await settle();
  return state;
}

test("events go to their handlers, and to those for all", async () => {
  const { fanout } = client();
  const got = [];
  const off = fanout.on("a", (data, frame) => got.push(["a", data.n, frame.room]));
  fanout.on("a", ({ n }) => got.push(["a too", n]));
  fanout.on("*", ({ n }, frame) => got.push(["*", n, frame.event]));
  const socket = await live(fanout);
  await socket.get({ event: "a", room: "r", data: { n: 1 } });
  off();
  await socket.get(event("a", "l.1", { n: 2 }));
  await socket.get(event("b", "l.2", { n: 3 }));
  assert.deepEqual(got, [
    ["a", 1, "r"], ["a too", 1], ["*", 1, "a"],
    ["a too", 2], ["*", 2, "a"],
    ["*", 3, "b"],
  ]);
});

test("a handler may leave while it runs, and an unknown one too", async () => {
  const { fanout } = client();
  const got = [];
  const once = () => {
    got.push("once");
    fanout.off("a", once);
    fanout.off("never", once);
  };
  fanout.on("a", once);
  fanout.on("a", () => got.push("always"));
  const socket = await live(fanout);
  await socket.get(event("a"));
  await socket.get(event("a"));
  assert.deepEqual(got, ["once", "always", "always"]);
});

test("what is not known or no frame is passed over", async () => {
  const { fanout, errors, gaps } = client();
  const got = [];
  fanout.on("*", (data, frame) => got.push(frame.event));
  const socket = await live(fanout);
  const none = ["", "{", "null", "[]", "7", '"x"', '{"data":{}}', '{"event":7}', '{"event":null}'];
  for (const text of none) await socket.get(text);
  for (const own of ["heartbeat", "welcome", "gap"]) await socket.get({ event: own });
  await socket.get({ event: "no data", data: null });
  assert.deepEqual(got, ["no data"]);
  assert.deepEqual([errors, gaps.length, fanout.state.name], [[], 1, "live"]);
});

test("names of an object's own properties are names like others", async () => {
  const { fanout } = client();
  const got = [];
  for (const name of ["constructor", "toString", "__proto__"]) fanout.on(name, () => got.push(name));
  const socket = await live(fanout);
  for (const name of ["constructor", "toString", "__proto__", "hasOwnProperty"]) await socket.get(event(name));
  assert.deepEqual(got, ["constructor", "toString", "__proto__"]);
});

test("whether all that was missed follows is told with state and welcome", async () => {
  const { fanout, states, welcomes, gaps } = client();
  await live(fanout);
  for (const recovered of [true, false]) {
    await last().end();
    await clock.pass(5000);
    await greet({ recovered });
  }
  await last().get({ event: "gap", data: { reason: "expired", rooms: ["a"] } });
  assert.deepEqual(states.filter(({ name }) => name === "live").map(({ recovered }) => recovered), [null, true, false]);
  assert.deepEqual(welcomes.map(({ recovered }) => recovered), [null, true, false]);
  assert.deepEqual(gaps, [{ reason: "expired", rooms: ["a"] }]);
});

test("a room is asked for by id, and again on each reconnect", async () => {
  const { fanout } = client({ rooms: ["first"] });
  const socket = await live(fanout);
  const joined = fanout.subscribe("news");
  const [{ id, ...frame }] = socket.sent;
  assert.deepEqual(frame, { event: "subscribe", data: { room: "news" } });
  await socket.get({ event: "subscribed", id: id + 1, data: { room: "other" } });
  assert.equal(await stands(joined), "waits");
  await socket.get({ event: "subscribed", id, data: { room: "news" } });
  assert.deepEqual(await joined, { room: "news" });
  await socket.end();
  await clock.pass(500);
  assert.deepEqual(last().url.searchParams.getAll("room"), ["first", "other", "news"]);
});

test("a room that is refused is not asked for again", async () => {
  const { fanout, errors } = client();
  const socket = await live(fanout);
  const joined = fanout.subscribe("secret");
  const data = { code: "forbidden", message: "you may not", room: "secret" };
  const refused = assert.rejects(joined, (error) => {
    assert(error instanceof FanoutError);
    assert.deepEqual([error.code, error.message, error.room], ["forbidden", "you may not", "secret"]);
    return true;
  });
  await socket.get({ event: "error", id: socket.sent[0].id, data });
  await refused;
  await socket.end();
  await clock.pass(500);
  assert.deepEqual(last().url.searchParams.getAll("room"), []);
  assert.deepEqual(errors, []);
});

test("a room that is left is not asked for again", async () => {
  const { fanout } = client({ rooms: ["a", "b"] });
  const socket = await live(fanout);
  const left = fanout.unsubscribe("a");
  assert.equal(socket.sent[0].event, "unsubscribe");
  await socket.get({ event: "unsubscribed", id: socket.sent[0].id, data: { room: "a" } });
  assert.deepEqual(await left, { room: "a" });
  // Not even where the answer was lost.
  fanout.unsubscribe("b");
  await socket.end();
  await clock.pass(500);
  assert.deepEqual(last().url.searchParams.getAll("room"), []);
});

test("what is asked while away, or was not answered, is asked once there is a connection", async () => {
  const { fanout } = client();
  const early = fanout.subscribe("early");
  const first = await live(fanout);
  const cut = fanout.subscribe("cut");
  const left = fanout.unsubscribe("early");
  assert.deepEqual(first.sent.map(({ data }) => data.room), ["early", "cut", "early"]);
  await first.end();
  await clock.pass(500);
  await greet();
  // In the same order, with the same ids: last says what counts.
  assert.deepEqual(last().sent, first.sent);
  for (const { event: asked, id, data } of last().sent) await last().get({ event: `${asked}d`, id, data });
  assert.deepEqual(await Promise.all([early, cut, left]), [{ room: "early" }, { room: "cut" }, { room: "early" }]);
  await last().end();
  await clock.pass(5000);
  await greet();
  assert.deepEqual(last().url.searchParams.getAll("room"), ["cut"]);
  assert.deepEqual(last().sent, []);
});

test("a room asked for when the state becomes live is asked for once", async () => {
  const made = client({ onState: ({ name }) => name === "live" && made.fanout.subscribe("a") });
  await live(made.fanout);
  assert.equal(last().sent.length, 1);
});

test("the application's events are answered, and never repeated", async () => {
  const { fanout } = client();
  assert.deepEqual(await stands(fanout.send("say", {})), { code: "disconnected" });
  const socket = await live(fanout);
  const [taken, refused, cut] = [1, 2, 3].map((n) => fanout.send("say", { n }, n === 1 ? "lobby" : undefined));
  assert.deepEqual(socket.sent.map(({ id, ...frame }) => frame), [
    { event: "say", room: "lobby", data: { n: 1 } },
    { event: "say", data: { n: 2 } },
    { event: "say", data: { n: 3 } },
  ]);
  await socket.get({ event: "accepted", id: socket.sent[0].id, data: {} });
  await socket.get({ event: "error", id: socket.sent[1].id, data: { code: "rate_limited", message: "later" } });
  assert.deepEqual(await taken, {});
  assert.deepEqual(await stands(refused), { code: "rate_limited" });
  await socket.end();
  assert.deepEqual(await stands(cut), { code: "disconnected" });
  await clock.pass(500);
  await greet();
  assert.deepEqual(last().sent, []);
});

test("a token is renewed on the live connection", async () => {
  let n = 0;
  const { fanout } = client({ token: async () => `t${++n}` });
  const socket = await live(fanout);
  const renewed = fanout.renew();
  await settle();
  const [{ id, ...frame }] = socket.sent;
  assert.deepEqual(frame, { event: "auth", data: { token: "t2" } });
  const data = { subject: "42", roles: ["user"], rooms: ["user:42"], expiresAt: null };
  await socket.get({ event: "authenticated", id, data });
  assert.deepEqual(await renewed, data);
  const refused = fanout.renew();
  await settle();
  await socket.get({ event: "error", id: socket.sent[1].id, data: { code: "bad_token", message: "no" } });
  assert.deepEqual(await stands(refused), { code: "bad_token" });
  assert.equal(fanout.state.name, "live");
});

test("a room that a new token has no right to is reported, and not asked for again", async () => {
  const { fanout, errors } = client({ rooms: ["admin"] });
  const socket = await live(fanout);
  await socket.get({ event: "unsubscribed", data: { room: "admin" } });
  assert.deepEqual(errors.map(({ error }) => [error.code, error.room]), [["unsubscribed", "admin"]]);
  await socket.end();
  await clock.pass(500);
  assert.deepEqual(last().url.searchParams.getAll("room"), []);
});

test("errors that answer nothing are reported", async () => {
  const { fanout, errors } = client({ rooms: ["secret"] });
  const socket = await live(fanout);
  await socket.get({ event: "error", data: { code: "forbidden", message: "no", room: "secret" } });
  await socket.get({ event: "error" });
  await socket.get({ event: "authenticated", data: {} });
  assert.deepEqual(errors.map(({ error }) => [error.code, error.room]), [["forbidden", "secret"], ["error", undefined]]);
});

test("the end fails what waits", async () => {
  for (const end of [(fanout) => fanout.close(), () => last().end(4503)]) {
    const { fanout } = client();
    await live(fanout);
    const waiting = [fanout.subscribe("a"), fanout.send("say")];
    await end(fanout);
    for (const promise of waiting) assert.deepEqual(await stands(promise), { code: "closed" });
  }
});

test("after closing nothing is called, stored or opened", async () => {
  const told = client({ storageKey: "k", token: async () => "t" });
  const { fanout, all } = told;
  let finish;
  const ran = [];
  fanout.on("slow", () => new Promise((resolve, reject) => (finish = reject)));
  fanout.on("*", (data, { event: name }) => ran.push(name));
  const socket = await live(fanout);
  await socket.get(event("slow", "a.1"));
  await socket.get(event("next", "a.2"));
  const before = all.length;
  fanout.close();
  // As on logging out.
  storage.removeItem("k");
  finish(new Error("too late"));
  await settle();
  socket.onmessage({ data: JSON.stringify(event("next", "a.3")) });
  socket.onclose({ code: 1006, reason: "" });
  await clock.pass(1_000_000);
  assert.deepEqual([ran, all.length, made.length, storage.kept.size], [[], before, 1, 0]);
  assert.deepEqual(fanout.state, { name: "ended", code: 1000, reason: {} });
  assert(socket.closed);
  fanout.close();
});

test("closing is possible at any moment, also from within", async () => {
  const moments = {
    "while connecting": async ({ fanout }) => (fanout.connect(), fanout.close()),
    "while the token is fetched": async ({ fanout }) => (fanout.connect(), await null, fanout.close()),
    "while away": async ({ fanout }) => (await (await live(fanout)).end(), fanout.close()),
    "before anything": async ({ fanout }) => fanout.close(),
  };
  for (const [when, moment] of Object.entries(moments)) {
    const told = client({ token: async () => "t" });
    await moment(told);
    const [calls, sockets] = [told.all.length, made.length];
    await clock.pass(1_000_000);
    assert.deepEqual([told.all.length, made.length, told.fanout.state.name], [calls, sockets, "ended"], when);
  }
  for (const state of ["connecting", "live", "away", "ended"]) {
    const states = [];
    const { fanout, welcomes } = client({
      onState: ({ name }) => {
        states.push(name);
        if (name === state) fanout.close();
      },
    });
    const sockets = made.length;
    fanout.connect();
    await settle();
    if (made.length > sockets) await greet();
    if (state === "away") await last().end();
    if (state === "ended") await last().end(4503);
    await clock.pass(1_000_000);
    assert.equal(states.at(-1), state);
    assert.equal(fanout.state.name, "ended");
    assert(made.length <= sockets + 1, state);
    assert.equal(welcomes.length, ["away", "ended"].includes(state) ? 1 : 0, state);
  }
});

test("a token that comes or fails after closing is nobody's business", async () => {
  for (const end of ["resolve", "reject"]) {
    let finish;
    let asked = 0;
    const { fanout, all } = client({
      token: () => new Promise((resolve, reject) => (asked += 1, finish = { resolve, reject })),
      ticket: () => void (asked += 10),
    });
    fanout.connect();
    await settle();
    fanout.close();
    const before = all.length;
    finish[end](new Error("too late"));
    await clock.pass(1_000_000);
    assert.deepEqual([all.length, asked, made.length, fanout.state.name], [before, 1, 0, "ended"], end);
  }
});

test("closed while a handler still holds the next connection up, it asks for no token", async () => {
  let asked = 0;
  let finish;
  const { fanout } = client({ token: () => `t${(asked += 1)}` });
  fanout.on("slow", () => new Promise((resolve) => (finish = resolve)));
  const socket = await live(fanout);
  await socket.get(event("slow", "a.1"));
  await socket.end();
  await clock.pass(500);
  fanout.close();
  finish();
  await settle();
  assert.deepEqual([asked, made.length], [1, 1]);
});

test("a handler that closes is the last that runs", async () => {
  const { fanout } = client();
  const ran = [];
  fanout.on("bye", () => (ran.push("bye"), fanout.close()));
  fanout.on("*", () => ran.push("*"));
  const socket = await live(fanout);
  socket.onmessage({ data: JSON.stringify(event("bye", "a.1")) });
  socket.onmessage({ data: JSON.stringify(event("next", "a.2")) });
  await settle();
  assert.deepEqual(ran, ["bye"]);
});

test("closed and connected again it goes on", async () => {
  const { fanout } = client();
  const ran = [];
  fanout.on("x", (data, { at }) => ran.push(at));
  await (await live(fanout)).get(event("x", "a.1"));
  fanout.close();
  await live(fanout, { cursor: "W,a.1", recovered: true });
  assert.equal(last().url.searchParams.get("cursor"), "W,a.1");
  await last().get(event("x", "a.2"));
  assert.deepEqual(ran, ["a.1", "a.2"]);
});
