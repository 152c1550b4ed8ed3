// The browser's side of `fanout.v1`: one connection, over WebSocket or Server-Sent
// Events, that comes back by itself and goes on where it was. See `fanout.d.ts`.
//
//   connecting --welcome--> live --closed, silent--> away --time over--> connecting
//                             '--final close code, close()--> ended
//
// What it does not know, it ignores. A frame counts as seen once its handlers have
// run: what they were not given before a cut is sent again.

const BASE_MS = 500;
const MAX_BACKOFF_MS = 30_000;
/** Longest wait that a server can ask for. */
const MAX_HINT_MS = 600_000;
/** From opening to `welcome`. */
const WELCOME_MS = 15_000;
const HEARTBEAT_MS = 30_000;
/** What a heartbeat may be late by. */
const SLACK_MS = 5_000;
/** A connection that held this long starts the back-off over. */
const STEADY_MS = 5_000;
/** What a server takes in an address. */
const MAX_CURSOR = 8192;
/** More places of 30 characters than that holds. */
const MAX_LANES = 256;
/** Frames that wait for handlers. Beyond, coming back later costs less. */
const MAX_WAITING = 10_000;

const FINAL = [1000, 1002, 1003, 1007, 1009];
const OWN = ["welcome", "gap", "heartbeat"];
const ANSWERS = ["subscribed", "unsubscribed", "authenticated", "accepted", "error"];

export class FanoutError extends Error {
  constructor(code, message = code, room) {
    super(message);
    Object.assign(this, { name: "FanoutError", code, room });
  }
}

const bounded = (ms) => (ms > 0 ? Math.min(ms, MAX_HINT_MS) : 0);

/** Milliseconds until the next try after a close, or `null`: do not come back. */
export function comeBackAfter(code, { withinMs, afterMs }, attempt, maxBackoffMs = MAX_BACKOFF_MS) {
  if (FINAL.includes(code) || code >= 4500) return null;
  if (withinMs > 0) return Math.random() * bounded(withinMs);
  // Full jitter: those who were cut off together do not come back together.
  return bounded(afterMs) + Math.random() * Math.min(maxBackoffMs, BASE_MS * 2 ** attempt);
}

/** A text's JSON object. A close reason that is none says nothing. */
function read(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

/** The newest whole cursor, and since then the last place in each lane. */
class Cursor {
  // By lane. What has none is the whole one, and stays first.
  #parts = new Map();
  #known = false;

  whole(text) {
    this.#known = typeof text === "string";
    this.#parts.clear();
    // A server that was sent a joined one may give it back.
    if (this.#known) for (const part of text.split(",")) if (part) this.#parts.set(part.split(".")[0], part);
  }

  at(place) {
    const lane = /^([^.,]+)\.[^,]+$/.exec(place)?.[1];
    // Alone it would say that of other lanes nothing was seen.
    if (!lane || !this.#known) return;
    this.#parts.delete(lane);
    this.#parts.set(lane, place);
    if (this.#parts.size > MAX_LANES) this.#dropOldest();
  }

  // What came there since the whole cursor may come twice. Nothing is lost.
  #dropOldest() {
    for (const [lane, part] of this.#parts) if (lane !== part) return this.#parts.delete(lane);
  }

  toString() {
    let text;
    do text = [...this.#parts.values()].join();
    while (text.length > MAX_CURSOR && this.#dropOldest());
    return text;
  }
}

export class Fanout {
  #options;
  #handlers = new Map();
  #rooms;
  #cursor = new Cursor();
  /** Counts what the application said of the cursor: nothing older undoes it. */
  #told = 0;
  /** The cursor of a welcome whose gap has not come yet. */
  #held = "";
  #state = { name: "ended" };
  /** WebSocket or EventSource. A former one is not listened to. */
  #link = null;
  #hear = null;
  /** Counts openings and ends: who waited, and finds another, was overtaken. */
  #turn = 0;
  /** Counts calls of `close()`. */
  #life = 0;
  #listening = null;
  #attempt = 0;
  #code;
  /** When to open while away, when to give up while connected. */
  #timer;
  #heardAt;
  #silenceMs;
  #liveSince;
  #waiting = [];
  #handling = false;
  #handled;
  #asked = new Map();
  #lastId = 0;

  constructor(options = {}) {
    this.#options = options;
    this.#rooms = new Set(options.rooms);
    let { cursor, storageKey } = options;
    try {
      if (storageKey) cursor ??= sessionStorage.getItem(storageKey);
    } catch {
      // Forbidden: a reload starts anew.
    }
    this.#cursor.whole(cursor);
  }

  get state() {
    return this.#state;
  }

  get cursor() {
    return String(this.#cursor);
  }

  set cursor(text) {
    this.#told += 1;
    this.#cursor.whole(text);
    this.#store();
  }

  on(event, handler) {
    if (!this.#handlers.has(event)) this.#handlers.set(event, new Set());
    this.#handlers.get(event).add(handler);
    if (this.#hear) this.#link.addEventListener(event, this.#hear);
    return () => this.off(event, handler);
  }

  off(event, handler) {
    this.#handlers.get(event)?.delete(handler);
  }

  connect() {
    if (this.#link || this.#state.name === "connecting") return;
    this.#listen();
    this.#open();
  }

  close() {
    this.#life += 1;
    this.#waiting = [];
    this.#end({ name: "ended", code: 1000, reason: {} });
  }

  subscribe(room) {
    return this.#ask({ event: "subscribe", data: { room } }, true);
  }

  unsubscribe(room) {
    this.#rooms.delete(room);
    return this.#ask({ event: "unsubscribe", data: { room } }, true);
  }

  // Never repeated: whether a lost one was taken is not known.
  send(event, data, room) {
    return this.#ask({ event, room, data });
  }

  async renew() {
    return this.#ask({ event: "auth", data: { token: await this.#options.token({}) } });
  }

  async #ask(frame, again) {
    const live = this.#state.name === "live";
    if (this.#options.transport === "sse") throw new FanoutError("unsupported");
    if (!live && !again) throw new FanoutError("disconnected");
    return new Promise((resolve, reject) => {
      const text = JSON.stringify({ ...frame, id: ++this.#lastId });
      this.#asked.set(this.#lastId, { text, again, resolve, reject });
      if (live) this.#link.send(text);
    });
  }

  #answer({ event, id, data }) {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (event === "subscribed") this.#rooms.add(data.room);
    if (event === "unsubscribed") this.#rooms.delete(data.room);
    if (asked && event !== "error") asked.resolve(data);
    // Not asked for, `unsubscribed` says that a renewed token has no right to the room.
    else if (asked || event === "error" || event === "unsubscribed") {
      const error = new FanoutError(data.code ?? event, data.message, data.room);
      if (asked) asked.reject(error);
      else this.#fail(error);
    }
  }

  /** Fails what waits for an answer, except for what will be asked again. */
  #giveUp(code, all) {
    for (const [id, { again, reject }] of this.#asked) {
      if (again && !all) continue;
      this.#asked.delete(id);
      reject(new FanoutError(code));
    }
  }

  // ## Connecting

  async #open() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    const { transport, token, ticket, withCredentials = false, events = [] } = this.#options;
    const sse = transport === "sse";
    this.#enter({ name: "connecting" });
    try {
      // What the last connection brought is seen before it is asked for again.
      await this.#handled;
      const shown = turn === this.#turn && !sse && (await token?.({ code: this.#code }));
      const once = turn === this.#turn && (await ticket?.());
      if (turn !== this.#turn) return;

      const url = new URL(this.#options.url ?? (sse ? "/events" : "/ws"), globalThis.location?.href);
      if (!sse) url.protocol = url.protocol.replace("http", "ws");
      const { cursor } = this;
      const fits = cursor.length <= MAX_CURSOR;
      if (cursor && fits) url.searchParams.set("cursor", cursor);
      if (once) url.searchParams.set("ticket", once);
      for (const room of this.#rooms) url.searchParams.append("room", room);

      const link = sse
        ? new EventSource(url, { withCredentials })
        : new WebSocket(url, shown ? ["fanout.v1", `bearer.${shown}`] : ["fanout.v1"]);
      this.#link = link;
      const take = (text, whole) => this.#link === link && this.#take(read(text), whole, fits);
      const over = ({ code, ...hint }) => this.#link === link && this.#closed(code, hint);
      if (sse) {
        this.#hear = ({ data, lastEventId }) => take(data, lastEventId);
        // An EventSource gives only what it is asked for by name.
        for (const event of [...OWN, "message", ...this.#handlers.keys(), ...events]) {
          link.addEventListener(event, this.#hear);
        }
        link.addEventListener("close", ({ data }) => over(read(data)));
        // Its own way back knows neither back-off nor a new ticket.
        link.onerror = () => over({ code: 1006 });
      } else {
        link.onmessage = ({ data }) => take(data);
        link.onclose = ({ code, reason }) => over({ ...read(reason), code });
      }
      this.#silenceMs = WELCOME_MS;
      this.#heardAt = Date.now();
      this.#watch();
    } catch (error) {
      if (turn === this.#turn) this.#fail(error);
      if (turn === this.#turn) this.#closed(1006, {});
    }
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    // A dead network's closing handshake takes minutes: nobody waits for it.
    this.#link?.close();
    this.#link = this.#hear = null;
  }

  #closed(code, reason) {
    if (Date.now() - this.#liveSince >= STEADY_MS) this.#attempt = 0;
    this.#code = code;
    const wait = comeBackAfter(code, reason, this.#attempt, this.#options.maxBackoffMs);
    if (wait === null) {
      this.#end({ name: "ended", code, reason });
      return this.#enter(this.#state);
    }
    this.#drop();
    this.#liveSince = undefined;
    this.#giveUp("disconnected");
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#open(), wait);
    this.#enter({ name: "away", code, reason, retryAt: Date.now() + wait });
  }

  #end(state) {
    this.#state = state;
    this.#listening?.abort();
    this.#listening = null;
    this.#attempt = 0;
    this.#drop();
    this.#giveUp("closed", true);
  }

  /** A browser shows no pings, so every frame counts as life. */
  #watch = () => {
    clearTimeout(this.#timer);
    const left = this.#heardAt + this.#silenceMs - Date.now();
    if (left <= 0) this.#closed(1006, { name: "silent" });
    // A clock that was set back makes nobody wait for longer.
    else this.#timer = setTimeout(this.#watch, Math.min(left, this.#silenceMs));
  };

  #listen() {
    if (this.#listening) return;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const now = () => {
      const { name, reason } = this.#state;
      if (this.#link) this.#watch();
      // A wait that the server asked for is not cut short.
      else if (name === "away" && !reason.withinMs && !reason.afterMs) this.#open();
    };
    const when = {
      online: now,
      offline: () => this.#link && this.#closed(1006, { name: "offline" }),
      visibilitychange: () => document.visibilityState === "visible" && now(),
      // A page with a connection would not be kept for the back button.
      pagehide: () => {
        this.#drop();
        this.#giveUp("disconnected");
        this.#enter({ name: "away", code: 1001, reason: { name: "hidden" } });
      },
      pageshow: now,
    };
    // What happens to the document bubbles to the window.
    for (const event in when) globalThis.addEventListener?.(event, when[event], { signal });
  }

  #enter(state) {
    this.#state = state;
    try {
      this.#options.onState?.(state);
    } catch (error) {
      this.#fail(error);
    }
  }

  // ## Frames

  #take(frame, whole, fits) {
    if (typeof frame.event !== "string") return;
    this.#heardAt = Date.now();
    frame.data ??= {};
    const { event, data } = frame;
    if (ANSWERS.includes(event)) return this.#answer(frame);
    if (event !== "welcome") return this.#push(frame, whole);

    this.#silenceMs = 2 * (bounded(data.heartbeatMs) || HEARTBEAT_MS) + SLACK_MS;
    this.#liveSince = this.#heardAt;
    this.#watch();
    for (const { text } of this.#asked.values()) this.#link.send(text);
    // A cursor that is too long was not sent, and that is said.
    if (!fits) data.recovered = false;
    const life = this.#life;
    this.#enter({ name: "live", recovered: data.recovered });
    if (life !== this.#life) return;
    this.#push(frame, whole);
    if (!fits) this.#push({ event: "gap", data: { reason: "limit", rooms: data.rooms } });
  }

  #push(frame, whole) {
    if (this.#waiting.push([frame, whole]) > MAX_WAITING) this.#closed(1006, { name: "overwhelmed" });
    if (!this.#handling) this.#handled = this.#handle();
  }

  /** One frame after the other, also where a handler takes its time. */
  async #handle() {
    this.#handling = true;
    while (this.#waiting.length) {
      const [frame, whole] = this.#waiting.shift();
      const { event, data, at } = frame;
      const told = this.#told;
      const life = this.#life;
      for (const handler of this.#handlersOf(event)) {
        if (life !== this.#life) break;
        try {
          const result = handler(data, frame);
          if (result?.then) await result;
        } catch (error) {
          if (life === this.#life) this.#fail(error, frame);
        }
      }
      let newest = whole || (OWN.includes(event) && data.cursor);
      if (event === "gap") newest ||= this.#held;
      if (event === "welcome" || event === "gap") this.#held = "";
      // Only with the gap that follows: without, nobody would know that something is missing.
      if (event === "welcome" && data.recovered === false) [this.#held, newest] = [newest, ""];
      if (!newest) this.#cursor.at(at);
      else if (told === this.#told) this.#cursor.whole(newest);
      if (life === this.#life) this.#store();
    }
    this.#handling = false;
  }

  #handlersOf(event) {
    const { onWelcome, onGap } = this.#options;
    if (OWN.includes(event)) return [{ welcome: onWelcome, gap: onGap }[event]].filter(Boolean);
    return [event, "*"].flatMap((name) => [...(this.#handlers.get(name) ?? [])]);
  }

  #fail(error, frame) {
    try {
      (this.#options.onError ?? console.error)(error, frame);
    } catch (worse) {
      console.error(worse);
    }
  }

  #store() {
    const { storageKey } = this.#options;
    const { cursor } = this;
    try {
      if (storageKey && cursor) sessionStorage.setItem(storageKey, cursor);
      else if (storageKey) sessionStorage.removeItem(storageKey);
    } catch {
      // Full or forbidden: a reload starts anew.
    }
  }
}
