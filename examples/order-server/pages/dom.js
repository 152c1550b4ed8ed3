// Elements and words. Data only ever becomes text: nothing here parses HTML.

/**
 * Makes an element. `on` holds listeners; an attribute that is `false`, `null` or
 * `undefined` is left out, `true` stands without a value. Children that are not
 * elements become text.
 */
export function el(tag, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element with this id, which the page's HTML has. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

const formats = new Map();

/** An amount in its currency, or with the currency's name where it is no known code. */
export function money(amount, currency = "USD") {
  if (!Number.isFinite(amount)) return "–";
  try {
    if (!formats.has(currency)) {
      formats.set(currency, new Intl.NumberFormat(undefined, { style: "currency", currency }));
    }
    return formats.get(currency).format(amount);
  } catch {
    return `${amount.toFixed(2)} ${currency}`;
  }
}

const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dayAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A `<time>`: today's as time of day, others with their date. */
export function time(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return el("span", {}, "–");
  const today = date.toDateString() === new Date().toDateString();
  return el(
    "time",
    { datetime: date.toISOString(), title: date.toLocaleString() },
    (today ? timeOnly : dayAndTime).format(date),
  );
}
