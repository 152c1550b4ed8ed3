// What both order pages are: a snapshot from REST, kept up to date by events.
//
// The snapshot is read after each `welcome` and `gap`, when events already flow:
// what is in both is applied once, by its version, and nothing falls between.

import * as api from "./api.js";
import { CancelDialog } from "./cancel-dialog.js";
import { ConnectionIndicator } from "./connection.js";
import { byId } from "./dom.js";
import { FanoutClient } from "./fanout-client.js";
import { shortId } from "./order-card.js";
import { OrderList } from "./order-list.js";
import { Orders } from "./orders.js";
import * as session from "./session.js";
import { Toasts } from "./toasts.js";

const AGAIN_MS = 3_000;

export class LiveOrders {
  orders = new Orders();
  toasts = new Toasts();
  #dialog = new CancelDialog();
  #page;
  #list;
  #client;
  #next = null;
  #reading = false;
  #stale = false;
  #retry = 0;

  /**
   * `page` says what differs: `actions(order, card)`, `showBuyer`, `onEvent(frame)`,
   * and, if it likes, `onSnapshot(list)`, `fresh`.
   */
  constructor(page) {
    this.#page = page;
    this.#list = new OrderList(page.actions, { buyer: page.showBuyer });
    const indicator = new ConnectionIndicator(() => this.#client.connect());
    this.#client = new FanoutClient({
      token: (expired) => (expired ? null : session.current()?.token),
      onState: (state) => {
        indicator.show(state);
        if (state.name === "ended") endSession(state);
      },
      onWelcome: () => this.reload(),
      onGap: () => this.reload(),
      onEvent: (frame) => page.onEvent(frame),
    });
    byId("older").addEventListener("click", () => this.#older());
    addEventListener("online", () => this.#client.connect());
  }

  start() {
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
  async reload() {
    this.#stale = true;
    if (this.#reading) return;
    this.#reading = true;
    clearTimeout(this.#retry);
    while (this.#stale) {
      this.#stale = false;
      this.orders.expectSnapshot();
      try {
        const { orders, next } = await api.listOrders();
        this.orders.snapshot(orders);
        this.#setNext(next);
        this.#page.onSnapshot?.(this.orders.sorted());
        this.show();
      } catch (error) {
        if (error.status === 401) break;
        this.toasts.show({ key: "snapshot", title: "Orders not loaded", message: error.message, kind: "error" });
        this.#retry = setTimeout(() => this.reload(), AGAIN_MS * (1 + Math.random()));
      }
    }
    this.#reading = false;
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
}

/** What ends a session leads to the login; after anything else one may try again. */
function endSession({ code, reason }) {
  if (code === 4002) session.end("expired");
  else if (code >= 4500) session.end(Object.hasOwn(session.ENDINGS, reason?.name) ? reason.name : "unauthenticated");
}
