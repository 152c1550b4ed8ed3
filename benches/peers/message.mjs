// What is sent: the same bytes as src/message.rs makes.
//
// Messages are numbered from zero, in each room where every client has one of its own;
// which room a message is for is drawn, by the same generator from the same seed.

export const ROOM = "all";
export const EVENT = "message";

const DIGITS = 20;
const digits = (number) => String(number).padStart(DIGITS, "0");

/** The name of client `n`'s room. */
export const room = (n) => `r:${String(n).padStart(8, "0")}`;

export class Messages {
  /** @param {{ payload: number, rooms: "one" | "each", clients: number }} options */
  constructor({ payload, rooms, clients }) {
    const fields = JSON.stringify({ seq: digits(0), sent: digits(0), pad: "" }).length;
    if (!(payload >= fields)) throw new Error(`--payload: ${payload} is less than ${fields}`);
    this.pad = "x".repeat(payload - fields);
    this.names = rooms === "each" ? Array.from({ length: clients }, (_, n) => room(n)) : [];
    this.next = new Array(Math.max(this.names.length, 1)).fill(0);
    this.random = new Xorshift();
  }

  /** The next message: its room's name and its payload, stamped with when it is sent. */
  draw(sent) {
    const each = this.names.length > 0;
    const drawn = each ? this.random.below(this.names.length) : 0;
    const seq = digits(this.next[drawn]++);
    const data = { seq, sent: digits(sent), pad: this.pad };
    return { room: each ? this.names[drawn] : ROOM, data };
  }

  /** The next message: its room's name and its whole text in the native protocol. */
  text(sent) {
    const { room, data } = this.draw(sent);
    // By hand: faster than JSON.stringify, and nothing in it needs an escape.
    const payload = `{"seq":"${data.seq}","sent":"${data.sent}","pad":"${data.pad}"}`;
    return { room, text: `{"event":"${EVENT}","room":"${room}","data":${payload}}` };
  }
}

/** Marsaglia's xorshift of 64 bits, in two halves: BigInt would cost more than sending. */
class Xorshift {
  high = 0x9e3779b9;
  low = 0x7f4a7c15;

  /** The next number's remainder: exact below 90 million. */
  below(count) {
    this.#left(13);
    const { high, low } = this;
    this.low ^= (low >>> 7) | (high << 25);
    this.high ^= high >>> 7;
    this.#left(17);
    const upper = ((this.high >>> 0) % count) * (2 ** 32 % count);
    return (upper + ((this.low >>> 0) % count)) % count;
  }

  #left(by) {
    const { high, low } = this;
    this.high ^= (high << by) | (low >>> (32 - by));
    this.low ^= low << by;
  }
}
