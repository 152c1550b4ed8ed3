// Starts the page that `<body data-page>` names.

import { byId } from "./dom.js";
import * as admin from "./page-admin.js";
import * as login from "./page-login.js";
import * as orders from "./page-orders.js";
import * as session from "./session.js";

const PAGES = { login, orders, admin };

const who = session.current();
const page = document.body.dataset.page;

if (who) {
  byId("who").hidden = false;
  byId("who-name").textContent = who.email ?? who.subject;
  byId("log-out").addEventListener("click", () => session.end("out"));
  for (const link of document.querySelectorAll("[data-needs]")) {
    link.hidden = !(link.dataset.needs === "admin" ? session.seesAll(who) : session.buys(who));
  }
}

if (page === "login") {
  PAGES.login.run();
} else if (!who) {
  session.end("needed");
} else if (page === "admin" && !session.seesAll(who)) {
  byId("main").hidden = true;
  byId("connection").hidden = true;
  byId("not-admin").hidden = false;
} else {
  PAGES[page].run();
}
