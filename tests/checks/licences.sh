#!/bin/sh
# Every dependency has a licence that is accepted here, and none is a second implementation of TLS:
# one provider (ring) in the whole program. The same rules as .deny.toml, for machines without
# cargo-deny.
set -eu
cd "$(dirname "$0")"

found=$(cargo tree --workspace --prefix none --locked --format '{p}	{l}' |
  sed 's/ (\*)$//; s/ (proc-macro)//; s/ ([^)]*)	/	/; /^\t*$/d' | sort -u)
bad=$(printf '%s\n' "$found" | awk -F '	' '
  NR == FNR { if ($0 !~ /^#/ && $0 != "") accepted[$0]; next }
  !($2 in accepted) { print "  " $1 ": " ($2 == "" ? "no licence" : $2) }
' licences.txt -)
if [ -n "$bad" ]; then
  echo "licences that tests/checks/licences.txt does not accept:" >&2
  echo "$bad" >&2
  exit 1
fi
banned=$(printf '%s\n' "$found" | grep -E '^(openssl|openssl-sys|native-tls|aws-lc-rs|aws-lc-sys|boring) ' || true)
if [ -n "$banned" ]; then
  echo "banned: TLS comes from rustls with ring, and from nothing else:" >&2
  echo "$banned" >&2
  echo "find who asks for it: cargo tree --workspace -i NAME" >&2
  exit 1
fi
echo "licences: $(printf '%s\n' "$found" | wc -l) packages, all accepted"
