#!/usr/bin/env bash
# cmake: configures this project.
. "$(dirname "$0")/common.sh"
need cmake
hak cmake -S "$2" -B build -DCMAKE_BUILD_TYPE=Release >log.txt 2>&1 || fail "$(tail -5 log.txt)"
grep -q 'Build files have been written' log.txt || fail 'no build files'
[ -s build/CMakeCache.txt ] || fail 'no cache'
