/*
 * test_static_dlopen.c: a program without any shared library, hakmem's archive in it, can still
 * load one.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    free(malloc(100));
    if (dlopen("libm.so.6", RTLD_NOW | RTLD_DEEPBIND) != NULL)
        return 0;
    fprintf(stderr, "dlopen: %s\n", dlerror());
    return 1;
}
