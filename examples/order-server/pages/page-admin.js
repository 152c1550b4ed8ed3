// `/admin/orders`: everybody's orders as they come, their statuses, statistics.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { LiveOrders } from "./live-orders.js";
import { NewOrders } from "./new-orders.js";
import { shortId } from "./order-card.js";
import { Stats } from "./stats.js";
import { canCancel, nextOf, word } from "./statuses.js";

const TITLES = {
  "admin:order:created": () => "New order",
  "admin:order:updated": (data) => `Order ${String(data.status ?? "updated")}`,
  "admin:order:cancelled": () => "Order cancelled",
};
const KINDS = { "admin:order:created": "high", "admin:order:cancelled": "warn" };

export function run() {
  const news = new NewOrders();
  const stats = new Stats();
  const live = new LiveOrders({
    actions: (order, card) => actions(live, news, order, card),
    showBuyer: true,
    fresh: news.ids,
    onEvent: ({ event, data }) => {
      if (event === "admin:alert") {
        live.toasts.show({ title: "Stock alert", message: String(data.message ?? ""), kind: "warn" });
        return;
      }
      if (!Object.hasOwn(TITLES, event)) return;
      const known = live.orders.get(data.orderId);
      const order = live.orders.apply(data);
      if (order) {
        if (!known) news.offer(order, event === "admin:order:created");
        if (order.status === "cancelled") news.remove(order.orderId);
        live.show();
      }
      stats.refresh();
      live.toasts.show({
        title: TITLES[event](data),
        message: describe(data),
        kind: KINDS[event] ?? "info",
        key: `${data.orderId} ${data.status}`,
      });
    },
    onSnapshot: (orders) => {
      news.snapshot(orders);
      stats.refresh();
    },
  });
  byId("seen").addEventListener("click", () => {
    news.clear();
    live.show();
    byId("orders-title").focus();
  });
  live.start();
}

function actions(live, news, order, card) {
  const { orderId } = order;
  const steps = nextOf(order).map((next, n) => ({
    label: word(next),
    name: `set-${next}`,
    title: `Set order ${shortId(orderId)} to ${next}`,
    kind: n === 0 ? "primary" : "",
    run: () => {
      news.remove(orderId);
      live.show();
      live.act(card, "The status was not changed", () => api.setStatus(orderId, next));
    },
  }));
  if (!canCancel(order)) return steps;
  return [
    ...steps,
    { label: "Cancel…", name: "cancel", kind: "quiet-danger", run: () => live.cancel(order, card) },
  ];
}

function describe(data) {
  const who = data.buyerId ? ` of ${data.buyerId}` : "";
  const why = data.reason ? `: ${data.reason}` : "";
  return `${shortId(String(data.orderId ?? ""))}${who}${why}`;
}
