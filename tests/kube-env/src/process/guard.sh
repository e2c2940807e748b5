# Runs one program and ends it when standard input ends, which is when whoever holds the other end
# of the pipe drops it or dies, by whatever signal.
#
# Arguments: SIGNAL (asks the program to end), GRACE (tenths of a second until it is killed),
# REMOVE (directory to remove afterwards, or empty), PROGRAM ARGUMENT...
signal=$1 grace=$2 remove=$3
shift 3

# A background command would read from /dev/null: keep the pipe as descriptor 3.
exec 3<&0 </dev/null

# A shell without job control starts background commands with SIGINT and SIGQUIT ignored, which
# programs inherit: undo that. And should this guard itself be killed, the kernel ends the program.
run='env --default-signal=INT,QUIT --'
if command -v setpriv >/dev/null 2>&1; then
  run="setpriv --pdeathsig KILL $run"
fi
$run "$@" 3<&- &
program=$!
trap 'kill -s "$signal" "$program" 2>/dev/null' TERM INT HUP

(
  trap - TERM INT HUP
  while read -r _ <&3; do :; done
  kill -s "$signal" "$program" 2>/dev/null
  while [ "$grace" -gt 0 ] && kill -0 "$program" 2>/dev/null; do
    sleep 0.1
    grace=$((grace - 1))
  done
  kill -s KILL "$program" 2>/dev/null
) 2>/dev/null &
watch=$!
exec 3<&-

# `wait` returns early when a trap has run.
while :; do
  wait "$program"
  code=$?
  kill -0 "$program" 2>/dev/null || break
done
kill "$watch" 2>/dev/null
if [ -n "$remove" ]; then
  rm -rf "$remove"
fi
exit "$code"
