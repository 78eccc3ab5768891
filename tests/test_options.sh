#!/usr/bin/env bash
# The environment variables: each acts, and a wrong value gets one clear line and the default.
#
#     test_options.sh LIBHAKMEM
set -euo pipefail
library=$1
fail() {
    echo "$1" >&2
    exit 1
}

run() {
    env "$@" LD_PRELOAD="$library" /bin/true 2>&1
}

[ -z "$(run HAKMEM_PURGE_KIB=0)" ] || fail 'a good value is not silent'
[ -z "$(run HAKMEM_WHALE_CACHE_KIB=0 HAKMEM_STATS=0)" ] || fail 'good values are not silent'
for bad in x -1 1.5 '' 99999999999999999999 12k; do
    said=$(run HAKMEM_PURGE_KIB="$bad")
    [ "$(wc -l <<<"$said")" = 1 ] || fail "'$bad': not one line: $said"
    [[ $said == "hakmem: HAKMEM_PURGE_KIB=$bad is not a whole number"*"using 8192" ]] ||
        fail "'$bad': not clear: $said"
done
[[ $(run HAKMEM_DEEPBIND=yes) == "hakmem: HAKMEM_DEEPBIND=yes "*"using 0" ]] || fail 'HAKMEM_DEEPBIND=yes was taken'
[[ $(run HAKMEM_HUGE_PAGES=3) == *"using 1" ]] || fail 'HAKMEM_HUGE_PAGES=3 was taken'
[[ $(run HAKMEM_STATS=2) == *"using 0" ]] || fail 'HAKMEM_STATS=2 was taken'
# not /bin/true, which closes its stderr before it ends
[[ $(env HAKMEM_STATS=1 LD_PRELOAD="$library" /bin/bash -c : 2>&1) == *"hakmem: segments: "* ]] ||
    fail "HAKMEM_STATS=1 prints nothing"

# More than one segment, since the first gets none; the flag is "hg". bash keeps the string in a block of its own.
advised() {
    env "$@" LD_PRELOAD="$library" /bin/bash -c 'x=$(printf %08000000d 0); exec 3</proc/self/smaps; while read -r -u 3 line; do
        [[ $line == VmFlags:*" hg"* ]] && echo yes && break; done; exit 0'
}
if [ -e /sys/kernel/mm/transparent_hugepage/enabled ]; then
    [ "$(advised HAKMEM_HUGE_PAGES=2)" = yes ] || fail 'HAKMEM_HUGE_PAGES=2 asks for none'
    [ -z "$(advised HAKMEM_HUGE_PAGES=0)" ] || fail 'HAKMEM_HUGE_PAGES=0 asks for some'
fi
