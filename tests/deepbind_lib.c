/*
 * deepbind_lib.c: a library that, loaded with RTLD_DEEPBIND, allocates from the C library although
 * hakmem is preloaded.
 */
#include <stdlib.h>

void *deepbind_malloc(size_t n)
{
    return malloc(n);
}

void deepbind_free(void *p)
{
    free(p);
}
