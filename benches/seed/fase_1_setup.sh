#!/usr/bin/env bash
# Fase A: infrastructure and secrets.
cd "$(dirname "$0")" && source ./common.sh
cd "${WORK:?}"
say "app"
"$FLYCTL" apps create "$APP" -o "$ORG"
say "Postgres"
"$FLYCTL" mpg create -o "$ORG" -n "$APP-db" -r "$REGION" --plan basic
cluster=$("$FLYCTL" mpg list -o "$ORG" --json | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p' | head -n 1)
try "$FLYCTL" mpg attach "$cluster" -a "$APP" -d app -u app
say "Redis"
created=$("$FLYCTL" redis create -n "$APP-redis" -o "$ORG" -r "$REGION" --no-replicas --enable-eviction --enable-prodpack=false)
redis=$(printf '%s\n' "$created" | grep -o 'redis://[^ ]*' | head -n 1)
say "secrets"
"$FLYCTL" secrets set --stage -a "$APP" \
  REDIS_URL="$redis" \
  JWT_SECRET="$(openssl rand -hex 32)" \
  REDIS_PASSWORD="$(openssl rand -hex 24)" \
  ICS_SALT="$(openssl rand -hex 16)" \
  ADMIN_CSRF_SECRET="$(openssl rand -hex 32)" \
  GRAFANA_ADMIN_PASSWORD="$(openssl rand -hex 16)" >/dev/null
"$FLYCTL" secrets list -a "$APP"
