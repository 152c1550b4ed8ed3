// The order server as its user starts it: embedded broker, data in a new folder.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { until } from "./wait.mjs";

const START_MS = 60_000;
const STOP_MS = 20_000;
const MAX_LOG = 64 * 1024;

/** Starts `binary` on a free port; resolves when it says that it is ready. */
export async function startServer(binary) {
  const data = await mkdtemp(join(tmpdir(), "order-server-"));
  const env = { ...process.env, REALTIME_PORT: "0", NO_COLOR: "1" };
  // A broker of the developer's is not this test's.
  delete env.KAFKA_BROKER;
  const child = spawn(binary, ["--data", data], { env, stdio: ["ignore", "pipe", "pipe"] });

  let log = "";
  const note = (chunk) => {
    log = (log + chunk).slice(-MAX_LOG);
  };
  child.stdout.setEncoding("utf8").on("data", note);
  child.stderr.setEncoding("utf8").on("data", note);
  let ended = null;
  child.on("error", (error) => {
    ended = error.message;
  });
  child.on("exit", (code, signal) => {
    ended ??= signal ?? `exit code ${code}`;
  });

  const server = {
    log: () => log,
    /** Ends it in order, and says whether it went. */
    async stop() {
      child.kill("SIGTERM");
      try {
        await until("the server ends after SIGTERM", () => ended, STOP_MS);
      } finally {
        if (!ended) child.kill("SIGKILL");
        await rm(data, { recursive: true, force: true });
      }
    },
  };
  try {
    const alive = () => {
      if (ended) throw new Error(`the server ended while starting: ${ended}`);
    };
    const port = await until(
      "the server prints its address",
      () => {
        alive();
        return /http:\/\/(?:127\.0\.0\.1|localhost):(\d+)/.exec(log)?.[1];
      },
      START_MS,
    );
    server.url = `http://127.0.0.1:${port}`;
    await until(
      "the server is ready",
      async () => {
        alive();
        return (await fetch(`${server.url}/readyz`).catch(() => null))?.ok;
      },
      START_MS,
    );
  } catch (error) {
    await server.stop().catch(() => {});
    error.message += `\n--- the server said:\n${log}`;
    throw error;
  }
  return server;
}
