// Short messages that come and go, read aloud politely.

import { el } from "./dom.js";

const SHOWN_MS = 7_000;
const MAX_SHOWN = 4;

export class Toasts {
  #list;
  #byKey = new Map();

  constructor() {
    // Live regions must be there before what they announce.
    this.#list = el("div", {
      class: "toasts",
      role: "log",
      "aria-live": "polite",
      "aria-label": "Messages",
      "data-testid": "toasts",
    });
    document.body.append(this.#list);
  }

  /** Shows a message. One with the key of a shown one takes its place. */
  show({ title, message = "", kind = "info", key = Symbol("toast") }) {
    this.#drop(key);
    while (this.#byKey.size >= MAX_SHOWN) this.#drop(this.#byKey.keys().next().value);
    const close = () => this.#drop(key);
    const item = el(
      "div",
      {
        class: `toast toast-${kind}`,
        "data-testid": "toast",
        "data-kind": kind,
        "data-key": typeof key === "string" ? key : null,
      },
      words(title, message),
      el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", on: { click: close } }, "×"),
    );
    const toast = { item, timer: 0 };
    const run = () => {
      clearTimeout(toast.timer);
      toast.timer = setTimeout(close, SHOWN_MS);
    };
    const hold = () => clearTimeout(toast.timer);
    // Who is reading it, or is about to dismiss it, is not hurried.
    item.addEventListener("pointerenter", hold);
    item.addEventListener("pointerleave", run);
    item.addEventListener("focusin", hold);
    item.addEventListener("focusout", run);
    this.#byKey.set(key, toast);
    this.#list.append(item);
    run();
  }

  /** Other words for a shown message; nothing where it has gone. */
  reword(key, { title, message = "" }) {
    this.#byKey.get(key)?.item.firstElementChild.replaceWith(words(title, message));
  }

  error(title, error) {
    this.show({ title, message: error.message, kind: "error" });
  }

  #drop(key) {
    const toast = this.#byKey.get(key);
    if (!toast) return;
    this.#byKey.delete(key);
    clearTimeout(toast.timer);
    toast.item.remove();
  }
}

function words(title, message) {
  return el(
    "div",
    {},
    el("strong", { "data-testid": "toast-title" }, title),
    message && message !== title ? el("p", { "data-testid": "toast-message" }, message) : null,
  );
}
