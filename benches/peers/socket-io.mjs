// Socket.IO on Node, over the engine `ws`, with its rooms.
//
// It is treated well: only WebSocket is spoken, compression is off, and the request that
// opened a connection is not kept, as its documentation advises. A broadcast is encoded
// once by Socket.IO itself.

import { createServer } from "node:http";

import { Server } from "socket.io";
import { WebSocketServer } from "ws";

import { monotonic } from "./clock.mjs";
import { HOST, messages, obey, port } from "./control.mjs";
import { EVENT, ROOM } from "./message.mjs";

let clients = 0;

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  wsEngine: WebSocketServer,
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});

io.on("connection", (socket) => {
  socket.join(socket.handshake.query.room ?? ROOM);
  // Not before: the query is part of it.
  socket.conn.request = null;
  clients += 1;
  socket.on("disconnect", () => {
    clients -= 1;
  });
});

function publish(burst) {
  const now = monotonic();
  for (let n = 0; n < burst; n++) {
    const { room, data } = messages.draw(now);
    io.to(room).emit(EVENT, data);
  }
}

http.listen({ host: HOST, port, backlog: 4096 }, () => {
  obey({ port: http.address().port, clients: () => clients, publish });
});
