// `ws` on Node, with rooms as its documentation has them: a set of sockets each.
//
// It is treated well: what is sent is made into bytes once and shared, compression is
// off, and sockets are not tracked twice.

import { WebSocketServer } from "ws";

import { monotonic } from "./clock.mjs";
import { HOST, MAX_WAITING, asked, messages, obey, port } from "./control.mjs";

const TEXT = { binary: false };

/** @type {Map<string, Set<import("ws").WebSocket>>} */
const rooms = new Map();
let clients = 0;

const server = new WebSocketServer({
  host: HOST,
  port,
  backlog: 4096,
  clientTracking: false,
  perMessageDeflate: false,
});
server.on("listening", () => obey({ port: server.address().port, clients: () => clients, publish }));

server.on("connection", (socket, request) => {
  const name = asked(request.url);
  const members = rooms.get(name) ?? new Set();
  rooms.set(name, members.add(socket));
  clients += 1;
  // A close follows.
  socket.on("error", () => {});
  socket.on("close", () => {
    members.delete(socket);
    if (members.size === 0) rooms.delete(name);
    clients -= 1;
  });
});

function publish(burst) {
  const now = monotonic();
  for (let n = 0; n < burst; n++) {
    const { room, text } = messages.text(now);
    const bytes = Buffer.from(text);
    for (const socket of rooms.get(room) ?? []) {
      if (socket.bufferedAmount > MAX_WAITING) socket.terminate();
      else socket.send(bytes, TEXT);
    }
  }
}
