// What the person at this page has been told, so that nothing is told twice: a reload,
// a server that was started anew and a broker that repeats itself make no second toast.

/** More is not remembered: the oldest go first. */
const MAX_TOLD = 1000;

export class Told {
  #keys;
  #place = `fanout.told:${location.pathname}`;
  /** Whether nothing is known of what came before: then nothing of it is news. */
  isNew;

  constructor() {
    const kept = this.#read();
    this.isNew = kept === null;
    this.#keys = new Set(kept);
    addEventListener("pagehide", () => this.#write());
  }

  has(key) {
    return this.#keys.has(key);
  }

  /** Returns whether it is news. */
  add(key) {
    if (this.#keys.has(key)) return false;
    this.#keys.add(key);
    if (this.#keys.size > MAX_TOLD) this.#keys.delete(this.#keys.values().next().value);
    return true;
  }

  #read() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.#place));
      return Array.isArray(kept) ? kept : null;
    } catch {
      return null;
    }
  }

  #write() {
    if (this.isNew) return;
    try {
      sessionStorage.setItem(this.#place, JSON.stringify([...this.#keys]));
    } catch {
      // Full or forbidden: after a reload nothing of before is news.
    }
  }
}
