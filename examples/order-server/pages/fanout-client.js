// The native protocol `fanout.v1` over WebSocket: one connection that comes back by
// itself.
//
//   connecting --welcome--> live --closed, silent--> away --time over--> connecting
//                             '--final close code--> ended
//
// What it does not know, it ignores. What was missed while away is not its business:
// after each `welcome` and `gap` the page reads its snapshot again.

const BASE_MS = 500;
const MAX_MS = 30_000;
/** Longest wait that a server can ask for. */
const MAX_HINT_MS = 600_000;
/** From opening to `welcome`. */
const WELCOME_MS = 15_000;
/** A connection that held this long starts the back-off over. */
const STEADY_MS = 10_000;
/** Bounds what one server can make a page remember. */
const MAX_LANES = 4096;

const FINAL = new Set([1000, 1002, 1003, 1007, 1009]);
const TOKEN_EXPIRED = 4002;

/** What a close frame's reason says: `{name, withinMs?, afterMs?}`, or `{}`. */
export function readReason(reason) {
  try {
    const read = JSON.parse(reason);
    return typeof read === "object" && read !== null ? read : {};
  } catch {
    return {};
  }
}

/**
 * Milliseconds until the next try after a close, or `null`: do not come back.
 * `attempt` counts the tries since the last steady connection, from 0.
 */
export function comeBackAfter(code, hint, attempt, random = Math.random) {
  if (FINAL.has(code) || code >= 4500) return null;
  const within = bounded(hint.withinMs);
  if (within > 0) return random() * within;
  // Full jitter: those who were cut off together do not come back together.
  return bounded(hint.afterMs) + random() * Math.min(MAX_MS, BASE_MS * 2 ** attempt);
}

function bounded(ms) {
  return Number.isFinite(ms) && ms > 0 ? Math.min(ms, MAX_HINT_MS) : 0;
}

export class FanoutClient {
  #options;
  #socket = null;
  #attempt = 0;
  #timer = 0;
  #watchdog = 0;
  #silenceMs = WELCOME_MS;
  #liveSince = 0;
  #whole = null;
  #lanes = new Map();
  #state = { name: "ended" };

  /**
   * - `token(expired)`: the token to show, asked before each connection, or `null` to
   *   end; `expired` when the server has just refused the last one as too old.
   * - `onState({name, retryAt?, code?, reason?})`: connecting, live, away, ended.
   * - `onWelcome(data)`, `onEvent({event, data, room, at})`, `onGap(data)`.
   */
  constructor(options) {
    this.#options = { path: "/ws", ...options };
  }

  get state() {
    return this.#state;
  }

  /** Everything before has been seen: the last whole cursor and what came since. */
  get cursor() {
    return [this.#whole, ...this.#lanes.values()].filter(Boolean).join(",");
  }

  /** Connects now: at first, after the end, or instead of waiting on. */
  connect() {
    if (this.#socket) return;
    this.#open();
  }

  #open() {
    clearTimeout(this.#timer);
    const token = this.#options.token(false);
    if (!token) {
      this.#enter({ name: "ended", code: 4500, reason: {} });
      return;
    }
    this.#enter({ name: "connecting" });
    const url = new URL(this.#options.path, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["fanout.v1", `bearer.${token}`]);
    this.#socket = socket;
    this.#silenceMs = WELCOME_MS;
    this.#liveSince = 0;
    this.#feed(socket);
    // A socket that was given up may still report: only the current one counts.
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#take(socket, data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#closed(code, readReason(reason));
    };
  }

  #feed(socket) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      // The closing handshake of a dead network takes minutes: do not wait for it.
      this.#closed(1006, { name: "silent" });
      socket.close();
    }, this.#silenceMs);
  }

  #closed(code, hint) {
    this.#socket = null;
    clearTimeout(this.#watchdog);
    if (this.#liveSince && performance.now() - this.#liveSince > STEADY_MS) this.#attempt = 0;
    const wait = comeBackAfter(code, hint, this.#attempt);
    if (wait === null || (code === TOKEN_EXPIRED && !this.#options.token(true))) {
      this.#enter({ name: "ended", code, reason: hint });
      return;
    }
    this.#attempt = Math.min(this.#attempt + 1, 16);
    this.#enter({ name: "away", retryAt: Date.now() + wait, code, reason: hint });
    this.#timer = setTimeout(() => this.#open(), wait);
  }

  #take(socket, text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (typeof frame?.event !== "string") return;
    const data = frame.data ?? {};
    if (frame.event === "welcome") {
      const beat = bounded(data.heartbeatMs);
      // Two beats of silence are too many.
      if (beat > 0) this.#silenceMs = 2 * beat;
      this.#liveSince = performance.now();
      this.#keepWhole(data.cursor);
      this.#feed(socket);
      this.#enter({ name: "live" });
      this.#options.onWelcome?.(data);
      return;
    }
    this.#feed(socket);
    switch (frame.event) {
      case "heartbeat":
        this.#keepWhole(data.cursor);
        break;
      case "gap":
        this.#options.onGap?.(data);
        break;
      // Answers to what this page never asks.
      case "subscribed":
      case "unsubscribed":
      case "authenticated":
        break;
      case "error":
        console.warn("fanout: the server refused a frame:", data.code, data.message);
        break;
      default:
        this.#keepAt(frame.at);
        this.#options.onEvent?.({ event: frame.event, data, room: frame.room, at: frame.at });
    }
  }

  #keepWhole(cursor) {
    if (typeof cursor !== "string" || cursor === "") return;
    this.#whole = cursor;
    this.#lanes.clear();
  }

  #keepAt(at) {
    if (typeof at !== "string") return;
    const lane = at.split(".", 1)[0];
    if (this.#lanes.has(lane) || this.#lanes.size < MAX_LANES) this.#lanes.set(lane, at);
  }

  #enter(state) {
    this.#state = state;
    this.#options.onState?.(state);
  }
}
