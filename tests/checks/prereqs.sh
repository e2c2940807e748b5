#!/bin/sh
# Says first of all what is missing or too old, with the version wanted; then installs PostgreSQL,
# Redis, Prometheus, Alertmanager, Chromium and faketime from Debian's packages, or prints the command when not root.
set -eu
cd "$(dirname "$0")/../.."

rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
go=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' tests/control-plane/go.mod)
kubectl=1.30
problems=0

# want NAME WANTED FOUND HINT: FOUND is empty when the program is not there.
want() {
  if [ -z "$3" ]; then
    echo "missing: $1, wanted $2 or newer: $4" >&2
    problems=1
  elif [ "$(printf '%s\n%s\n' "$2" "$3" | sort -V | head -n 1)" != "$2" ]; then
    echo "too old: $1 $3, wanted $2 or newer: $4" >&2
    problems=1
  fi
}

# The first thing that looks like a version in the output of a command; empty if there is none.
version_of() {
  "$@" 2>/dev/null | sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9.]*\).*/\1/p' | head -n 1
}

want Rust "$rust" "$(version_of rustc --version)" "rustup update stable, or https://rustup.rs"
want cargo "$rust" "$(version_of cargo --version)" "it comes with Rust"
want Go "$go" "$(version_of go version)" "https://go.dev/doc/install"
want git 2.30 "$(version_of git --version)" "apt-get install -y git"
want kubectl "$kubectl" "$(version_of kubectl version --client)" \
  "https://kubernetes.io/docs/tasks/tools/"
if [ "$problems" -ne 0 ]; then
  exit 1
fi

packages=
command -v cc >/dev/null 2>&1 || packages="$packages gcc libc6-dev"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 ||
  packages="$packages postgresql"
command -v redis-server >/dev/null 2>&1 || packages="$packages redis-server"
{ command -v prometheus && command -v promtool; } >/dev/null 2>&1 || packages="$packages prometheus"
command -v prometheus-alertmanager >/dev/null 2>&1 || packages="$packages prometheus-alertmanager"
command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
command -v faketime >/dev/null 2>&1 || packages="$packages faketime"
command -v curl >/dev/null 2>&1 || packages="$packages curl"
if [ -z "$packages" ]; then
  exit 0
fi

install="apt-get install -y --no-install-recommends$packages"
if ! command -v apt-get >/dev/null 2>&1; then
  echo "missing:$packages (names of Debian's packages): install them with your system's own tool" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "missing:$packages: run this, then try again:" >&2
  echo "  sudo apt-get update && sudo $install" >&2
  exit 1
fi
echo "installing$packages"
# The packages start servers of their own. We start ours when they are needed: forbid it meanwhile.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
$install
