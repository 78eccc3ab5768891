#!/usr/bin/env bash
# What libhakmem.so exports and imports. Exports: the whole interface, and nothing else. Imports: only
# what is on the list, each with its reason: no mutex, no futex, no condition, no once, nothing that waits.
#
#     test_symbols.sh LIBHAKMEM
set -euo pipefail
library=$1
failed=0

interface='malloc calloc realloc free reallocarray posix_memalign aligned_alloc memalign valloc pvalloc cfree
malloc_usable_size free_sized free_aligned_sized malloc_trim mallinfo mallinfo2 malloc_info malloc_stats mallopt'
loader='dlopen'
operators='_Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t
_ZnwmSt11align_val_t _ZnamSt11align_val_t
_ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t
_ZdlPv _ZdaPv _ZdlPvm _ZdaPvm _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t
_ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t
_ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t'
prefixed=$(for name in $interface; do [ "$name" = cfree ] || echo "hak_$name"; done)

expected=$(printf '%s\n' $interface $loader $operators $prefixed | sort)
exported=$(nm -D --defined-only "$library" | awk '{print $3}' | sort)
if ! diff <(echo "$expected") <(echo "$exported") >&2; then
    echo "exports: < is missing, > is too much" >&2
    failed=1
fi

# symbol                  why it may be there
allowed='
mmap                      os.c: memory; waits for the kernel
getrusage                 os.c: how much of the process ever held memory
mincore                   os.c: how much of a mapping holds memory
munmap                    os.c: memory; waits for the kernel
mremap                    os.c: whales that grow; waits for the kernel
madvise                   os.c: pages back; waits for the kernel
syscall                   os.c: membarrier; futex, which times out at once, to compare after a refused mremap; waits for the kernel
sysconf                   os.c: page size
clock_gettime             os.c: age of cached whales, by the vdso
write                     os.c: a line of diagnosis
vsnprintf                 os.c: a line of diagnosis
abort                     os.c: after a line of diagnosis
__errno_location          errno
memset                    calloc
memcpy                    realloc
pthread_key_create        thread.c: once a process, by a constructor; takes no lock
pthread_setspecific       thread.c: once a thread; takes no lock
__register_atfork         fork.c: by a constructor
dlsym                     cxx.c, foreign.c, dlopen.c: after operator new has failed; a foreign block; dlopen
___dlopen                 dlopen.c: weak, of a static glibc
__libc_free               foreign.c: blocks of the C library
__libc_realloc            foreign.c: blocks of the C library
_ZSt15get_new_handlerv    cxx.c: weak, after operator new has failed
_ZSt17__throw_bad_allocv  cxx.c: weak, after operator new has failed
environ                   options.c: by a constructor
__environ                 its other name
strlen                    options.c: by a constructor
strncmp                   options.c: by a constructor
strtol                    options.c: by a constructor
fprintf                   introspect.c: malloc_info
fwrite                    introspect.c: malloc_info
ferror                    introspect.c: malloc_info
urcu_bp_read_lock         rcu.c: statistics only
urcu_bp_read_unlock       rcu.c: statistics only
urcu_bp_reader            rcu.c: statistics only
urcu_bp_has_sys_membarrier rcu.c: a constant
urcu_bp_before_fork       fork.c
urcu_bp_after_fork_parent fork.c
urcu_bp_after_fork_child  fork.c
__tls_get_addr            rcu.c: urcu_bp_reader, statistics only
__cxa_finalize            the compiler: unloading
__gmon_start__            the compiler
_ITM_deregisterTMCloneTable the compiler
_ITM_registerTMCloneTable the compiler
__stack_chk_fail          the compiler
'
while read -r symbol; do
    if ! awk '{print $1}' <<<"$allowed" | grep -qx "$symbol"; then
        echo "imports: $symbol is not on the list" >&2
        failed=1
    fi
done < <(nm -D --undefined-only "$library" | awk '{print $2}' | sed 's/@.*//')

# liburcu's entry points are called by rcu.c alone, which malloc and free reach only to poll.
needed=$(readelf -d "$library" | awk '/NEEDED/ {gsub(/[][]/, "", $NF); print $NF}' | sort | tr '\n' ' ')
case $needed in
*libstdc++*) echo "a C program would need libstdc++: $needed" >&2; failed=1 ;;
esac

# dlopen must be left by a jump: the loader asks by the return address who called.
if ! objdump -d --no-show-raw-insn "$library" | awk '/<dlopen>:/, /^$/' | grep -q 'jmp .*[*]%r'; then
    echo "code: dlopen does not end in a tail call" >&2
    failed=1
fi

# A spin loop would have a pause in it, or an xchg in a loop of its own; there is no pause.
if objdump -d --no-show-raw-insn "$library" | grep -qw pause; then
    echo "code: there is a pause instruction, so somebody spins" >&2
    failed=1
fi
exit $failed
