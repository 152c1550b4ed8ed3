// `/admin/orders`: everybody's orders as they come, their statuses, statistics.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { LiveOrders } from "./live-orders.js";
import { NewOrders } from "./new-orders.js";
import { shortId } from "./order-card.js";
import * as session from "./session.js";
import { Stats } from "./stats.js";
import { canCancel, nextOf, word } from "./statuses.js";

export function run() {
  const news = new NewOrders();
  const stats = new Stats();
  const live = new LiveOrders({
    actions: (order, card) => actions(live, news, order, card),
    showBuyer: true,
    fresh: news.ids,
    wordsOf,
    events: {
      "admin:order:created": (data) => onOrder(live, news, stats, data, true),
      "admin:order:updated": (data) => onOrder(live, news, stats, data, false),
      "admin:order:cancelled": (data) => onOrder(live, news, stats, data, false),
      "admin:alert": ({ message }) =>
        live.toasts.show({ title: "Stock alert", message: String(message ?? ""), kind: "warn" }),
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

function onOrder(live, news, stats, data, created) {
  const known = live.orders.get(data.orderId);
  const order = live.orders.apply(data);
  if (order) {
    if (!known) news.offer(order, created);
    if (order.status === "cancelled") news.remove(order.orderId);
    live.show();
  }
  stats.refresh();
  live.tell(data.orderId, data.status, wordsOf(data));
}

/** What a toast says of an order. */
function wordsOf({ orderId, status, buyerId, reason }) {
  const title = status === "pending" ? "New order" : `Order ${String(status ?? "updated")}`;
  const who = buyerId ? ` of ${buyerId}` : "";
  const why = reason ? `: ${reason}` : "";
  const kind = { pending: "high", cancelled: "warn" }[status] ?? "info";
  return { title, message: `${shortId(String(orderId ?? ""))}${who}${why}`, kind };
}

function actions(live, news, order, card) {
  // Support looks on; the server would refuse.
  if (!session.isAdmin(session.current())) return [];
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
