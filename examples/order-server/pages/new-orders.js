// Which orders the admin has not looked at yet: the badge, the page's title, the tags.

import { byId } from "./dom.js";

export class NewOrders {
  ids = new Set();
  /** When the youngest known order was placed; `null` before the first snapshot. */
  #newest = null;
  #title = document.title;

  /**
   * An order that was not known came as an event. `created` says that it has just
   * been placed; another event may overtake that one, and then its age tells.
   */
  offer({ orderId, createdAt }, created) {
    const younger = this.#newest !== null && createdAt > this.#newest;
    if (younger) this.#newest = createdAt;
    if (!created && !younger) return;
    this.ids.add(orderId);
    this.#show();
  }

  remove(orderId) {
    if (this.ids.delete(orderId)) this.#show();
  }

  clear() {
    this.ids.clear();
    this.#show();
  }

  /**
   * What is younger than all that was known came while this page was away. Nothing
   * of the first snapshot is news. What is no longer kept is no longer counted.
   */
  snapshot(orders) {
    const kept = new Set(orders.map(({ orderId }) => orderId));
    for (const id of this.ids) if (!kept.has(id)) this.ids.delete(id);
    for (const { orderId, createdAt, status } of orders) {
      if (this.#newest !== null && createdAt > this.#newest && status === "pending") this.ids.add(orderId);
    }
    const youngest = orders[0]?.createdAt ?? "";
    if (this.#newest === null || youngest > this.#newest) this.#newest = youngest;
    this.#show();
  }

  #show() {
    const count = this.ids.size;
    const badge = byId("new-badge");
    badge.hidden = count === 0;
    byId("new-count").textContent = String(count);
    byId("seen").hidden = count === 0;
    document.title = count === 0 ? this.#title : `(${count}) ${this.#title}`;
  }
}
