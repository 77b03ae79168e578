#!/usr/bin/env bash
# timed.sh NAME COMMAND…: runs the command and says how long it took, also in the file $PHASES when that is set.
set -uo pipefail

name=$1
shift
echo "== $name"
started=$SECONDS
"$@"
status=$?
took=$((SECONDS - started))
result=ok
[ "$status" -eq 0 ] || result=failed
if [ -n "${PHASES:-}" ]; then
    printf '%-8s %5d s  %s\n' "$name" "$took" "$result" >>"$PHASES"
fi
if [ "$name" != tests ]; then # of which the runner's own summary stays the last line
    echo "== $name: $result after $took s"
fi
exit "$status"
