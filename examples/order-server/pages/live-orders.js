// What both order pages are: a snapshot from REST, kept up to date by events.
//
// A page that is new goes on from its first snapshot, one that was loaded again from
// where it was. Only where something is missing is the snapshot read anew, and what
// it has that nobody was told of is told then. What is in both, snapshot and events,
// is applied once, by its version, and told once, by its status.

import * as api from "./api.js";
import { CancelDialog } from "./cancel-dialog.js";
import { ConnectionIndicator } from "./connection.js";
import { byId } from "./dom.js";
import { Fanout } from "./fanout.js";
import { shortId } from "./order-card.js";
import { OrderList } from "./order-list.js";
import { Orders } from "./orders.js";
import * as session from "./session.js";
import { Toasts } from "./toasts.js";
import { Told } from "./told.js";

const AGAIN_MS = 3_000;
/** More orders than that, and one toast tells how many. */
const MAX_TOLD_EACH = 3;

export class LiveOrders {
  orders = new Orders();
  toasts = new Toasts();
  #told = new Told();
  #dialog = new CancelDialog();
  #page;
  #list;
  #indicator = new ConnectionIndicator(() => this.#client.connect());
  #client;
  #next = null;
  #reading = null;
  #stale = false;
  #missed = false;
  #retry = 0;

  /**
   * `page` says what differs: `actions(order, card)`, `showBuyer`, `events` by name,
   * `wordsOf(order)` for a toast and, if it likes, `onSnapshot(list)`, `fresh`.
   */
  constructor(page) {
    this.#page = page;
    this.#list = new OrderList(page.actions, { buyer: page.showBuyer });
    // For networks that break WebSocket, and to try it: `?transport=sse`.
    const sse = new URLSearchParams(location.search).get("transport") === "sse";
    this.#client = new Fanout({
      transport: sse ? "sse" : "ws",
      // Not the cookie: it is of whoever logged in last, in any tab.
      token: session.token,
      ticket: sse ? async () => (await api.ticket()).ticket : undefined,
      storageKey: session.CURSOR,
      onState: (state) => this.#onState(state),
      // Without a cursor nobody can tell what was missed. Else a gap tells.
      onWelcome: ({ recovered }) => (recovered === null ? this.#catchUp() : undefined),
      onGap: () => this.#catchUp(),
      onError: (error) => console.warn("fanout:", error),
    });
    for (const [event, handler] of Object.entries(page.events)) this.#client.on(event, handler);
    byId("older").addEventListener("click", () => this.#older());
  }

  async start() {
    this.#indicator.show({ name: "connecting" });
    // What a page that was here before has missed comes as events.
    if (this.#client.cursor) this.reload();
    else await this.#catchUp();
    this.#client.connect();
  }

  /** Takes an order from an event or an answer, and shows it if it is news. */
  apply(raw) {
    const order = this.orders.apply(raw);
    if (order) this.show();
    return order;
  }

  show() {
    this.#list.show(this.orders.sorted(), this.#page.fresh);
  }

  /**
   * A toast for what became of an order: one, whoever says it and however often.
   * `better` words take the place of those that are shown.
   */
  tell(orderId, status, words, better = false) {
    const key = `${orderId} ${status}`;
    // Without a status nothing says whether it is the same news.
    if (status === undefined || this.#told.add(key)) this.toasts.show({ ...words, key });
    else if (better) this.toasts.reword(key, words);
  }

  /** Does what a button asks, and says so in words if it fails. */
  act(card, title, work) {
    return card.busy(async () => {
      try {
        this.apply(await work());
      } catch (error) {
        this.toasts.error(title, error);
        // It was refused: what is shown may be old.
        if (error.status === 409) this.reload();
      }
    });
  }

  async cancel(order, card) {
    const answer = await this.#dialog.ask(shortId(order.orderId));
    if (!answer) return;
    await this.act(card, "The order was not cancelled", () => api.cancelOrder(order.orderId, answer.reason));
  }

  /** Reads the snapshot; asked for while one is being read, reads once more. */
  reload() {
    this.#stale = true;
    this.#reading ??= this.#read();
    return this.#reading;
  }

  /** Something is missing: what the snapshot has takes its place. */
  #catchUp() {
    this.#missed = true;
    return this.reload();
  }

  async #read() {
    clearTimeout(this.#retry);
    while (this.#stale) {
      this.#stale = false;
      this.orders.expectSnapshot();
      try {
        const { missed, orders, next, cursor } = await this.#fetch();
        this.orders.snapshot(orders);
        this.#setNext(next);
        this.#page.onSnapshot?.(this.orders.sorted());
        this.show();
        // On a connection that has missed nothing, its own place is the newer one.
        if (missed) this.#client.cursor = cursor;
        if (missed || this.#told.isNew) this.#tellNews(orders);
      } catch (error) {
        if (error.status === 401) break;
        this.toasts.show({ key: "snapshot", title: "Orders not loaded", message: error.message, kind: "error" });
        this.#retry = setTimeout(() => this.reload(), AGAIN_MS * (1 + Math.random()));
      }
    }
    this.#reading = null;
  }

  async #fetch() {
    const missed = this.#missed;
    this.#missed = false;
    try {
      return { missed, ...(await api.listOrders()) };
    } catch (error) {
      this.#missed ||= missed;
      throw error;
    }
  }

  /** Tells of what no event told; to a page that is new nothing is news. */
  #tellNews(list) {
    const quiet = this.#told.isNew;
    this.#told.isNew = false;
    const news = list.filter(({ orderId, status }) => !this.#told.has(`${orderId} ${status}`));
    const each = !quiet && news.length <= MAX_TOLD_EACH;
    for (const order of news.reverse()) {
      if (each) this.tell(order.orderId, order.status, this.#page.wordsOf(order));
      else this.#told.add(`${order.orderId} ${order.status}`);
    }
    if (!quiet && !each) this.toasts.show({ key: "news", title: `${news.length} orders have changed` });
  }

  async #older() {
    try {
      const { orders, next } = await api.listOrders({ before: this.#next });
      for (const order of orders) this.orders.apply(order);
      this.#setNext(next);
      this.show();
    } catch (error) {
      this.toasts.error("Older orders not loaded", error);
    }
  }

  #setNext(next) {
    this.#next = next ?? null;
    byId("older").hidden = this.#next === null;
  }

  #onState(state) {
    this.#indicator.show(state);
    // What ends a session leads to the login; after anything else one may try again.
    const { code, reason } = state;
    if (code !== 4002 && !(code >= 4500)) return;
    this.#client.close();
    if (code === 4002) session.end("expired");
    else session.end(Object.hasOwn(session.ENDINGS, reason?.name) ? reason.name : "unauthenticated");
  }
}
