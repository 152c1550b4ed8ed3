// The connection indicator in the page's head.

import { byId, el } from "./dom.js";

const WORDS = { connecting: "Connecting", live: "Live", away: "Away", ended: "Disconnected" };

/** Shows a client's states; `again` is called to connect now instead of waiting. */
export class ConnectionIndicator {
  #root = byId("connection");
  #word = el("span", { role: "status", "data-testid": "connection-word" });
  // Not part of the live region: nobody wants each second read aloud.
  #wait = el("span", { class: "wait", "data-testid": "connection-wait" });
  #button;
  #tick = 0;

  constructor(again) {
    this.#button = el(
      "button",
      { type: "button", class: "quiet", hidden: true, "data-testid": "connection-again", on: { click: again } },
      "Try now",
    );
    this.#root.append(el("span", { class: "dot", "aria-hidden": "true" }), this.#word, this.#wait, this.#button);
  }

  show({ name, retryAt }) {
    clearInterval(this.#tick);
    this.#root.dataset.state = name;
    this.#word.textContent = WORDS[name];
    this.#wait.textContent = "";
    this.#button.hidden = name === "live" || name === "connecting";
    if (name !== "away" || retryAt === undefined) return;
    const count = () => {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      this.#wait.textContent = `next try in ${seconds} s`;
    };
    count();
    this.#tick = setInterval(count, 1000);
  }
}
