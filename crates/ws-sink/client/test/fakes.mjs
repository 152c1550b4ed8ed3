// A browser that the tests hold in their hands: clock, sockets, storage, network, page.

import { setMaxListeners } from "node:events";

import { Fanout } from "../fanout.js";

/** Timers that run when the test says so. */
class Clock {
  now = 1_000_000;
  #timers = new Map();
  #last = 0;

  set(run, ms) {
    this.#timers.set(++this.#last, { run, at: this.now + Math.max(0, ms) });
    return this.#last;
  }

  clear(id) {
    this.#timers.delete(id);
  }

  get waiting() {
    return [...this.#timers.values()].map(({ at }) => at - this.now);
  }

  /** Lets time pass, and what becomes due happen in its order. */
  async pass(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [id, { run, at }] = due;
      this.#timers.delete(id);
      this.now = Math.max(this.now, at);
      run();
      await settle();
    }
    this.now = end;
    await settle();
  }

  /** As when a machine slept: no timer has run, though its time is over. */
  sleep(ms) {
    this.now += ms;
  }
}

/** Lets promises come to rest. */
export async function settle() {
  for (let n = 0; n < 20; n += 1) await null;
}

class FakeSocket {
  sent = [];
  closed = false;

  constructor(url, protocols) {
    Object.assign(this, { url: new URL(url), protocols });
    made.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  /** The server says something. */
  async get(frame) {
    this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    await settle();
  }

  async end(code = 1006, reason = "") {
    this.onclose({ code, reason: typeof reason === "string" ? reason : JSON.stringify(reason) });
    await settle();
  }
}

class FakeEventSource {
  closed = false;
  #listeners = new Map();

  constructor(url, init) {
    Object.assign(this, { url: new URL(url), init });
    made.push(this);
  }

  addEventListener(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
  }

  close() {
    this.closed = true;
  }

  get hears() {
    return [...this.#listeners.keys()];
  }

  async get(frame, lastEventId = "", event = frame.event) {
    for (const listener of this.#listeners.get(event) ?? []) listener({ data: JSON.stringify(frame), lastEventId });
    await settle();
  }

  async end() {
    this.onerror({});
    await settle();
  }
}

class FakeStorage {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => void this.kept.set(key, String(value));
  removeItem = (key) => void this.kept.delete(key);
}

/** Sockets in the order they were opened. */
export const made = [];
export let clock;
export let storage;
/** What `Math.random` gives. */
export const chance = { is: 0.5 };
let page;

const real = { setTimeout, clearTimeout, now: Date.now, random: Math.random };

/** Puts the fakes in place of the browser; call before each test. */
export function install() {
  made.length = 0;
  clock = new Clock();
  storage = new FakeStorage();
  page = new EventTarget();
  // Many clients on one page.
  setMaxListeners(0, page);
  chance.is = 0.5;
  Math.random = () => chance.is;
  Date.now = () => clock.now;
  Object.assign(globalThis, {
    setTimeout: (run, ms) => clock.set(run, ms),
    clearTimeout: (id) => clock.clear(id),
    WebSocket: FakeSocket,
    EventSource: FakeEventSource,
    sessionStorage: storage,
    location: { href: "https://shop.example/orders" },
    document: { visibilityState: "visible" },
    addEventListener: (...args) => page.addEventListener(...args),
  });
}

/** Gives the test runner its own clock back; call after each test. */
export function uninstall() {
  Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
  Date.now = real.now;
  Math.random = real.random;
}

/** Something happens to window or document. */
export async function happens(event, more = {}) {
  page.dispatchEvent(Object.assign(new Event(event), more));
  await settle();
}

export const last = () => made.at(-1);

/** A client, and all that it told the application. */
export function client(options = {}) {
  const told = { states: [], welcomes: [], gaps: [], errors: [], all: [] };
  const fanout = new Fanout({
    onState: (state) => void told.all.push(["state", told.states.push(state) && state.name]),
    onWelcome: (data) => void told.all.push(["welcome", told.welcomes.push(data)]),
    onGap: (data) => void told.all.push(["gap", told.gaps.push(data)]),
    onError: (error, frame) => void told.all.push(["error", told.errors.push({ error, frame })]),
    ...options,
  });
  return Object.assign(told, { fanout, names: () => told.states.map(({ name }) => name) });
}

/** Opens a connection; `welcome` is added to what the server says. */
export async function live(fanout, welcome = {}) {
  fanout.connect();
  await settle();
  await greet(welcome);
  return last();
}

export function greet(welcome = {}) {
  const data = { connection: "c", rooms: [], cursor: "W", recovered: null, heartbeatMs: 25_000, ...welcome };
  return last().get({ event: "welcome", data });
}

export const event = (name, at, data = {}) => ({ event: name, at, data });
