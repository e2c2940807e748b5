# Read by each script. APP, ORG, REGION, IMAGE, FLYCTL: as exported by whoever starts them. CURL_OPTIONS:
# how the application's public address is reached.
set -euo pipefail
: "${APP:?}" "${ORG:?}" "${REGION:?}" "${IMAGE:?}" "${FLYCTL:?}"
say() { printf '== %s\n' "$*"; }
# A few tries, as networks are.
try() {
  local n
  for n in 1 2 3; do
    if "$@"; then return 0; fi
    sleep "$n"
  done
  return 1
}
