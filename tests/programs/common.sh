# shellcheck shell=bash
# common.sh: for the tests that run real programs under the preload. To be sourced.
#
#     SCRIPT LIBHAKMEM
#
# Each works in a folder of its own, which goes when it ends; servers listen on 127.0.0.1 only, and are
# stopped by their pid.
set -euo pipefail
library=$1
work=$(mktemp -d)
server=
stop_all() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap stop_all EXIT
cd "$work"

fail() {
    echo "FAILED: $1" >&2
    exit 1
}

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is not installed; run tools/setup"
    done
}

# Runs a command with hakmem.
hak() {
    env LD_PRELOAD="$library" "$@"
}

# Starts a command with hakmem, as the server that stop_all stops. Its output goes to server.log.
serve() {
    env LD_PRELOAD="$library" "$@" >server.log 2>&1 &
    server=$!
}

# Fails unless the process has hakmem in it.
uses_hakmem() {
    grep -q "$(basename "$library")" "/proc/$1/maps" || fail "process $1 runs without hakmem"
}

# Runs a command with hakmem and without; both must succeed and print the same.
same_with_and_without() {
    "$@" >without.txt 2>&1 || fail "$1 fails without hakmem too"
    hak "$@" >with.txt 2>&1 || fail "$1 fails with hakmem: $(tail -3 with.txt)"
    cmp -s without.txt with.txt || fail "$1 prints something else with hakmem: $(diff without.txt with.txt | head -5)"
    [ -s with.txt ] || fail "$1 printed nothing"
}

# wait_for COMMAND...: until it succeeds, 30 seconds at most.
wait_for() {
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    fail "waited 30 s in vain for: $*"
}

free_port() {
    /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
