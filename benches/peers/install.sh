#!/bin/sh
# Installs what the servers outside of Rust need: Bun, `ws` and Socket.IO, in the versions
# of package-lock.json, into node_modules beside this file. Needs Node 18 or newer with npm;
# removing node_modules undoes it. To run it again changes nothing.
set -eu
cd "$(dirname "$0")"

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

command -v npm >/dev/null || fail "npm is missing: install Node 18 or newer"
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 18 ] || fail "Node $major is too old: install Node 18 or newer"

# Bun's script puts its program in place; nothing else has one that is wanted.
npm ci --ignore-scripts --no-audit --no-fund
(cd node_modules/bun && node install.js)

for package in ws socket.io; do
  echo "$package $(node -p "require('./node_modules/$package/package.json').version")"
done
echo "bun $(node_modules/.bin/bun --version)"
