#!/usr/bin/env bash
# sort: two million lines, by four threads.
. "$(dirname "$0")/common.sh"
need sort perl
perl -e 'srand(7); printf "%08x line %d\n", rand(4294967296), $_ for 1..2000000' >lines
LC_ALL=C sort lines >expected
LC_ALL=C hak sort --parallel=4 -S 200M lines >sorted
cmp expected sorted || fail 'sort --parallel=4 sorts otherwise'
LC_ALL=C hak sort --parallel=4 -S 8M -T . lines >sorted
cmp expected sorted || fail 'sort with merges sorts otherwise'
