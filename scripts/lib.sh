# Starting and stopping nodes, for the scripts beside this file. Sourced by bash.
# shellcheck shell=bash

# Background programs in the order of starting: they are stopped in the opposite one.
pids=()
names=()
# The client in the foreground, if one is running.
client=

# free_ports N: prints the first of N consecutive ports that are free on loopback.
free_ports() {
    python3 - "$1" <<'PY'
import random, socket, sys

def free(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

count = int(sys.argv[1])
# below the ports that the kernel gives to outgoing connections
for _ in range(1000):
    first = random.randrange(15000, 32000 - count)
    if all(free(port) for port in range(first, first + count)):
        print(first)
        break
else:
    sys.exit("no free ports")
PY
}

# start NAME LOG COMMAND…: in a session of its own, so that Ctrl-C reaches it once, as our SIGTERM, and not twice.
start() {
    local name=$1 log=$2
    shift 2
    setsid "$@" </dev/null >"$log" 2>&1 &
    pids+=("$!")
    names+=("$name")
}

# wait_ready NAME LOG URL: until the URL answers, as long as the program started last by this name is alive.
wait_ready() {
    local name=$1 log=$2 url=$3 pid='' i
    for i in "${!names[@]}"; do
        [ "${names[i]}" != "$name" ] || pid=${pids[i]}
    done
    for ((i = 0; i < 600; i++)); do
        if curl -fs -o /dev/null --max-time 5 "$url"; then
            return 0
        fi
        if ! kill -0 "$pid" 2>/dev/null; then
            echo "$name ended before it was ready; its last words:" >&2
            tail -n 30 "$log" >&2
            return 1
        fi
        sleep 0.2
    done
    echo "$name is not ready: $url says" >&2
    curl -s --max-time 5 "$url" >&2 || true
    tail -n 30 "$log" >&2
    return 1
}

# attend COMMAND…: runs a client to its end, but lets signals through at once.
attend() {
    local status=0
    "$@" &
    client=$!
    wait "$client" || status=$?
    client=
    return "$status"
}

# conduct NAME COMMAND…: runs to its end a client that has programs of its own to stop: it gets our SIGTERM, and is waited for.
conduct() {
    local status=0
    setsid "${@:2}" </dev/null &
    pids+=("$!")
    names+=("$1")
    wait "${pids[-1]}" || status=$?
    unset 'pids[-1]' 'names[-1]'
    return "$status"
}

# stop_all: SIGTERM to everything that was started, last one first; what does not end is killed, which is an error.
stop_all() {
    local i n status=0
    [ -z "$client" ] || kill -TERM "$client" 2>/dev/null || true
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null || true
        for ((n = 0; n < 300; n++)); do
            kill -0 "${pids[i]}" 2>/dev/null || break
            sleep 0.1
        done
        if kill -0 "${pids[i]}" 2>/dev/null; then
            echo "${names[i]} did not stop within 30 s and was killed" >&2
            kill -KILL "${pids[i]}" 2>/dev/null || true
            status=1
        fi
        wait "${pids[i]}" 2>/dev/null || true
    done
    pids=()
    names=()
    return "$status"
}

# on_exit FUNCTION: calls it with the exit status at the end, however that comes, once everything has stopped.
on_exit() {
    local at_end=$1
    # shellcheck disable=SC2064 # the function's name is meant now
    trap "leave $at_end" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

leave() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    stop_all || { [ "$status" -ne 0 ] || status=1; }
    "$1" "$status"
    exit "$status"
}

# scratch_dir NAME: a new directory on a disk. Not in /tmp, which is memory on many machines.
scratch_dir() {
    mktemp -d "${TMPDIR:-/var/tmp}/$1.XXXXXX"
}

# bench_python: prints the path of a Python that has the libraries of benches/requirements.txt.
bench_python() {
    local venv=${XDG_CACHE_HOME:-$HOME/.cache}/quire/bench-venv
    # in $(…) a failure alone would not end the script
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" >&2 || return
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/requirements.txt >&2 || return
    echo "$venv/bin/python"
}

# keep_or_remove STATUS LOGS WORK: the end of a measurement. Says where the logs are when it failed; the data goes unless KEEP=1.
keep_or_remove() {
    if [ "$1" -ne 0 ]; then
        echo "failed (status $1); logs: $2/*.log" >&2
    fi
    if [ "${KEEP:-}" = 1 ]; then
        echo "data kept: $3"
    else
        rm -rf "$3"
    fi
}
