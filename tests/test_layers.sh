#!/usr/bin/env bash
# The folders are a DAG, include <- src/global <- src/remote <- src/fast; system calls are in os.c; src has
# no conditional compilation, but for the headers' guards.
#
#     test_layers.sh SOURCE_ROOT
set -euo pipefail
cd "$1"
failed=0

# what must not be found: message, then grep's arguments
forbid() {
    local message=$1
    shift
    if grep -nE "$@" >&2; then
        echo "$message" >&2
        failed=1
    fi
}

forbid 'src/global includes upward' '#include "(\.\./)?(remote|fast)/' src/global/*.[ch]
forbid 'src/remote includes upward' '#include "(\.\./)?fast/' src/remote/*.[ch]
forbid 'stress, tests or bench reach into src/fast' '#include "(\.\./)*src/' stress/*.[ch]
forbid 'a system call outside of os.c' \
    '\b(mmap|munmap|mremap|mincore|getrusage|madvise|syscall|sysconf|clock_gettime|membarrier)\(' \
    $(ls src/*/*.c | grep -v 'global/os.c')
forbid 'conditional compilation in src' '^[[:space:]]*#[[:space:]]*(if|ifdef|else|elif)\b' \
    $(find src -name '*.[ch]')
forbid 'conditional compilation in src' '^[[:space:]]*#[[:space:]]*ifndef\b' $(find src -name '*.c')
exit $failed
