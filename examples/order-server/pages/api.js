// The server's REST calls, with errors in words that can be shown as they are.

import * as session from "./session.js";

const PATIENCE_MS = 15_000;

/** A call that failed. `message` is for people, `status` 0 when no answer came. */
export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

const WORDS = {
  0: "The server cannot be reached. Please try again in a moment.",
  401: "Please log in again.",
  403: "You may not do that with this login.",
  404: "There is no such thing here (any more).",
  409: "The order has changed meanwhile: that is not possible now.",
  413: "That is too much to send at once.",
  429: "That was too often. Please wait a little.",
  503: "The store is away for a moment. Please try again.",
};

async function call(method, path, { body, headers = {} } = {}) {
  const token = session.current()?.token;
  let response;
  let answer = null;
  try {
    response = await fetch(path, {
      method,
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE_MS),
      headers: {
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    answer = text === "" ? null : parse(text);
  } catch {
    throw new ApiError(WORDS[0], 0, "unreachable");
  }
  if (response.ok) return answer;

  if (response.status === 401 && token) session.end("expired");
  const said = answer?.error?.message;
  let message = said || WORDS[response.status] || `The server answered with ${response.status}.`;
  const wait = Number(response.headers.get("Retry-After"));
  if (response.status === 429 && wait > 0) message = `${WORDS[429]} (${wait} s)`;
  throw new ApiError(sentence(message), response.status, answer?.error?.code);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Error texts are fragments; on a page they stand alone. */
function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(first) ? first : `${first}.`;
}

const order = (id) => `/api/orders/${encodeURIComponent(id)}`;

export const login = (email, role) => call("POST", "/api/login", { body: { email, role } });

export const listOrders = ({ limit = 50, before } = {}) =>
  call("GET", `/api/orders?${new URLSearchParams({ limit, ...(before === undefined ? {} : { before }) })}`);

export const getOrder = (id) => call("GET", order(id));

/** `key` makes a repeat of the same order return the first one instead of a second. */
export const placeOrder = (body, key) =>
  call("POST", "/api/orders", { body, headers: { "Idempotency-Key": key } });

export const setStatus = (id, status) => call("PATCH", `${order(id)}/status`, { body: { status } });

export const cancelOrder = (id, reason) =>
  call("POST", `${order(id)}/cancel`, { body: reason ? { reason } : {} });

/** Opens one connection, soon: for what cannot show a token. */
export const ticket = () => call("POST", "/api/ticket");

export const stats = () => call("GET", "/api/stats");
