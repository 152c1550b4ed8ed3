// What a server is told, and what it says: src/control.rs has the table.

import { parseArgs } from "node:util";

import { Messages, ROOM } from "./message.mjs";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    payload: { type: "string", default: "200" },
    rooms: { type: "string", default: "one" },
    clients: { type: "string", default: "1" },
  },
});

export const HOST = "127.0.0.1";
export const port = Number(values.port);
export const messages = new Messages({
  payload: Number(values.payload),
  rooms: values.rooms,
  clients: Number(values.clients),
});

/** Bytes that may wait for a client that does not read, before it is closed. */
export const MAX_WAITING = 16 * 1024 * 1024;

/** The room that a request asks for in its query; without one it is that of all. */
export function asked(url) {
  return new URL(url, "http://localhost").searchParams.get("room") ?? ROOM;
}

/**
 * Says where the server listens, then does what it is told until stdin ends, and the
 * process with it.
 *
 * @param {{ port: number, clients: () => number, publish: (burst: number) => void }} server
 */
export function obey({ port, clients, publish }) {
  const say = (line) => process.stdout.write(`${line}\n`);
  const one = (line) => {
    const [, burst] = line.match(/^publish ([1-9]\d{0,3})$/) ?? [];
    if (burst) publish(Number(burst));
    else if (line === "clients") say(`clients ${clients()}`);
    else if (line === "cpu") say(`cpu ${cpu()}`);
    else throw new Error(`\`${line}\`: not \`clients\`, \`cpu\` or \`publish N\``);
  };
  let rest = "";
  process.stdin.setEncoding("utf8");
  process.stdin.on("data", (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    lines.forEach(one);
  });
  process.stdin.on("end", () => process.exit(0));
  say(`listening ${HOST}:${port}`);
}

/** Nanoseconds of CPU time, user and system, of all threads. */
function cpu() {
  const { user, system } = process.cpuUsage();
  return Math.round((user + system) * 1000);
}
