/*
 * test_plain_dlopen.c: libhakmem.so loads by plain dlopen, into a process that allocates from the C
 * library, and both work side by side.
 *
 *     test_plain_dlopen LIBHAKMEM
 */
#include "testing.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *library;
static void *(*hak_malloc)(size_t);
static void (*hak_free)(void *);

static void *work(void *argument)
{
    for (int i = 0; i < 10000; i++) {
        void *ours = hak_malloc((size_t)i), *theirs = malloc((size_t)i);
        memset(ours, 1, (size_t)i);
        memset(theirs, 1, (size_t)i);
        hak_free(ours);
        if (i % 2 != 0)
            hak_free(theirs); /* handed on to the C library */
        else
            free(theirs);
    }
    return argument;
}

static void test_loads_and_works(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (loaded == NULL)
            fail_msg("%s", dlerror());
        *(void **)&hak_malloc = dlsym(loaded, "hak_malloc");
        *(void **)&hak_free = dlsym(loaded, "hak_free");
        pthread_t thread[4];
        for (int k = 0; k < 4; k++)
            assert_int_equal(pthread_create(&thread[k], NULL, work, NULL), 0);
        for (int k = 0; k < 4; k++)
            pthread_join(thread[k], NULL);
        dlclose(loaded); /* it stays: a thread that ends later would run its code */
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    library = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loads_and_works)};
    return RUN_TESTS(tests);
}
