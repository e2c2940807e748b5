#!/bin/sh
# The supply chain, by cargo-deny with the rules of .deny.toml: known vulnerabilities, banned packages,
# licences, sources. Installs cargo-deny into target/tools, once.
#
#   supply.sh                   with the copy of the advisories in advisories.txt; needs no network
#   GOLIVE_ADVISORIES=online    with the RustSec database as it is now
#   GOLIVE_SUPPLY=if-possible   no failure where cargo-deny cannot be built
#   supply.sh refresh FOLDER    writes advisories.txt anew, from a clone of the RustSec database
set -eu
VERSION=0.20.2
# The folder that cargo-deny expects for its default database: the name, and a hash of its address.
DATABASE=advisory-db-3157b0e258782691
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools
copy=tests/checks/advisories.txt

# Of each advisory what decides whether a version is affected, and nothing else.
refresh() {
  git -C "$1" log -1 --date=short --format='# Known vulnerabilities of Rust packages, from the RustSec advisory database (github.com/rustsec/advisory-db)
# as of %cd, commit %H: id, date, and versions of each; the
# texts are at rustsec.org/advisories/ID. Renewed by `sh tests/checks/supply.sh refresh FOLDER`.'
  cd "$1"
  git ls-files 'crates/*.md' | LC_ALL=C sort | while read -r file; do
    echo "== $file"
    awk '
      /^```toml/ { inside = 1; next }
      /^```/ { exit }
      !inside { next }
      /^\[/ { section = $0; if (section == "[advisory]" || section == "[versions]") print; next }
      section == "[advisory]" && /^(id|package|date|informational|withdrawn|yanked) *=/ { print }
      section == "[versions]" && /^(patched|unaffected) *=/ { print; more = !/\]/; next }
      section == "[versions]" && more { print; more = !/\]/ }
    ' "$file"
  done
}

if [ "${1:-}" = refresh ]; then
  (refresh "${2:?the folder with a clone of the RustSec database}") >"$copy.new"
  mv "$copy.new" "$copy"
  exit
fi

if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null || true)" != "cargo-deny $VERSION" ]; then
  echo "installing cargo-deny $VERSION into target/tools: this takes minutes, once"
  if ! cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" --version "$VERSION" cargo-deny; then
    echo "supply: cargo-deny $VERSION cannot be built here, so it was NOT run. Licences and banned packages are" >&2
    echo "checked by \`make licences\`; sources, build scripts and known vulnerabilities by the tests repo::supply." >&2
    test "${GOLIVE_SUPPLY:-}" = if-possible
    exit
  fi
  rm -rf "$tools/build"
fi

# Only what is built here: other systems have packages that nobody has downloaded.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo fetch --quiet --locked --target "$target"
deny() {
  "$tools/bin/cargo-deny" --locked --target "$target" "$@"
}
if [ "${GOLIVE_ADVISORIES:-copy}" = online ]; then
  deny --config .deny.toml check
  exit
fi

# The copy as the git repository that cargo-deny reads.
database=$tools/advisories/$DATABASE
rm -rf "$tools/advisories"
mkdir -p "$database"
awk -v root="$database" '
  /^== / {
    if (file) { printf "```\n\n# %s\n", id > file; close(file) }
    file = root "/" $2
    folder = file; sub(/\/[^\/]*$/, "", folder)
    if (!(folder in made)) { system("mkdir -p \"" folder "\""); made[folder] }
    print "```toml" > file
    next
  }
  file { print > file; if (/^id = /) { id = $3; gsub(/"/, "", id) } }
  END { if (file) printf "```\n\n# %s\n", id > file }
' "$copy"
asof=$(sed -n 's/^# as of \([0-9-]*\),.*/\1/p' "$copy")
(
  cd "$database"
  git init --quiet --initial-branch=main
  git add --all
  GIT_COMMITTER_DATE="${asof}T00:00:00Z" git -c user.name=golive -c user.email=golive@localhost \
    commit --quiet --date="${asof}T00:00:00Z" --message "as of $asof"
)
sed "s|^\[advisories\]|&\ndb-path = \"$tools/advisories\"|" .deny.toml >"$tools/deny.toml"
deny --offline --config "$tools/deny.toml" check
echo "advisories: a copy as of $asof; GOLIVE_ADVISORIES=online asks for what was published since"
