#!/usr/bin/env bash
# Fase B: deploy, migrations, health.
cd "$(dirname "$0")" && source ./common.sh
cd "${WORK:?}"
say "deploy"
"$FLYCTL" deploy -a "$APP" --image "$IMAGE" --remote-only --dns-checks=false
"$FLYCTL" status -a "$APP"
