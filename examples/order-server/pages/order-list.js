// The list of orders on a page.

import { byId } from "./dom.js";
import { OrderCard } from "./order-card.js";

export class OrderList {
  #list = byId("orders");
  #empty = byId("empty");
  #cards = new Map();
  #actions;
  #options;

  /** `actions(order, card)` gives an order's buttons, `options` go to the cards. */
  constructor(actions, options = {}) {
    this.#actions = actions;
    this.#options = options;
  }

  /** Brings the list to these orders, in this order, touching only what differs. */
  show(orders, fresh = new Set()) {
    const shown = new Set(orders.map(({ orderId }) => orderId));
    for (const [id, card] of this.#cards) {
      if (shown.has(id)) continue;
      card.element.remove();
      this.#cards.delete(id);
    }
    let place = this.#list.firstElementChild;
    for (const order of orders) {
      const card = this.#cardOf(order.orderId);
      card.fresh = fresh.has(order.orderId);
      if (card.order !== order) card.show(order, this.#options);
      if (card.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(card.element, place);
    }
    this.#empty.hidden = orders.length > 0;
    this.#list.removeAttribute("aria-busy");
  }

  #cardOf(orderId) {
    let card = this.#cards.get(orderId);
    if (!card) {
      card = new OrderCard(orderId, (order) => this.#actions(order, card));
      this.#cards.set(orderId, card);
    }
    return card;
  }
}
