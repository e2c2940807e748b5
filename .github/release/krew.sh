#!/bin/sh
# Prints the manifest of the plugin for Krew, from the archives of a release: krew.sh VERSION FOLDER
# Source: kubernetes-sigs/krew, "Writing Krew plugin manifests".
set -eu
version=$1 folder=$2
cat <<END
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: golive
spec:
  version: v$version
  homepage: https://github.com/golive/golive
  shortDescription: See, approve and roll back what goes live on Fly.io
  description: |
    Shows where an Activation is on its way to live, what waits for whom and what to do next; plans,
    approvals, rollbacks, logs, and a linter that works offline.
  caveats: |
    Needs the operator Golive in the cluster, and the role activation-view to read.
  platforms:
END
found=0
for archive in "$folder"/kubectl-golive_*.tar.gz; do
  [ -f "$archive" ] || continue
  name=$(basename "$archive" .tar.gz)
  arch=${name##*_}
  os=${name#kubectl-golive_}
  os=${os%_*}
  if command -v sha256sum >/dev/null 2>&1; then
    sum=$(sha256sum "$archive")
  else
    sum=$(shasum -a 256 "$archive")
  fi
  cat <<END
  - selector:
      matchLabels:
        os: $os
        arch: $arch
    uri: https://github.com/golive/golive/releases/download/v$version/$name.tar.gz
    sha256: ${sum%% *}
    bin: kubectl-golive
    files:
    - {from: kubectl-golive, to: .}
    - {from: LICENSE, to: .}
END
  found=1
done
if [ "$found" = 0 ]; then
  echo "krew: there is no archive in $folder" >&2
  exit 1
fi
