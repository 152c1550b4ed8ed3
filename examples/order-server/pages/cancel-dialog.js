// Asks whether an order shall be cancelled, and why.

import { el } from "./dom.js";

const MAX_REASON = 200;

export class CancelDialog {
  #dialog;
  #title = el("h2", { id: "cancel-title" });
  #reason = el("textarea", {
    id: "cancel-reason",
    rows: 3,
    maxlength: MAX_REASON,
    "data-testid": "cancel-reason",
  });
  #answer = null;

  constructor() {
    const form = el(
      "form",
      { method: "dialog", class: "stack" },
      this.#title,
      el("label", { for: "cancel-reason" }, "Reason (may be left empty)"),
      this.#reason,
      el(
        "div",
        { class: "row end" },
        el("button", { type: "submit", value: "keep", "data-testid": "cancel-keep" }, "Keep the order"),
        el(
          "button",
          { type: "submit", value: "cancel", class: "danger", "data-testid": "cancel-confirm" },
          "Cancel the order",
        ),
      ),
    );
    this.#dialog = el("dialog", { "aria-labelledby": "cancel-title", "data-testid": "cancel-dialog" }, form);
    // Escape closes with no value: the order is kept.
    this.#dialog.addEventListener("close", () => {
      // The event comes a moment later, when somebody quick may have asked again.
      if (this.#dialog.open) return;
      const cancelled = this.#dialog.returnValue === "cancel";
      this.#answer?.(cancelled ? { reason: this.#reason.value.trim() } : null);
      this.#answer = null;
    });
    document.body.append(this.#dialog);
  }

  /** `{reason}`, or `null` if the order is to be kept. */
  ask(name) {
    this.#answer?.(null);
    this.#title.textContent = `Cancel order ${name}?`;
    this.#reason.value = "";
    this.#dialog.returnValue = "";
    this.#dialog.showModal();
    this.#reason.focus();
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }
}
