#!/bin/sh
# Packs the plugin for one platform, the same bytes for the same input: archive.sh PROGRAM OS ARCH FOLDER
set -eu
program=$1 os=$2 arch=$3 folder=$4
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install -m 755 "$program" "$work/kubectl-golive"
install -m 644 "$root/LICENSE" "$work/LICENSE"
mkdir -p "$folder"
epoch=${SOURCE_DATE_EPOCH:-0}
# In the order of names, owned by nobody in particular, at the time of the commit.
find "$work" -exec touch -h -d "@$epoch" {} + 2>/dev/null ||
  find "$work" -exec touch -h -t "$(date -u -r "$epoch" +%Y%m%d%H%M.%S)" {} +
tar_flags="--format=ustar"
if tar --version 2>/dev/null | grep -q GNU; then
  tar_flags="$tar_flags --owner=0 --group=0 --numeric-owner"
else
  tar_flags="$tar_flags --uid 0 --gid 0 --uname= --gname="
fi
# shellcheck disable=SC2086
(cd "$work" && tar $tar_flags -cf - LICENSE kubectl-golive) | gzip -n >"$folder/kubectl-golive_${os}_$arch.tar.gz"
