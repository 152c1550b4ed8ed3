// The order server as its user starts it: embedded broker, and unless it is told
// otherwise, data in a new folder and a free port.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { until } from "./wait.mjs";

const START_MS = 60_000;
const STOP_MS = 20_000;
const MAX_LOG = 64 * 1024;

export const newFolder = () => mkdtemp(join(tmpdir(), "order-server-"));

/**
 * Starts `binary`; resolves when it says that it is ready. A folder that is given stays
 * when the server goes, and `more` are further flags.
 */
export async function startServer(binary, { port = 0, folder, more = [] } = {}) {
  const data = folder ?? (await newFolder());
  const env = { ...process.env, REALTIME_PORT: String(port), NO_COLOR: "1" };
  // A broker of the developer's is not this test's.
  delete env.KAFKA_BROKER;
  const child = spawn(binary, ["--data", data, ...more], { env, stdio: ["ignore", "pipe", "pipe"] });

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
        if (!folder) await rm(data, { recursive: true, force: true });
      }
    },
    /** Ends it as a crash would. */
    async kill() {
      child.kill("SIGKILL");
      await until("the server is gone", () => ended, STOP_MS);
    },
  };
  try {
    const alive = () => {
      if (ended) throw new Error(`the server ended while starting: ${ended}`);
    };
    const listens = await until(
      "the server prints its address",
      () => {
        alive();
        return /http:\/\/(?:127\.0\.0\.1|localhost):(\d+)/.exec(log)?.[1];
      },
      START_MS,
    );
    server.port = Number(listens);
    server.url = `http://127.0.0.1:${listens}`;
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
