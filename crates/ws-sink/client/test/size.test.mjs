// What a page pays for it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const MAX_BYTES = 5 * 1024;

test("compressed as it is served, comments included, it stays small", async () => {
  const script = await readFile(new URL("../fanout.js", import.meta.url));
  const { length } = gzipSync(script, { level: 9 });
  assert(length < MAX_BYTES, `${length} bytes of ${MAX_BYTES}`);
});

test("it needs nothing else", async () => {
  const script = await readFile(new URL("../fanout.js", import.meta.url), "utf8");
  assert.doesNotMatch(script, /^\s*import\b|\bimport\(|\brequire\(/m);
});
