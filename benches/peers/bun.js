// uWebSockets through Bun: rooms are its topics, `publish` is its own.
//
// It is treated well: compression is off, and a burst is published within one turn of the
// loop, so that uWebSockets joins what is for the same socket into one write. A client
// that does not read is closed.

import { monotonic } from "./clock.mjs";
import { HOST, MAX_WAITING, asked, messages, obey, port } from "./control.mjs";

let clients = 0;

const server = Bun.serve({
  hostname: HOST,
  port,
  fetch(request, server) {
    const upgraded = server.upgrade(request, { data: asked(request.url) });
    return upgraded ? undefined : new Response("not a WebSocket", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    backpressureLimit: MAX_WAITING,
    closeOnBackpressureLimit: true,
    open(socket) {
      socket.subscribe(socket.data);
      clients += 1;
    },
    message() {},
    close() {
      clients -= 1;
    },
  },
});

function publish(burst) {
  const now = monotonic();
  for (let n = 0; n < burst; n++) {
    const { room, text } = messages.text(now);
    server.publish(room, text);
  }
}

obey({ port: server.port, clients: () => clients, publish });
