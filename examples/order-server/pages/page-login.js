// `/`: who are you? The development login takes any e-mail.

import * as api from "./api.js";
import { byId } from "./dom.js";
import * as session from "./session.js";

/** Where a login may lead: nothing that a link could make up. */
const PAGES = ["/orders", "/admin/orders"];

export function run() {
  const query = new URLSearchParams(location.search);
  const email = byId("email");
  const error = byId("login-error");
  const why = query.get("why");
  if (Object.hasOwn(session.ENDINGS, why)) byId("login-why").textContent = session.ENDINGS[why];
  email.value = query.get("email") ?? "";

  const logIn = async (address, next, role) => {
    error.textContent = "";
    try {
      session.start(await api.login(address, role), address);
    } catch (failure) {
      error.textContent = failure.message;
      email.focus();
      return;
    }
    const page = PAGES.includes(next) ? next : session.homeOf(session.current());
    location.assign(page);
  };

  byId("login-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    const address = email.value.trim();
    if (address === "") {
      error.textContent = "Please enter an e-mail address.";
      email.focus();
      return;
    }
    // Somebody else than who was sent here starts at home.
    logIn(address, query.has("email") && address !== query.get("email") ? null : query.get("next"));
  });
  for (const button of document.querySelectorAll("button[data-email]")) {
    button.addEventListener("click", () => logIn(button.dataset.email, null, button.dataset.role));
  }
}
