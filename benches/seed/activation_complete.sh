#!/usr/bin/env bash
# Fases A to C.
set -euo pipefail
cd "$(dirname "$0")"
bash ./fase_1_setup.sh
bash ./fase_2_deploy.sh
bash ./fase_3_smoke_tests.sh
