// Who this tab is. `sessionStorage` belongs to one tab, so two tabs can be two people.

const KEY = "fanout.session";

/** `{token, subject, roles, expiresAt, email}`, or `null` when nobody is logged in. */
export function current() {
  try {
    const session = JSON.parse(sessionStorage.getItem(KEY));
    return typeof session?.token === "string" && Array.isArray(session.roles) ? session : null;
  } catch {
    return null;
  }
}

/** Where the place in the events is kept. */
export const CURSOR = "fanout.cursor";

/** The token to show. It fails where there is none: a page is about to be left then. */
export function token() {
  const session = current();
  if (!session) throw new Error("nobody is logged in");
  return session.token;
}

export function start(login, email) {
  const { token, subject, roles, expiresAt } = login;
  // Where somebody else was, and what they were told, is nobody's.
  sessionStorage.clear();
  sessionStorage.setItem(KEY, JSON.stringify({ token, subject, roles, expiresAt, email }));
}

export function isAdmin(session) {
  return session?.roles.includes("admin") ?? false;
}

/** Admins, and support, which sees all orders without their prices and changes none. */
export function seesAll(session) {
  return isAdmin(session) || (session?.roles.includes("support") ?? false);
}

/** Whether they may place orders of their own. */
export function buys(session) {
  return isAdmin(session) || (session?.roles.includes("user") ?? false);
}

/** The page of somebody who has just logged in. */
export function homeOf(session) {
  return seesAll(session) ? "/admin/orders" : "/orders";
}

/** What the login page says about how one got there. */
export const ENDINGS = {
  out: "You are logged out.",
  needed: "Please log in to go on.",
  expired: "Your session has expired. Please log in again.",
  unauthenticated: "The server does not accept your session. Please log in again.",
  forbidden: "You may not do that with this login.",
  protocol: "The server ended the connection because of an error in this page.",
  revoked: "Your session was ended by the server.",
};

/** Whoever logs out is not to be logged in by a cookie that another client has left. */
function forgetCookie() {
  // Outlives the page; where it fails, there is nothing that one could do.
  fetch("/api/logout", { method: "POST", credentials: "same-origin", keepalive: true }).catch(() => {});
}

let ending = false;

/** Forgets the session and goes to the login page, which leads back to this one. */
export function end(why) {
  // A connection and a call may both find out before the page has gone.
  if (ending) return;
  ending = true;
  const email = current()?.email;
  sessionStorage.removeItem(KEY);
  if (why === "out") forgetCookie();
  const query = new URLSearchParams({ why });
  if (why !== "out") query.set("next", location.pathname);
  if (why !== "out" && email) query.set("email", email);
  location.replace(`/?${query}`);
}
