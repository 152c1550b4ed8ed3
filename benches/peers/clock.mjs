// Nanoseconds of the system's monotonic clock: the same in every process, which is how a
// client can tell how long a message took.
//
// Node's `hrtime` is that clock. Bun's begins with its process, so there the system is
// asked itself.

const ARCH = { x64: "x86_64", arm64: "aarch64" };

export const monotonic = process.versions.bun ? await system() : () => process.hrtime.bigint();

async function system() {
  const { dlopen, ptr } = await import("bun:ffi");
  const mac = process.platform === "darwin";
  const CLOCK_MONOTONIC = mac ? 6 : 1;
  const symbols = { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } };
  const names = mac ? ["libSystem.dylib"] : ["libc.so.6", `libc.musl-${ARCH[process.arch]}.so.1`];
  const library = first(names, (name) => dlopen(name, symbols));
  const time = new BigInt64Array(2);
  const place = ptr(time);
  return () => {
    library.symbols.clock_gettime(CLOCK_MONOTONIC, place);
    return time[0] * 1_000_000_000n + time[1];
  };
}

/** The first that does not throw. */
function first(names, open) {
  const errors = [];
  for (const name of names) {
    try {
      return open(name);
    } catch (error) {
      errors.push(error.message);
    }
  }
  throw new Error(`the system's clock cannot be read: ${errors.join("; ")}`);
}
