// The admin's statistics, read anew when something happens and now and then.

import * as api from "./api.js";
import { byId, el, money } from "./dom.js";
import { STATUSES, word } from "./statuses.js";

/** Events come in bursts: at most one call in this time. */
const SETTLE_MS = 300;
/** Orders a minute fall without any event. */
const REFRESH_MS = 10_000;

export class Stats {
  #values = new Map();
  #pending = false;
  #again = false;

  constructor() {
    const tiles = byId("stats");
    const tile = (name, label, kind = "") => {
      const value = el("dd", { "data-testid": `stat-${name}` }, "–");
      this.#values.set(name, value);
      tiles.append(el("div", { class: `tile ${kind}` }, el("dt", {}, label), value));
    };
    tile("revenue", "Revenue", "wide");
    tile("orders-per-minute", "Orders a minute", "wide");
    for (const status of STATUSES) tile(status, word(status), `tile-${status}`);
    setInterval(() => {
      if (!document.hidden) this.refresh();
    }, REFRESH_MS);
  }

  /** Reads them soon; what is asked for meanwhile is one more reading, not many. */
  refresh() {
    if (this.#pending) {
      this.#again = true;
      return;
    }
    this.#pending = true;
    setTimeout(async () => {
      try {
        this.#show(await api.stats());
      } catch {
        // The indicator and the list say what is wrong; old numbers are marked as such.
        byId("stats").classList.add("stale");
      }
      this.#pending = false;
      if (this.#again) {
        this.#again = false;
        this.refresh();
      }
    }, SETTLE_MS);
  }

  #show({ byStatus = {}, revenue, ordersPerMinute, currency }) {
    byId("stats").classList.remove("stale");
    for (const status of STATUSES) this.#put(status, String(byStatus[status] ?? 0));
    this.#put("revenue", money(revenue, currency));
    this.#put("orders-per-minute", Number.isFinite(ordersPerMinute) ? String(ordersPerMinute) : "–");
  }

  #put(name, text) {
    const value = this.#values.get(name);
    if (value.textContent === text) return;
    const first = value.textContent === "–";
    value.textContent = text;
    if (first) return;
    // Runs the animation again: a class that is merely kept would not.
    value.classList.remove("changed");
    requestAnimationFrame(() => value.classList.add("changed"));
  }
}
