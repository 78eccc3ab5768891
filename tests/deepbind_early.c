/*
 * deepbind_early.c: a library whose constructor runs before those of a preloaded hakmem, and loads
 * another with RTLD_DEEPBIND: that of which DEEPBIND_LIBRARY in the environment is the path.
 */
#include <dlfcn.h>
#include <stdlib.h>

void *deepbind_early_block; /* 100 bytes from the loaded library */

__attribute__((constructor)) static void load_early(void)
{
    const char *path = getenv("DEEPBIND_LIBRARY");
    void *loaded = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND) : NULL;
    void *(*make)(size_t) = NULL;
    if (loaded != NULL)
        *(void **)&make = dlsym(loaded, "deepbind_malloc");
    if (make != NULL)
        deepbind_early_block = make(100);
}
