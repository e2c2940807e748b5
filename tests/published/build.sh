#!/bin/sh
# Builds bin/published, the program with Helm, kstatus, and the interpreters of Flux and Argo CD.
set -eu
cd "$(dirname "$0")"
go build -buildvcs=false -ldflags "-s -w" -o bin/published .
