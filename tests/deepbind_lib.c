/*
 * deepbind_lib.c: a library that, loaded with RTLD_DEEPBIND, would allocate from the C library
 * although hakmem is preloaded, and that loads others.
 */
#include <dlfcn.h>
#include <stdlib.h>

void *deepbind_malloc(size_t n)
{
    return malloc(n);
}

void deepbind_free(void *p)
{
    free(p);
}

/* Not a tail call: the loader must see this library as the caller. */
void *deepbind_dlopen(const char *file)
{
    void *volatile loaded = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    return loaded;
}
