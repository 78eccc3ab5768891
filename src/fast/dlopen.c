/*
 * dlopen.c: a library that is loaded with RTLD_DEEPBIND must find hakmem, too.
 *
 * RTLD_DEEPBIND lets a library find the C library's malloc and free before those that are preloaded
 * or linked. What it allocates is recognised later (foreign.c); but what the program allocated and
 * such a library frees goes to the C library's free, which crashes: PHP's extensions do so as they
 * are loaded, under any allocator. So the flag is taken off, unless HAKMEM_DEEPBIND is 1. What else
 * it was set for, a library's own copies of symbols that the program has, too, is lost; a program
 * that needs that needs the option.
 *
 * SYNCHRONIZATION: who publishes `real` (release) has written flags_off before; who finds it
 * (acquire) uses both. Others' constructors may call dlopen before those of hakmem run, and start
 * threads: whoever comes first looks both up, and all write the same.
 */
#include "../global/base.h"
#include "options.h"

#include <dlfcn.h>

typedef void *(*dlopen_function)(const char *file, int mode);

/* In a static program there is no next dlopen to ask for; there glibc's archive has it under this
 * name, too. */
extern void *___dlopen(const char *file, int mode) __attribute__((weak));

static _Atomic(dlopen_function) real; /* atomic: NULL until found */
static _Atomic(int) flags_off;        /* atomic, relaxed: constant once `real` is set */

static HAK_COLD dlopen_function find_real(void)
{
    dlopen_function found = ___dlopen;
    bool keep = option_number("HAKMEM_DEEPBIND", 0, 1) == 1;
    if (found == NULL)
        *(void **)&found = dlsym(RTLD_NEXT, "dlopen");
    atomic_store_explicit(&flags_off, keep ? 0 : RTLD_DEEPBIND, memory_order_relaxed);
    atomic_store_explicit(&real, found, memory_order_release);
    return found;
}

/* A wrong value of the option is told at start, as those of the others are. */
__attribute__((constructor)) static void find_early(void)
{
    if (atomic_load_explicit(&real, memory_order_relaxed) == NULL)
        find_real();
}

/* A tail call: the loader asks by the return address whose RUNPATH and $ORIGIN count. */
__attribute__((visibility("default"))) void *dlopen(const char *file, int mode)
{
    dlopen_function next = atomic_load_explicit(&real, memory_order_acquire);
    if (HAK_UNLIKELY(next == NULL))
        next = find_real();
    mode &= ~atomic_load_explicit(&flags_off, memory_order_relaxed);
    return HAK_LIKELY(next != NULL) ? next(file, mode) : NULL;
}
