/*
 * foreign.c: see foreign.h. glibc's allocator has names of its own for free and realloc; for the
 * usable size there is only the next definition in the loader's order.
 *
 * SYNCHRONIZATION: none.
 */
#include "foreign.h"
#include "../global/os.h"

#include <dlfcn.h>

extern void __libc_free(void *p) __attribute__((weak));
extern void *__libc_realloc(void *p, size_t size) __attribute__((weak));

static _Noreturn void nobodys(const char *what, const void *p)
{
    os_die("%s(%p): the block is neither hakmem's nor the C library's; aborting", what, p);
}

void foreign_free(void *p)
{
    if (__libc_free == NULL)
        nobodys("free", p);
    __libc_free(p);
}

void *foreign_realloc(void *p, size_t size)
{
    if (__libc_realloc == NULL)
        nobodys("realloc", p);
    return __libc_realloc(p, size);
}

size_t foreign_usable_size(const void *p)
{
    size_t (*next)(const void *) = NULL;
    *(void **)&next = dlsym(RTLD_NEXT, "malloc_usable_size");
    if (next == NULL)
        nobodys("malloc_usable_size", p);
    return next(p);
}
