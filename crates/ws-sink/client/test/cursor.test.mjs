// What counts as seen.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { client, clock, event, greet, install, last, live, made, settle, storage, uninstall } from "./fakes.mjs";

beforeEach(install);
afterEach(uninstall);

const beat = (cursor) => ({ event: "heartbeat", data: { cursor } });

test("the cursor is the newest whole one and the last place of each lane since", async () => {
  const { fanout } = client();
  const socket = await live(fanout);
  for (const at of ["a.1", "b.7", "a.2", undefined]) await socket.get(event("x", at));
  assert.equal(fanout.cursor, "W,b.7,a.2");
  await socket.get(beat("V"));
  assert.equal(fanout.cursor, "V");
  await socket.get(event("x", "b.8"));
  await socket.end();
  await clock.pass(500);
  assert.equal(last().url.searchParams.get("cursor"), "V,b.8");
});

test("the cursor of a welcome that recovered nothing counts only with its gap", async () => {
  const { fanout } = client({ cursor: "old" });
  const socket = await live(fanout, { cursor: "new", recovered: false });
  assert.equal(fanout.cursor, "old");
  await socket.end();
  await clock.pass(500);
  // Cut before the gap: it is told once more.
  assert.equal(last().url.searchParams.get("cursor"), "old");
  await greet({ cursor: "newer", recovered: false });
  await last().get({ event: "gap", data: { reason: "reset", rooms: [] } });
  assert.equal(fanout.cursor, "newer");
});

/** A seeded generator, so that a failure can be repeated. */
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("it agrees with a naive model, whatever comes", async () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const upTo = numbers(seed);
    const { fanout } = client({ storageKey: "k" });
    await live(fanout, { cursor: "first" });
    // All frames in order; the cursor is read off them from the end.
    let log = [{ whole: "first" }];
    const model = () => {
      const from = log.findLastIndex(({ whole }) => whole);
      const lanes = {};
      for (const { at } of log.slice(from + 1)) if (at) lanes[at.split(".")[0]] = at;
      return [log[from].whole, ...Object.values(lanes)];
    };
    for (let n = 0; n < 80; n += 1) {
      const does = upTo(20);
      if (does < 13) {
        const at = upTo(6) ? `L${upTo(4)}.${n}` : undefined;
        log.push({ at });
        await last().get(event("x", at));
      } else if (does < 15) {
        log.push({ whole: `beat${n}` });
        await last().get(beat(`beat${n}`));
      } else if (does < 16) {
        log.push({ whole: `snapshot${n}` });
        fanout.cursor = `snapshot${n}`;
      } else if (does < 17) {
        await last().get({ event: "gap", data: { reason: "overflow", rooms: [] } });
      } else {
        await last().end();
        fanout.connect();
        await settle();
        const sent = last().url.searchParams.get("cursor");
        assert.equal(sent, fanout.cursor, `seed ${seed}`);
        // What the server says: a new one, or what it was sent, as it stands.
        const recovered = upTo(2) === 0;
        const cursor = recovered ? sent : `new${n}`;
        if (!recovered) log.push({ whole: cursor });
        await greet({ cursor, recovered });
        if (!recovered) await last().get({ event: "gap", data: { reason: "reset", rooms: [] } });
      }
      const [whole, ...lanes] = model();
      const [first, ...parts] = fanout.cursor.split(",");
      assert.equal(first, whole, `seed ${seed}, step ${n}`);
      assert.deepEqual(parts.sort(), lanes.sort(), `seed ${seed}, step ${n}`);
      assert.equal(storage.getItem("k"), fanout.cursor);
    }
    fanout.close();
    storage.kept.clear();
  }
});

test("a frame counts as seen only after its handlers have run, in order", async () => {
  const { fanout } = client();
  const ran = [];
  const finish = [];
  fanout.on("slow", (data, { at }) => {
    ran.push(at);
    return new Promise((resolve) => finish.push(resolve));
  });
  fanout.on("quick", (data, { at }) => ran.push(at));
  const socket = await live(fanout);
  await socket.get(event("slow", "a.1"));
  await socket.get(event("quick", "a.2"));
  await socket.get(beat("V"));
  assert.deepEqual([ran, fanout.cursor], [["a.1"], "W"]);
  finish[0]();
  await settle();
  assert.deepEqual([ran, fanout.cursor], [["a.1", "a.2"], "V"]);
});

test("during a handler the frame is not yet seen", async () => {
  const { fanout } = client();
  const at = [];
  fanout.on("x", () => at.push(fanout.cursor));
  const socket = await live(fanout);
  await socket.get(event("x", "a.1"));
  await socket.get(event("x", "a.2"));
  assert.deepEqual(at, ["W", "W,a.1"]);
});

test("a handler that throws or rejects is reported, and its frame counts as seen", async () => {
  const { fanout, errors } = client();
  const after = [];
  fanout.on("throws", () => {
    throw new Error("one");
  });
  fanout.on("rejects", async () => {
    throw new Error("two");
  });
  fanout.on("*", (data, { event: name }) => after.push(name));
  const socket = await live(fanout);
  await socket.get(event("throws", "a.1"));
  await socket.get(event("rejects", "a.2"));
  await socket.get(event("fine", "a.3"));
  assert.deepEqual(errors.map(({ error, frame }) => [error.message, frame.at]), [["one", "a.1"], ["two", "a.2"]]);
  assert.deepEqual(after, ["throws", "rejects", "fine"]);
  assert.equal(fanout.cursor, "W,a.3");
});

test("callbacks that throw, even the one for errors, stop nothing", async () => {
  const { error } = console;
  const said = [];
  console.error = (error) => said.push(error.message);
  const bad = () => {
    throw new Error("bad");
  };
  try {
    const { fanout } = client({ onState: bad, onWelcome: bad, onGap: bad, onError: bad });
    const socket = await live(fanout);
    await socket.get({ event: "gap", data: {} });
    await socket.get(event("x", "a.1"));
    assert.equal(fanout.cursor, "W,a.1");
  } finally {
    console.error = error;
  }
  assert.deepEqual(said, ["bad", "bad", "bad", "bad"]);
});

test("what the last connection brought is handled before the next is opened", async () => {
  const { fanout } = client();
  let finish;
  const ran = [];
  fanout.on("slow", () => new Promise((resolve) => (finish = resolve)));
  fanout.on("next", (data, { at }) => ran.push(at));
  const socket = await live(fanout);
  await socket.get(event("slow", "a.1"));
  await socket.get(event("next", "a.2"));
  await socket.end();
  await clock.pass(500);
  assert.equal(made.length, 1);
  finish();
  await settle();
  assert.equal(last().url.searchParams.get("cursor"), "W,a.2");
  assert.deepEqual(ran, ["a.2"]);
});

test("what came before a final close is still handled", async () => {
  const { fanout } = client();
  let finish;
  const ran = [];
  fanout.on("slow", () => new Promise((resolve) => (finish = resolve)));
  fanout.on("*", (data, { event: name }) => ran.push(name));
  const socket = await live(fanout);
  await socket.get(event("slow", "a.1"));
  await socket.get(event("next", "a.2"));
  await socket.end(4503);
  finish();
  await settle();
  assert.deepEqual(ran, ["slow", "next"]);
});

test("frames that nobody handles in time are bounded: it comes back for them", async () => {
  const { fanout, states } = client();
  let finish;
  let ran = 0;
  fanout.on("slow", () => new Promise((resolve) => (finish = resolve)));
  fanout.on("x", () => void (ran += 1));
  const socket = await live(fanout);
  await socket.get(event("slow", "a.0"));
  for (let n = 1; n <= 10_001 && !socket.closed; n += 1) socket.onmessage({ data: JSON.stringify(event("x", `a.${n}`)) });
  assert.deepEqual(states.at(-1).reason, { name: "overwhelmed" });
  await clock.pass(500);
  finish();
  for (let n = 0; n < 2000 && made.length === 1; n += 1) await settle();
  assert.equal(ran, 10_001);
  assert.equal(last().url.searchParams.get("cursor"), "W,a.10001");
});

test("a gap is handled before anything after it counts as seen", async () => {
  let finish;
  const { fanout } = client({ onGap: () => new Promise((resolve) => (finish = resolve)) });
  const socket = await live(fanout, { cursor: "new", recovered: false });
  await socket.get({ event: "gap", data: { reason: "reset", rooms: [] } });
  await socket.get(event("x", "a.1"));
  assert.equal(fanout.cursor, "");
  // The snapshot's takes the place of all before; what came while it was read follows.
  fanout.cursor = "snapshot";
  finish();
  await settle();
  assert.equal(fanout.cursor, "snapshot,a.1");
});

test("a snapshot's cursor from within a handler is not undone by the frame itself", async () => {
  const { fanout } = client({ onWelcome: () => (fanout.cursor = "snapshot") });
  await live(fanout);
  assert.equal(fanout.cursor, "snapshot");
});

test("forgotten is forgotten: places alone would say that nothing else was seen", async () => {
  const { fanout } = client({ storageKey: "k" });
  const socket = await live(fanout);
  await socket.get(event("x", "a.1"));
  fanout.cursor = null;
  await socket.get(event("x", "a.2"));
  assert.equal(fanout.cursor, "");
  assert.equal(storage.kept.size, 0);
  await socket.get(beat("V"));
  assert.equal(fanout.cursor, "V");
});

test("a lane that stands in the whole cursor is not there twice", async () => {
  const { fanout } = client();
  const socket = await live(fanout, { cursor: "sealed,a.1,b.1" });
  await socket.get(event("x", "a.2"));
  assert.equal(fanout.cursor, "sealed,b.1,a.2");
});

test("a place that is none is passed over", async () => {
  const { fanout, errors } = client();
  const socket = await live(fanout);
  for (const at of ["", "x", ".1", "a.", "a,b.1", "a.1,b", 7, 1.5, {}, [], null, true]) await socket.get(event("x", at));
  assert.match(fanout.cursor, /^W(,1\.5)?$/);
  assert.deepEqual(errors, []);
});

test("a cursor stays within what a server takes: lanes that moved longest ago are left out", async () => {
  const { fanout } = client();
  const whole = "W".repeat(1000);
  const socket = await live(fanout, { cursor: whole });
  const at = (n) => `lane${String(n).padStart(3, "0")}.${"x".repeat(22)}`;
  for (let n = 0; n < 300; n += 1) await socket.get(event("x", at(n)));
  await socket.get(event("x", at(100)));
  const [first, ...lanes] = fanout.cursor.split(",");
  assert.equal(first, whole);
  assert(fanout.cursor.length <= 8192 && lanes.length > 230, `${lanes.length} lanes`);
  assert.deepEqual(lanes.slice(-2), [at(299), at(100)]);
  assert(!lanes.includes(at(0)));
});

test("lanes are bounded in number too, however short", async () => {
  const { fanout } = client();
  const socket = await live(fanout);
  for (let n = 0; n < 1000; n += 1) await socket.get(event("x", `l${n}.1`));
  const parts = fanout.cursor.split(",");
  assert.deepEqual([parts.length, parts[0], parts.at(-1)], [256, "W", "l999.1"]);
});

test("a whole cursor that no server takes is not sent, and that is said", async () => {
  const { fanout, all, states, gaps, welcomes } = client({ cursor: "W".repeat(8193) });
  await live(fanout, { cursor: "new", rooms: ["user:1"] });
  assert.equal(made[0].url.searchParams.get("cursor"), null);
  assert.deepEqual(gaps, [{ reason: "limit", rooms: ["user:1"] }]);
  assert.equal(welcomes[0].recovered, false);
  assert.equal(states.at(-1).recovered, false);
  assert.deepEqual(all.map(([what]) => what), ["state", "state", "welcome", "gap"]);
  assert.equal(fanout.cursor, "new");
});

test("what was kept is gone on from after a reload", async () => {
  const before = client({ storageKey: "k" });
  const socket = await live(before.fanout);
  await socket.get(event("x", "a.1"));
  assert.equal(storage.getItem("k"), "W,a.1");
  // The page is loaded again: nothing is left but the storage.
  const after = client({ storageKey: "k" });
  assert.equal(after.fanout.cursor, "W,a.1");
  after.fanout.connect();
  await settle();
  assert.equal(last().url.searchParams.get("cursor"), "W,a.1");
  assert.equal(client({ storageKey: "other" }).fanout.cursor, "");
  assert.equal(client().fanout.cursor, "");
  // What the application says comes first.
  assert.equal(client({ storageKey: "k", cursor: "given" }).fanout.cursor, "given");
});

test("a storage that is forbidden or full costs no event", async () => {
  storage.getItem = storage.setItem = () => {
    throw new Error("QuotaExceededError");
  };
  const { fanout, errors } = client({ storageKey: "k" });
  const socket = await live(fanout);
  await socket.get(event("x", "a.1"));
  assert.equal(fanout.cursor, "W,a.1");
  assert.deepEqual(errors, []);
});

test("without a storage key nothing is stored", async () => {
  const { fanout } = client();
  await (await live(fanout)).get(event("x", "a.1"));
  assert.equal(storage.kept.size, 0);
});
