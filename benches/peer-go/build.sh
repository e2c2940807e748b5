#!/bin/sh
# Builds bin/peer-go, the operator in Go that `make bench` compares with.
set -eu
cd "$(dirname "$0")"
go build -buildvcs=false -ldflags "-s -w" -o bin/peer-go .
