// `/orders`: place an order, and see what becomes of one's own.

import * as api from "./api.js";
import { byId, el, money } from "./dom.js";
import { LiveOrders } from "./live-orders.js";
import { canCancel, word } from "./statuses.js";

const CURRENCY = "USD";
const MAX_QUANTITY = 20;
const CATALOGUE = [
  { sku: "TEA-001", name: "Green tea, 100 g", unitPrice: 8.5 },
  { sku: "CUP-014", name: "Porcelain cup", unitPrice: 14.9 },
  { sku: "POT-003", name: "Cast iron teapot", unitPrice: 64 },
  { sku: "HON-020", name: "Lime honey, 250 g", unitPrice: 6.25 },
];

export function run() {
  const live = new LiveOrders({
    actions: (order, card) =>
      canCancel(order)
        ? [{ label: "Cancel order", name: "cancel", kind: "quiet-danger", run: () => live.cancel(order, card) }]
        : [],
    showBuyer: false,
    wordsOf,
    events: {
      "order:created": (data) => onOrder(live, data),
      "order:updated": (data) => onOrder(live, data),
      "order:cancelled": (data) => onOrder(live, data),
      notification: (data) => onNotification(live, data),
    },
  });
  setUpForm(live);
  live.start();
}

function onOrder(live, data) {
  live.apply(data);
  live.tell(data.orderId, data.status, wordsOf(data));
}

/** What a toast says of an order. */
function wordsOf({ status, message = "" }) {
  const title = status === "pending" ? "Order placed" : `Order ${word(String(status ?? "updated")).toLowerCase()}`;
  return { title, message: String(message), kind: status === "cancelled" ? "warn" : "info" };
}

/** Comes after its order's event and says the same better, or is about something else. */
function onNotification(live, { orderId, status, title, message, priority }) {
  const words = {
    title: String(title ?? "News"),
    message: String(message ?? ""),
    kind: priority === "high" ? "high" : "info",
  };
  if (orderId === undefined) live.toasts.show(words);
  else live.tell(orderId, status ?? live.orders.get(orderId)?.status, words, true);
}

function setUpForm(live) {
  const form = byId("order-form");
  const error = byId("order-error");
  const total = byId("order-sum");
  const quantities = CATALOGUE.map((product) => {
    const input = el("input", {
      type: "number",
      id: `quantity-${product.sku}`,
      min: 0,
      max: MAX_QUANTITY,
      step: 1,
      value: 0,
      inputmode: "numeric",
      "data-testid": `quantity-${product.sku}`,
    });
    byId("products").append(
      el(
        "li",
        { class: "product" },
        el("label", { for: input.id }, product.name),
        el("span", { class: "price" }, money(product.unitPrice, CURRENCY)),
        input,
      ),
    );
    return { product, input };
  });
  const items = () =>
    quantities
      .map(({ product, input }) => ({ ...product, quantity: input.valueAsNumber || 0 }))
      .filter(({ quantity }) => quantity > 0);
  const sum = () => items().reduce((cents, item) => cents + item.quantity * Math.round(item.unitPrice * 100), 0) / 100;
  const showSum = () => {
    total.textContent = money(sum(), CURRENCY);
  };
  form.addEventListener("input", showSum);
  showSum();

  // A repeat after a lost answer carries the key again; what was changed is another order.
  let key = newKey();
  form.addEventListener("input", () => {
    key = newKey();
  });

  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    error.textContent = "";
    if (items().length === 0) {
      error.textContent = "Please choose a quantity of at least one product.";
      quantities[0].input.focus();
      return;
    }
    const button = byId("place-order");
    button.disabled = true;
    try {
      // No address is none, not an empty one.
      const shippingAddress = byId("address").value.trim() || undefined;
      live.apply(await api.placeOrder({ items: items(), shippingAddress, currency: CURRENCY }, key));
      for (const { input } of quantities) input.value = 0;
      showSum();
      key = newKey();
    } catch (failure) {
      error.textContent = failure.message;
    } finally {
      button.disabled = false;
      button.focus();
    }
  });
}

/** 128 random bits; `randomUUID` is missing where the page did not come by HTTPS. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
