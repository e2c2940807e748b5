#!/bin/sh
# Builds the control plane of one version of Kubernetes: build.sh 1.36
set -eu
version=$1
modfile=versions/$version.mod
if [ ! -f "$modfile" ]; then
  echo "there is no Kubernetes $version here: $(ls versions | sed -n 's/\.mod$//p' | paste -sd' ')" >&2
  exit 1
fi
full=$(go list -modfile="$modfile" -m -f '{{.Version}}' k8s.io/kubernetes)
package=k8s.io/component-base/version
go build -modfile="$modfile" -buildvcs=false -o "bin/$version/control-plane" -ldflags "-s -w \
  -X $package.gitVersion=$full -X $package.gitMajor=${version%%.*} -X $package.gitMinor=${version#*.}" .
