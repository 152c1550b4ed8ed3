// One order on a page: built once, then brought up to date in place, so that the
// keyboard's focus and an open history stay where they are.

import * as api from "./api.js";
import { el, money, time } from "./dom.js";
import { ROAD, STATUSES, word } from "./statuses.js";

/** What an order is called where its whole id would be too long. */
export const shortId = (orderId) => (orderId.length > 12 ? `…${orderId.slice(-6)}` : orderId);

export class OrderCard {
  #actions;
  #order = null;
  #id = el("h3", {});
  #status = el("span", { "data-testid": "order-status" });
  #fresh = el("span", { class: "tag", "data-testid": "order-new", hidden: true }, "New");
  #facts = el("p", { class: "facts" });
  #items = el("p", { class: "items", "data-testid": "order-items" });
  #reason = el("p", { class: "reason", "data-testid": "order-reason" });
  #road = el("ol", { class: "road", "aria-hidden": "true" });
  #buttons = el("div", { class: "row buttons", role: "group" });
  #past = el("ol", { class: "past", "data-testid": "order-past" });
  #history;
  #read = 0;

  /** `actions(order)` gives the buttons that the order has now. */
  constructor(orderId, actions) {
    this.#actions = actions;
    this.#id.append("Order ", el("span", { class: "id", title: orderId }, shortId(orderId)));
    this.#history = el(
      "details",
      { "data-testid": "order-history", on: { toggle: () => this.#readPast() } },
      el("summary", {}, "Past statuses"),
      this.#past,
    );
    this.element = el(
      "li",
      { class: "card order", "data-testid": "order", "data-order-id": orderId, tabindex: -1 },
      el("div", { class: "row order-head" }, this.#id, this.#fresh, this.#status),
      this.#facts,
      this.#items,
      this.#reason,
      this.#road,
      this.#buttons,
      this.#history,
    );
    this.#buttons.setAttribute("aria-label", `Change order ${shortId(orderId)}`);
  }

  get order() {
    return this.#order;
  }

  set fresh(fresh) {
    this.#fresh.hidden = !fresh;
    this.element.classList.toggle("fresh", fresh);
  }

  /** Shows this version; `buyer` where the page shows other people's orders. */
  show(order, { buyer }) {
    const changed = this.#order?.status !== order.status;
    this.#order = order;
    this.element.dataset.status = order.status;
    this.element.dataset.version = order.version;
    this.#status.className = `pill pill-${STATUSES.includes(order.status) ? order.status : "other"}`;
    this.#status.textContent = word(order.status);
    this.#facts.replaceChildren(
      el("strong", { "data-testid": "order-total" }, money(order.total, order.currency)),
      " · ",
      time(order.createdAt),
      ...(buyer ? [" · ", el("span", { "data-testid": "order-buyer" }, order.buyerId)] : []),
    );
    this.#items.textContent = order.items.map((item) => `${item.quantity} × ${item.name}`).join(", ");
    this.#reason.hidden = !order.reason;
    this.#reason.textContent = order.reason ? `“${order.reason}”` : "";
    if (!changed) return;
    this.#showRoad(order.status);
    this.#showButtons(order);
    if (this.#history.open) this.#readPast();
  }

  /** While a call is on its way nothing else is asked of this order. */
  async busy(work) {
    for (const button of this.#buttons.children) button.setAttribute("aria-disabled", "true");
    this.#buttons.setAttribute("aria-busy", "true");
    try {
      return await work();
    } finally {
      this.#buttons.removeAttribute("aria-busy");
      for (const button of this.#buttons.children) button.removeAttribute("aria-disabled");
    }
  }

  #showRoad(status) {
    const at = ROAD.indexOf(status);
    this.#road.hidden = at < 0;
    this.#road.replaceChildren(
      ...ROAD.map((step, n) => el("li", { class: n < at ? "done" : n === at ? "now" : "" }, word(step))),
    );
  }

  #showButtons(order) {
    // Buttons that vanish must not take the keyboard's focus with them. It goes to the
    // order and not to the next button: a second press of Enter changes nothing.
    const had = this.#buttons.contains(document.activeElement);
    this.#buttons.replaceChildren(
      ...this.#actions(order).map(({ label, name, title, kind, run }) =>
        el(
          "button",
          {
            type: "button",
            class: kind,
            title,
            "data-testid": name,
            on: {
              click: () => {
                if (!this.#buttons.hasAttribute("aria-busy")) run();
              },
            },
          },
          label,
        ),
      ),
    );
    this.#buttons.hidden = this.#buttons.children.length === 0;
    if (had) this.element.focus({ preventScroll: true });
  }

  async #readPast() {
    if (!this.#history.open) return;
    const read = ++this.#read;
    let rows;
    try {
      const { history = [] } = await api.getOrder(this.#order.orderId);
      rows = history.map(({ status, at, reason }) =>
        el("li", { "data-status": status }, `${word(status)}, `, time(at), reason ? ` “${reason}”` : ""),
      );
    } catch (error) {
      rows = [el("li", { class: "error" }, error.message)];
    }
    // A slower answer to an earlier question says less.
    if (read === this.#read) this.#past.replaceChildren(...rows);
  }
}
