// The orders that a page shows, by version: whatever comes, from REST or as an
// event, in any order and however often, only a newer version changes anything.

/** More than this is not kept: the oldest go first. */
const MAX_ORDERS = 500;

/** The order in a REST answer or in an event's data, or `null` if it holds none. */
export function readOrder(raw) {
  if (typeof raw?.orderId !== "string" || !Number.isSafeInteger(raw.version)) return null;
  const status = String(raw.status ?? "pending");
  return {
    orderId: raw.orderId,
    version: raw.version,
    status,
    was: [status],
    buyerId: String(raw.buyerId ?? ""),
    items: Array.isArray(raw.items) ? raw.items : [],
    total: raw.total ?? raw.totalAmount,
    currency: raw.currency ?? "USD",
    shippingAddress: raw.shippingAddress,
    createdAt: String(raw.createdAt ?? ""),
    reason: raw.reason,
  };
}

export class Orders {
  #byId = new Map();
  #touched = new Set();

  get(orderId) {
    return this.#byId.get(orderId);
  }

  /** Takes one order; returns it if it changed what was known, else `null`. */
  apply(raw) {
    const order = readOrder(raw);
    if (!order) return null;
    this.#touched.add(order.orderId);
    return this.#keep(order) ? order : null;
  }

  /** Call before a snapshot is asked for: what is applied from now on outlives it. */
  expectSnapshot() {
    this.#touched.clear();
  }

  /** Puts a snapshot in place of what was known, except for what came since. */
  snapshot(list) {
    const listed = new Set();
    for (const order of list.map(readOrder)) {
      if (!order) continue;
      listed.add(order.orderId);
      this.#keep(order);
    }
    for (const id of this.#byId.keys()) {
      if (!listed.has(id) && !this.#touched.has(id)) this.#byId.delete(id);
    }
  }

  /** Newest first. */
  sorted() {
    return [...this.#byId.values()].sort(newestFirst);
  }

  #keep(order) {
    const known = this.#byId.get(order.orderId);
    if (known && known.version >= order.version) return false;
    if (known) order.was = [...new Set([...known.was, order.status])];
    this.#byId.set(order.orderId, order);
    if (this.#byId.size > MAX_ORDERS) {
      const oldest = this.sorted().at(-1).orderId;
      this.#byId.delete(oldest);
      this.#touched.delete(oldest);
    }
    return true;
  }
}

function newestFirst(a, b) {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt ? 1 : -1;
  return a.orderId < b.orderId ? 1 : -1;
}
