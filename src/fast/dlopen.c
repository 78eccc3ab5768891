/*
 * dlopen.c: a library that is loaded with RTLD_DEEPBIND must find hakmem, too.
 *
 * RTLD_DEEPBIND lets a library find the C library's malloc and free before those that are preloaded or linked. What it
 * allocates is recognised later (foreign.c); but what the program allocated and such a library frees goes to the C
 * library's free, which crashes: PHP's extensions do so as they are loaded, under any allocator. So the flag is taken
 * off, unless HAKMEM_DEEPBIND is 1. What else it was set for, a library's own copies of symbols that the program has,
 * too, is lost; a program that needs that needs the option.
 *
 * SYNCHRONIZATION: `real` is atomic, and whoever writes it writes the same.
 */
#include "../global/base.h"
#include "options.h"

#include <dlfcn.h>

typedef void *(*dlopen_function)(const char *file, int mode);

static _Atomic(dlopen_function) real; /* atomic, relaxed */
static int flags_off = RTLD_DEEPBIND; /* constant once constructors have run */

__attribute__((constructor)) static void read_options(void)
{
    if (option_number("HAKMEM_DEEPBIND", 0, 1) == 1)
        flags_off = 0;
}

static HAK_COLD dlopen_function find_real(void)
{
    dlopen_function found = NULL;
    *(void **)&found = dlsym(RTLD_NEXT, "dlopen");
    atomic_store_explicit(&real, found, memory_order_relaxed);
    return found;
}

/* A tail call: the loader asks by the return address whose RUNPATH and $ORIGIN count. */
__attribute__((visibility("default"))) void *dlopen(const char *file, int mode)
{
    dlopen_function next = atomic_load_explicit(&real, memory_order_relaxed);
    if (HAK_UNLIKELY(next == NULL))
        next = find_real();
    return HAK_LIKELY(next != NULL) ? next(file, mode & ~flags_off) : NULL;
}
