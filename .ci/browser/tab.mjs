// One tab with one person in it, and everything that went wrong or came in there.

import { until } from "./wait.mjs";

export class Tab {
  /** What must not be: console errors, uncaught errors, failed requests. */
  faults = [];
  /** Every WebSocket frame that came, as text. */
  frames = [];
  /** Loads of a document since `watchLoads`. */
  loads = 0;
  /** Every toast since `noteToasts`: what it is about, and its text. */
  noted = [];

  static async open(context, url, name) {
    const tab = new Tab();
    tab.name = name;
    tab.page = await context.newPage();
    const fault = (kind, text) => tab.faults.push(`${name}: ${kind}: ${text}`);
    // A breach of the content security policy is a console error as well.
    tab.page.on("console", (message) => {
      if (message.type() === "error") fault("console", `${message.text()} (${message.location().url})`);
    });
    tab.page.on("pageerror", (error) => fault("uncaught", error.stack ?? error.message));
    tab.page.on("crash", () => fault("crash", "the tab crashed"));
    tab.page.on("response", (response) => {
      if (response.status() >= 400) fault("response", `${response.status()} ${response.url()}`);
    });
    tab.page.on("websocket", (socket) => {
      socket.on("framereceived", ({ payload }) => tab.frames.push(String(payload)));
      socket.on("socketerror", (error) => fault("websocket", error));
    });
    await tab.page.goto(url);
    return tab;
  }

  /** Logs in by a demo button and waits for the live connection. */
  async logIn(who, path) {
    await this.turnTo();
    await this.find(`demo-${who}`).click();
    await this.page.waitForURL(`**${path}`);
    await this.is("live");
    // Toasts go by: kept here, so that none is missed and none can hide.
    await this.page.evaluate(() => {
      window.toastsSeen = [];
      const list = document.querySelector('[data-testid="toasts"]');
      new MutationObserver((records) => {
        for (const record of records) {
          for (const node of record.addedNodes) window.toastsSeen.push(node.textContent);
        }
      }).observe(list, { childList: true });
    });
    this.page.on("framenavigated", () => {
      this.loads += 1;
    });
  }

  /** Notes toasts from the next load of a document on, across all further ones. */
  async noteToasts() {
    await this.page.exposeFunction("noteToast", (key, text) => this.noted.push({ key, text }));
    await this.page.addInitScript(() => {
      new MutationObserver((records) => {
        for (const node of records.flatMap((record) => [...record.addedNodes])) {
          if (node.dataset?.testid === "toast") window.noteToast(node.dataset.key ?? "", node.textContent);
        }
      }).observe(document, { childList: true, subtree: true });
    });
  }

  /** Waits for a connection of this state. */
  async is(state) {
    await this.sees(`the state ${state}`, () => this.page.locator(`[data-testid="connection"][data-state="${state}"]`));
  }

  find(testId) {
    return this.page.getByTestId(testId);
  }

  /** The list's entry of one order, or only while it has this status. */
  order(orderId, status) {
    const state = status ? `[data-status="${status}"]` : "";
    return this.page.locator(`[data-testid="order"][data-order-id="${orderId}"]${state}`);
  }

  orderIds() {
    return this.find("order").evaluateAll((orders) => orders.map((order) => order.dataset.orderId));
  }

  /** Waits until what the function locates is on the page. */
  async sees(what, locate) {
    await until(`${this.name} sees ${what}`, async () => (await locate().count()) > 0);
  }

  async seesOrder(orderId, status) {
    await this.sees(`order ${orderId} ${status}`, () => this.order(orderId, status));
  }

  /** Waits for a toast, shown now or before, that has this in its text. */
  async sawToast(pattern) {
    await until(`${this.name} sees a toast like ${pattern}`, async () =>
      (await this.toasts()).some((text) => pattern.test(text)),
    );
  }

  toasts() {
    return this.page.evaluate(() => window.toastsSeen);
  }

  /** As a person would before doing something; the other tabs are in the background. */
  turnTo() {
    return this.page.bringToFront();
  }

  /** Orders through the form; returns the id of the order that came into the list. */
  async placeOrder(quantities) {
    await this.turnTo();
    const before = new Set(await this.orderIds());
    for (const [sku, quantity] of Object.entries(quantities)) {
      await this.find(`quantity-${sku}`).fill(String(quantity));
    }
    await this.find("address").fill("1 Harbour Road");
    await this.find("place-order").click();
    return until(`${this.name} sees the placed order`, async () =>
      (await this.orderIds()).find((id) => !before.has(id)),
    );
  }

  async setStatus(orderId, status) {
    await this.turnTo();
    await this.order(orderId).getByTestId(`set-${status}`).click();
  }

  async cancel(orderId, reason) {
    await this.turnTo();
    await this.order(orderId).getByTestId("cancel").click();
    await this.find("cancel-reason").fill(reason);
    await this.find("cancel-confirm").click();
  }
}
