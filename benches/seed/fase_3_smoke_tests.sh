#!/usr/bin/env bash
# Fase C: five checks.
cd "$(dirname "$0")" && source ./common.sh
cd "${WORK:?}"
passed=0
check() {
  if try "${@:2}" >/dev/null; then
    say "PASS $1"
    passed=$((passed + 1))
  else
    say "FAIL $1"
  fi
}
# Words, not one word: options.
# shellcheck disable=SC2086
get() { curl -fsS --max-time 10 ${CURL_OPTIONS:-} "https://$APP.fly.dev$1"; }
check health get /api/v1/healthz
check ready get /api/v1/readyz
check metrics get /metrics
check homepage get /
check database "$FLYCTL" ssh console -a "$APP" -C 'cabanas db-check'
say "$passed/5"
[ "$passed" = 5 ]
